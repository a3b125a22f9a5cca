"""What did each arm of a study score, and how sure is that: means with standard errors.

The standard error of a mean over k seeds is that between seeds, pooled (see `noise`) and divided by √k, for the
benchmark as it is: the scatter between seeds holds the luck of the items already. `se_tasks` is what is left open if
other tasks of the kind had been held out: all points of a panel share that luck. Intervals are Student's with the
seeds' degrees of freedom, and symmetric in log-odds, so that they end between all wrong and all right. Where no seed
was repeated, and nobody states how far seeds scatter, there is no interval: the items' error alone holds the truth
three times in four, not nineteen in twenty. An untouched checkpoint has no seed: its error is that of the items.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.noise import UNKNOWN, SeedNoise, log_odds, pool, pool_losses, slope
from analysis.scores import AVERAGE, HIGHER_IS_BETTER, SCORES

LEVEL = 0.05
"""What is no rarer than this without an effect is no effect."""
BORROWED = 4
"""Degrees of freedom that the scatter of the other curves of a panel is worth to a curve, at most half of theirs."""
REPLICATES = ("seed", "draw")
_ABOUT = {"count", "cell", "run", "state", "failure", "tasks", "benchmark", "setting"}
NOT_ARMS = {*REPLICATES, *SCORES, HIGHER_IS_BETTER, *_ABOUT}


@dataclass(frozen=True)
class Unit:
    """What scores are counted in, and how they are written."""

    name: str
    of: str
    """Behind a number in a sentence."""
    digits: int
    """Behind the decimal point."""


POINTS = Unit("normalised points", "points", 1)
LOSS = Unit("loss", "of loss", 3)
"""Whatever was logged: the analysis does not know whether it is in nats, bits or bytes."""


@dataclass(frozen=True)
class Estimate:
    """A number in normalised points, its standard error and the degrees of freedom of that.

    On none, `se` is that of the items, and nothing is known of other seeds.
    """

    value: float
    se: float
    df: float

    @property
    def half_width(self) -> float:
        """Half the 95 % interval; NaN where there is none."""
        return float(self.se * special.stdtrit(self.df, 0.975)) if self.df > 0 else math.nan

    @property
    def half_width_90(self) -> float:
        """Half the 90 % interval, which two one-sided tests at 5 % hold against a margin; NaN where there is none."""
        return float(self.se * special.stdtrit(self.df, 0.95)) if self.df > 0 else math.nan

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval; None where the scatter between seeds is not known."""
        return (self.value - self.half_width, self.value + self.half_width) if self.df > 0 else None

    @property
    def p(self) -> float | None:
        """Two-sided p of no difference; None where there is no interval."""
        if not self.df > 0:
            return None
        return float(2 * special.stdtr(self.df, -abs(self.value) / self.se)) if self.se > 0 else float(self.value == 0)


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a size, with whatever else the study varies, trained with rationales or without."""

    model: str
    cot: bool | None = None
    """None: the study does not vary it."""
    others: tuple[tuple[str, str], ...] = ()
    """Every other axis with its level."""

    @property
    def size(self) -> str:
        """The model, with the levels of the other axes."""
        return " · ".join([self.model, *(f"{axis} {level}" for axis, level in self.others)])

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
    """One independent run of a curve at one count: a seed, or a draw of tasks with its seeds averaged.

    Of losses, all numbers are in their unit.
    """

    curve: Curve
    count: int
    score: float
    stderr: float
    stderr_tasks: float
    n: float
    lower_bound: float
    normalized: float
    cells: tuple[str, ...]
    falls: bool = False
    """Whether it is a loss, the better the lower."""

    @property
    def scale(self) -> float:
        """Normalised points per point of the score."""
        return 100 / (100 - self.lower_bound)

    @property
    def item_variance(self) -> float:
        """Of the normalised score, in points², the tasks as given; all wrong (or right) is one item away from it."""
        if self.falls:
            return self.stderr**2
        return self.scale**2 * (self.stderr**2 or 100 * slope(self.score, self.n) / self.n)

    @property
    def scored(self) -> bool:
        """Whether it has been evaluated."""
        return math.isfinite(self.normalized)


@dataclass(frozen=True)
class Mean:
    """The mean over the replicates of a curve at one count, with its variances in normalised points².

    `seed_variance` is of the mean, by `noise`, and NaN where that is not known; the others are of a single run.
    """

    curve: Curve
    count: int
    value: float
    seed_variance: float
    item_variance: float
    task_variance: float
    noise: SeedNoise
    score: float
    n: float
    scale: float
    planned: int
    cells: tuple[str, ...]
    runs: tuple[Replicate, ...]

    @property
    def falls(self) -> bool:
        """Whether it is that of losses."""
        return any(run.falls for run in self.runs)

    @property
    def untouched(self) -> bool:
        """Whether it is a checkpoint that was not trained: without a seed."""
        return self.count == 0 and self.seed_variance == 0

    @property
    def estimate(self) -> Estimate:
        """The mean and its standard error in normalised points, for the benchmark as it is."""
        if self.untouched:
            return Estimate(self.value, math.sqrt(self.item_variance), math.inf)
        return combine(self.value, [(self.seed_variance, self.noise.df)], self.item_variance)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval, symmetric in log-odds; None where the scatter between seeds is not known.

        That of a loss is symmetric in its logarithm.
        """
        if self.estimate.interval is None:
            return None
        if self.falls:
            factor = math.exp(self.estimate.half_width / self.value) if self.value > 0 else 1.0
            return self.value / factor, self.value * factor
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
        return math.sqrt(np.nansum([self.seed_variance, self.task_variance])) if self.task_variance >= 0 else math.nan


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
        cells = tuple(row["cell"] for row in scored or rows)
        out.append(Replicate(curve, count, **numbers, cells=cells, falls=any(map(_is_loss, scored))))
    return out


