"""What did each arm of a study score, and how sure is that: means with standard errors.

A mean over k seeds carries two errors: the seeds' own, pooled variance / k (see `noise`), and that of the items, which
does not shrink with k because every seed answers the same items. The items' error comes in two kinds. The standard
error takes the benchmark's tasks as given: it is what a difference along a curve has to beat. `se_tasks` also counts
that other tasks might have been held out (clustered by task): all points of a panel share that luck. Intervals are
Student's, with the degrees of freedom of the seed variance by Welch–Satterthwaite, and symmetric in log-odds, so that
they end between all wrong and all right. Where nothing was repeated, the items' error is all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.noise import SeedNoise, log_odds, pool, slope
from analysis.runs import AVERAGE, SCORES

REPLICATES = ("seed", "draw")
NOT_ARMS = {*REPLICATES, *SCORES, "count", "cell", "run", "state", "failure", "tasks", "benchmark", "setting"}


@dataclass(frozen=True)
class Estimate:
    """A number in normalised points and its standard error; `df` is infinite where no seed was repeated."""

    value: float
    se: float
    df: float

    @property
    def half_width(self) -> float:
        """Half the 95 % interval."""
        return float(self.se * stats.t.ppf(0.975, self.df))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.value - self.half_width, self.value + self.half_width


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a size, with whatever else the study varies, trained with rationales or without."""

    model: str
    size: str
    cot: bool | None
    """None: the study does not vary it."""

    @property
    def arm(self) -> str:
        """The training arm in words."""
        return {None: "", True: "with CoT", False: "without CoT"}[self.cot]

    @property
    def label(self) -> str:
        """Size and arm in words."""
        return f"{self.size}, {self.arm}" if self.arm else self.size


@dataclass(frozen=True)
class Replicate:
    """One independent run of a curve at one count: a seed, or a draw of tasks with its seeds averaged."""

    curve: Curve
    count: int
    score: float
    stderr: float
    stderr_tasks: float
    n: float
    lower_bound: float
    normalized: float
    cells: tuple[str, ...]

    @property
    def scale(self) -> float:
        """Normalised points per point of the score."""
        return 100 / (100 - self.lower_bound)

    @property
    def item_variance(self) -> float:
        """Of the normalised score, the tasks taken as given; all wrong (or right) counts as one item away from it."""
        return self.scale**2 * (self.stderr**2 or 100 * slope(self.score, self.n) / self.n)

    @property
    def scored(self) -> bool:
        """Whether it has been evaluated."""
        return math.isfinite(self.normalized)


@dataclass(frozen=True)
class Mean:
    """The mean over the replicates of a curve at one count, with its variances in normalised points²."""

    curve: Curve
    count: int
    value: float
    seed_variance: float
    item_variance: float
    task_variance: float
    seed_df: int
    score: float
    n: float
    scale: float
    planned: int
    cells: tuple[str, ...]
    runs: tuple[Replicate, ...]

    @property
    def estimate(self) -> Estimate:
        """The mean and its standard error, for the benchmark as it is."""
        return combine(self.value, [(self.seed_variance, self.seed_df)], self.item_variance)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, symmetric in log-odds."""
        half = self.estimate.half_width / (self.scale * slope(self.score, self.n))
        odds = log_odds(self.score, self.n)
        low, high = (
            self.value + self.scale * (100 * float(special.expit(end)) - self.score)
            for end in (odds - half, odds + half)
        )
        return min(low, self.value), max(high, self.value)

    @property
    def se_tasks(self) -> float:
        """The standard error for tasks like the benchmark's; NaN where it was not logged."""
        return math.sqrt(self.seed_variance + self.task_variance)


