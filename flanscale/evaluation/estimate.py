"""What is the mean of subtasks' means, and how far off may it be? Items of a cluster err together.

The mean over T subtasks of the mean over their items moves by (x − mean of t) / (T n_t) with an item x of subtask t,
which has n_t of them: its influence. Items of one cluster (the translations of one problem, the questions about one
passage) are not independent, so their influences are added up before they are squared:

    variance = Σ over clusters (Σ over the cluster's items √(G_t / (G_t − 1)) · (x − mean of t) / (T n_t))²

with G_t clusters in subtask t. Where every item is alone, this is the variance of a stratified sample, Σ s_t²/n_t / T²
with s_t² over n_t − 1; where clusters lie inside subtasks, that of a stratified sample of clusters; where they cross
subtasks, the covariances of the subtasks' means are in it. It is the clustered standard error of Miller 2024
(arXiv:2411.00640), there for a plain mean. The subtasks are taken as given. The influences of estimates from the
same items add up too: so does the error of a sum or a difference of them follow.

N items · T subtasks · G clusters
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)

FEW = 100
"""Below so many items the interval of a share is Wilson's."""


@dataclass(frozen=True)
class Estimate:
    """A mean of subtasks' means, and its standard errors, in the unit of the items' values."""

    value: float
    stderr: float
    """With the subtasks taken as given."""
    stderr_tasks: float
    """If the subtasks were drawn from many: from the spread of their means. NaN where there is one."""
    n: int
    effective: float
    """How many independent items of equal weight would weigh as the clusters do (Kish): at most the clusters."""
    binary: bool
    """Every value is 0 or 100: an item is wrong or right."""
    means: Mapping[str, float]
    """By subtask."""
    influence: Mapping[Hashable, float] = field(repr=False)
    """By cluster, as above; the sum of their squares is that of `stderr`."""


def macro_mean(
    values: Sequence[float], subtasks: Sequence[str], clusters: Sequence[Hashable], *, binary: bool = False
) -> Estimate:
    """The estimate from one value, one subtask and one cluster an item; there is at least one item.

    A subtask with a single cluster tells nothing about its spread. Several of them are taken for one stratum (Cochran
    1977, section 5A.12: collapsed strata, which errs on the safe side); a single one adds none.
    """
    task_of, group_of = _numbered(subtasks), _numbered(clusters)
    task_N = np.array([task_of[name] for name in subtasks])
    group_N = np.array([group_of[name] for name in clusters])
    value_N = np.array(values, np.float64)
    count_T = np.bincount(task_N)
    mean_T = np.bincount(task_N, value_N) / count_T
    tasks = len(count_T)
    groups_T = np.bincount(np.unique(np.stack([task_N, group_N]), axis=1)[0])
    alone_T = groups_T == 1
    spread_T = np.where(alone_T & (alone_T.sum() > 1), alone_T.sum(), groups_T)
    stretch_T = np.sqrt(spread_T / np.maximum(spread_T - 1, 1))
    centre_T = np.where(alone_T, mean_T[alone_T].mean() if alone_T.any() else 0.0, mean_T)
    weight_N = 1 / (tasks * count_T[task_N])
    influence_G = np.bincount(group_N, (value_N - centre_T[task_N]) * weight_N * stretch_T[task_N])
    return Estimate(
        value=float(mean_T.mean()),
        stderr=_root_of_squares(influence_G.tolist()),
        stderr_tasks=float(mean_T.std(ddof=1) / np.sqrt(tasks)) if tasks > 1 else math.nan,
        n=len(value_N),
        effective=float(1 / np.square(np.bincount(group_N, weight_N)).sum()),
        binary=binary,
        means=dict(zip(task_of, mean_T.tolist(), strict=True)),
        influence=dict(zip(group_of, influence_G.tolist(), strict=True)),
    )


def combined_stderr(parts: Iterable[tuple[float, Mapping[Hashable, float]]]) -> float:
    """The standard error of a weighted sum of estimates, from the weight and the influences of each.

    Clusters of the same name are the same items, asked twice.
    """
    total: dict[Hashable, float] = {}
    for weight, influence in parts:
        for cluster, moved in influence.items():
            total[cluster] = total.get(cluster, 0.0) + weight * moved
    return _root_of_squares(total.values())


def interval(estimate: Estimate, level: float = 0.95) -> tuple[float, float]:
    """Two-sided; normal, but Wilson's for shares of fewer than `FEW` effective items, or where all agree.

    Wilson's counts as many items as would give the standard error if they were independent, at most those asked (as
    Korn and Graubard 1998 do).
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    if not estimate.binary:
        return estimate.value - z * estimate.stderr, estimate.value + z * estimate.stderr
    share, error = estimate.value / 100, estimate.stderr / 100
    agree = error < 1e-9
    if round(estimate.effective, 6) >= FEW and not agree:
        return max(0.0, 100 * (share - z * error)), min(100.0, 100 * (share + z * error))
    n = estimate.effective if agree else min(share * (1 - share) / error**2 + 1, estimate.n)
    low, high = wilson(share, n, level)
    return 100 * low, 100 * high


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share, 0…1, of n independent trials, which need be no whole number (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _numbered(names: Iterable[Name]) -> dict[Name, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _root_of_squares(influences: Iterable[float]) -> float:
    return math.sqrt(math.fsum(moved * moved for moved in influences))