def seed_noise(runs: Iterable[Replicate], otherwise: SeedNoise = UNKNOWN) -> dict[Curve, SeedNoise]:
    """The variance between replicates of each curve, to which the other curves add up to `BORROWED` degrees of freedom.

    Untouched checkpoints are left out: no training, no seed. Where the whole panel has fewer than that, it is what
    `otherwise` says.
    """
    runs = list(runs)
    groups = {key: group for key, group in _grouped(runs).items() if key[1] > 0}
    cells = {key: ([run.score for run in group], group[0].n) for key, group in groups.items()}
    frees = {key: len(scores) - 1 for key, (scores, _) in cells.items()}
    if otherwise.known and not any(run.falls for run in runs) and sum(frees.values()) < BORROWED:
        return dict.fromkeys((run.curve for run in runs), otherwise)
    found = {}
    for curve in dict.fromkeys(run.curve for run in runs):
        others = sum(free for (each, _), free in frees.items() if each != curve)
        weight = min(0.5, BORROWED / others) if others else 0.0
        found[curve] = _pool(list(groups.values()), [1.0 if each == curve else weight for each, _ in cells])
    return found


def pooled_noise(runs: Iterable[Replicate]) -> SeedNoise:
    """The variance between replicates over all trained cells."""
    return _pool([group for key, group in _grouped(runs).items() if key[1] > 0])


def outliers(runs: Sequence[Replicate]) -> list[tuple[Replicate, float]]:
    """Runs that no scatter like that of the other cells explains, and by how many standard deviations they are off.

    Judged in log-odds against the other runs of the cell, with the scatter of all other cells, by Bonferroni's rule at
    1 %. Of two runs alone, the one is told that is further from the rest of its curve. Losses have no log-odds.
    """
    groups = {
        key: group for key, group in _grouped(runs).items() if key[1] > 0 and len(group) > 1 and not group[0].falls
    }
    number, out = sum(len(group) for group in groups.values()), []
    for key, group in groups.items():
        rest = _pool([own for other, own in groups.items() if other != key])
        if rest.df < 2:
            continue
        for run in group:
            others = float(np.mean([other.score for other in group if other is not run]))
            spread = (
                math.sqrt(rest.variance(others, run.n))
                / slope(others, run.n)
                * math.sqrt(len(group) / (len(group) - 1))
            )
            away = abs(log_odds(run.score, run.n) - log_odds(others, run.n)) / spread
            unlikely = 2 * special.stdtr(rest.df, -away) * number < 0.01
            if unlikely and not (len(group) == 2 and _nearer(run, group, runs)):
                out.append((run, away))
    return out