def panels(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Benchmarks × settings that were measured, the normalized average last unless it repeats its only member."""
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in table.dropna(subset="normalized").to_dict("records"):
        scores.setdefault((row["benchmark"], row["setting"]), {})[row["cell"]] = row["normalized"]
    average = scores.pop(AVERAGE, None)
    return [*scores] if average is None or average in scores.values() else [*scores, AVERAGE]


def replicates(table: pd.DataFrame, benchmark: str, setting: str) -> list[Replicate]:
    """The independent runs of one panel, those without a score too (NaN)."""
    selected = table[(table["benchmark"] == benchmark) & (table["setting"] == setting)]
    unit = "draw" if selected["draw"].nunique() > 1 else "seed"
    varied = [arm for arm in table.columns if arm not in NOT_ARMS and table[arm].nunique(dropna=False) > 1]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in _records(selected.dropna(subset="count")):
        groups.setdefault((_curve(row, varied), int(row["count"]), str(row[unit])), []).append(row)
    out = []
    for (curve, count, _), rows in groups.items():
        scored = [row for row in rows if math.isfinite(row["normalized"])]
        numbers = {name: float(np.mean([row[name] for row in scored])) if scored else math.nan for name in SCORES}
        out.append(Replicate(curve, count, **numbers, cells=tuple(row["cell"] for row in scored or rows)))
    return out


def seed_noise(runs: Iterable[Replicate]) -> dict[Curve, SeedNoise]:
    """The variance between replicates of each curve; a curve with one degree of freedom or none borrows the panel's.

    Untouched checkpoints are left out: no training, no seed.
    """
    groups = {key: group for key, group in _grouped(runs).items() if key[1] > 0}
    cells = {key: ([run.score for run in group], group[0].n) for key, group in groups.items()}
    whole = pool(list(cells.values()))
    own = {
        curve: pool([cell for key, cell in cells.items() if key[0] == curve])
        for curve in {run.curve: None for run in runs}
    }
    return {curve: noise if noise.df > 1 else whole for curve, noise in own.items()}


def means(runs: Sequence[Replicate], noise: Mapping[Curve, SeedNoise]) -> list[Mean]:
    """A mean per curve × count that has a score, in normalised points."""
    planned = {key: len(group) for key, group in _grouped(runs, scored=False).items()}
    return [_mean(group, noise[key[0]], planned[key]) for key, group in _grouped(runs).items()]


def combine(value: float, seeds: Sequence[tuple[float, int]], item_variance: float) -> Estimate:
    """An estimate from its variances (points²): those between seeds with their degrees of freedom, and the items'.

    The items' variance rests on so many of them that it counts as known.
    """
    total = item_variance + sum(variance for variance, _ in seeds)
    uncertain = sum(variance**2 / df for variance, df in seeds if variance > 0)
    return Estimate(value, math.sqrt(total), total**2 / uncertain if uncertain > 0 else math.inf)


def _mean(group: Sequence[Replicate], noise: SeedNoise, planned: int) -> Mean:
    first, k = group[0], len(group)
    score = float(np.mean([run.score for run in group]))
    one_model = first.count == 0 and len({run.score for run in group}) == 1  # the same checkpoint whatever the seed
    return Mean(
        curve=first.curve,
        count=first.count,
        value=float(np.mean([run.normalized for run in group])),
        seed_variance=0.0 if one_model else first.scale**2 * noise.variance(score, first.n) / k,
        item_variance=float(np.mean([run.item_variance for run in group])),
        task_variance=first.scale**2 * float(np.mean([run.stderr_tasks**2 for run in group])),
        seed_df=noise.df,
        score=score,
        n=first.n,
        scale=first.scale,
        planned=planned,
        cells=tuple(cell for run in group for cell in run.cells),
        runs=tuple(group),
    )


def _grouped(runs: Iterable[Replicate], scored: bool = True) -> dict[tuple[Curve, int], list[Replicate]]:
    groups: dict[tuple[Curve, int], list[Replicate]] = {}
    for run in runs:
        if run.scored or not scored:
            groups.setdefault((run.curve, run.count), []).append(run)
    return groups


def _curve(row: Mapping[str, Any], varied: Sequence[str]) -> Curve:
    others = [f"{arm} {row[arm]}" for arm in varied if arm not in ("model", "cot")]
    return Curve(
        str(row["model"]), " · ".join([str(row["model"]), *others]), bool(row["cot"]) if "cot" in varied else None
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
