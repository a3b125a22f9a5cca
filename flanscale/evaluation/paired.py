"""Which of two models is better, item by item? And how many items would tell?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from flanscale.errors import ConfigError
from flanscale.evaluation.aggregate import mean_of, scored
from flanscale.evaluation.estimate import Estimate
from flanscale.evaluation.records import Record


@dataclass(frozen=True)
class Difference:
    """The first model's score less the second's, on the items that both were scored on; points."""

    paired: Estimate
    unpaired_stderr: float
    """What the standard error would be if each had answered items of its own."""
    variance: Mapping[str, float]
    """Of an item's difference, by subtask, in points²; NaN where there is one item."""
    design_effect: float
    """How many times the variance that it would have if no items erred together; NaN where that is nought."""
    unshared: int
    """Items of one model alone, which are left out."""


@dataclass(frozen=True)
class Needed:
    """How many items tell a difference of a given size apart from none."""

    formula: int
    """n = (z₁₋α/₂ + z₁₋β)² · variance / difference², split evenly, however many there are."""
    by_subtask: Mapping[str, int]
    """The same number of each, but at most those there are; all of them where that is not enough."""
    enough: bool
    detectable: float
    """The smallest difference, in points, that all items there are would tell."""

    @property
    def total(self) -> int:
        return sum(self.by_subtask.values())


def difference(ones: Sequence[Record], others: Sequence[Record], metric: str, named: str) -> Difference:
    """Of two models in one benchmark and setting, which `named` says.

    Raises:
        ConfigError: an item was asked in different prompts, or none is shared.
    """
    words = {record.key: record.prompt_hash for record in scored(others, metric, named)}
    changed = [
        record.key
        for record in scored(ones, metric, named)
        if words.get(record.key, record.prompt_hash) != record.prompt_hash
    ]
    if changed:
        raise ConfigError(
            f"{named}: the two models were asked {len(changed)} items in different prompts, the first of them"
            f" {changed[0]!r}, so they cannot be compared; evaluate both with one version of the benchmark and as many"
            " shots as both have room for"
        )
    return difference_of_answers(ones, others, metric, named)


def difference_of_answers(ones: Sequence[Record], others: Sequence[Record], metric: str, named: str) -> Difference:
    """The same, whatever the items were asked in: for one model in two settings.

    Raises:
        ConfigError: no item is shared.
    """
    first, second = scored(ones, metric, named), scored(others, metric, named)
    points = {record.key: record.scores[metric] for record in second}
    shared = [record for record in first if record.key in points]
    if not shared:
        raise ConfigError(f"{named}: the two models were not scored on any item in common")
    mine = [record.scores[metric] for record in shared]
    theirs = [points[record.key] for record in shared]
    apart = [one - other for one, other in zip(mine, theirs, strict=True)]
    paired = mean_of(shared, apart)
    by_subtask: dict[str, list[float]] = {}
    for record, value in zip(shared, apart, strict=True):
        by_subtask.setdefault(record.subtask, []).append(value)
    variance = {name: _variance(values) for name, values in by_subtask.items()}
    alone = sum(variance[name] / len(values) for name, values in by_subtask.items() if len(values) > 1)
    alone /= len(by_subtask) ** 2
    return Difference(
        paired,
        unpaired_stderr=math.hypot(mean_of(shared, mine).stderr, mean_of(shared, theirs).stderr),
        variance=variance,
        design_effect=paired.stderr**2 / alone if alone > 0 else math.nan,
        unshared=len(first) + len(second) - 2 * len(shared),
    )


def items_needed(
    pilot: Difference, available: Mapping[str, int], points: float, *, alpha: float = 0.05, power: float = 0.8
) -> Needed:
    """How many items tell two models apart that differ by so many points, judged by the items of a pilot.

    An equal number k of each of T subtasks gives the variance deff · Σ s_t² / min(k, items there are) / T². The
    design effect of clusters is the pilot's, at least 1; it is too large where fewer items share a cluster.

    Args:
        available: items by subtask; those of the pilot.

    Raises:
        ConfigError: no difference to tell, or the pilot says nothing about the spread.
    """
    if not points > 0:
        raise ConfigError(f"a difference to detect is a positive number of points, not {points:g}")
    if set(available) != set(pilot.variance):
        other = sorted(set(available) ^ set(pilot.variance))
        raise ConfigError(f"the pilot must have the subtasks that are to be asked; one of them has no {other[0]!r}")
    known = [variance for variance in pilot.variance.values() if not math.isnan(variance)]
    if not any(known):
        raise ConfigError(
            f"the pilot's {pilot.paired.n} shared items say nothing about how differently two models answer; take two"
            " models that differ, and at least two items of a subtask"
        )
    mean = sum(known) / len(known)
    effect = max(1.0, pilot.design_effect)
    variance_T = effect * np.array([mean if math.isnan(one) else one for one in pilot.variance.values()])
    count_T = np.array([available[name] for name in pilot.variance])
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)

    def told(each: int) -> float:
        return float(z * np.sqrt((variance_T / np.minimum(each, count_T)).sum()) / len(count_T))

    most = int(count_T.max())
    each = next((each for each in range(1, most + 1) if told(each) <= points), most)
    return Needed(
        formula=math.ceil(z**2 * float(variance_T.mean()) / points**2),
        by_subtask={name: min(each, available[name]) for name in pilot.variance},
        enough=told(most) <= points,
        detectable=told(most),
    )


def _variance(values: Sequence[float]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else math.nan