def _nearer(run: Replicate, pair: Sequence[Replicate], runs: Sequence[Replicate]) -> bool:
    """Whether it is the one of two that is nearer to the other runs of their curve."""
    curve = [
        other.score for other in runs if other.curve == run.curve and other.count not in (0, run.count) and other.scored
    ]
    middle = float(np.median(curve)) if curve else math.nan
    return abs(run.score - middle) == min(abs(other.score - middle) for other in pair)


def means(runs: Sequence[Replicate], noise: Mapping[Curve, SeedNoise]) -> list[Mean]:
    """A mean per curve × count that has a score, in normalised points."""
    planned = {key: len(group) for key, group in _grouped(runs, scored=False).items()}
    scatter: dict[tuple[str, ...], SeedNoise] = {}  # runs that stand in several arms have one error
    out = []
    for key, group in _grouped(runs).items():
        cells = tuple(cell for run in group for cell in run.cells)
        out.append(_mean(group, scatter.setdefault(cells, noise[key[0]]), planned[key]))
    return out


def combine(value: float, seeds: Sequence[tuple[float, float]], item_variance: float) -> Estimate:
    """An estimate from its variances (points²) between seeds with their degrees of freedom (Satterthwaite 1946).

    Where one of them is not known, only the items' variance is.
    """
    if any(df <= 0 for _, df in seeds):
        return Estimate(value, math.sqrt(item_variance), 0)
    total = sum(variance for variance, _ in seeds)
    uncertain = sum(variance**2 / df for variance, df in seeds if variance > 0)
    return Estimate(value, math.sqrt(total), total**2 / uncertain if uncertain > 0 else math.inf)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for each other (Holm 1979)."""
    out, largest = [0.0] * len(p), 0.0
    for rank, number in enumerate(sorted(range(len(p)), key=lambda each: p[each])):
        largest = max(largest, min(1.0, p[number] * (len(p) - rank)))
        out[number] = largest
    return out


def _pool(groups: Sequence[Sequence[Replicate]], weights: Sequence[float] | None = None) -> SeedNoise:
    cells = [[run.score for run in group] for group in groups]
    if any(run.falls for group in groups for run in group):
        return pool_losses(cells, weights)
    return pool([(scores, group[0].n) for scores, group in zip(cells, groups, strict=True)], weights)


def _is_loss(row: Mapping[str, Any]) -> bool:
    return row.get(HIGHER_IS_BETTER) == 0


def _mean(group: Sequence[Replicate], noise: SeedNoise, planned: int) -> Mean:
    first, k = group[0], len(group)
    score = float(np.mean([run.score for run in group]))
    # The same checkpoint whatever the seed; where it is random, seeds scatter like elsewhere.
    one_model = first.count == 0 and len({run.score for run in group}) == 1
    return Mean(
        curve=first.curve,
        count=first.count,
        value=float(np.mean([run.normalized for run in group])),
        seed_variance=0.0 if one_model else first.scale**2 * noise.variance(score, first.n) / k,
        item_variance=float(np.mean([run.item_variance for run in group])),
        task_variance=first.scale**2 * float(np.mean([run.stderr_tasks**2 for run in group])),
        noise=noise,
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
    others = tuple((arm, str(row[arm])) for arm in varied if arm not in ("model", "cot"))
    return Curve(str(row["model"]), bool(row["cot"]) if "cot" in varied else None, others)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
