"""What can a study see, before it is paid for: the smallest effect that each of its questions can tell from none.

From the design alone (which points, how many runs of each) and the noise between seeds, measured on a pilot or
stated. An effect counts as seen when the report's test, two-sided at 5 % and corrected for as many questions, calls
it one in four studies of five. Where half
is right the noise is largest in points, so that effects near chance or near the ceiling are seen a little earlier
than said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from analysis import scaling, summary
from analysis.contrasts import estimate_of
from analysis.noise import SeedNoise
from analysis.profile import Data
from analysis.questions import Question, questions
from analysis.runs import Study, table
from analysis.summary import BORROWED, LEVEL, Curve, Mean, Replicate

POWER = 0.8
SEEDS = (1, 2, 3, 5, 8)
"""Numbers of runs a cell that are compared."""
LAW = (55.0, 60.0, 0.35)
"""c, a and b of the power law that the exponent's interval is foreseen for."""
COUNTS = 3
"""The fewest that a law is fitted to."""
DRAWS = 60


@dataclass(frozen=True)
class Seen:
    """One question: the smallest effect that is seen, in points of a benchmark without a lower bound."""

    question: Question
    standard_error: float
    smallest: float | None
    """None where nothing is repeated: then no effect is told from the scatter of seeds, however large."""
    by_runs: Mapping[int, float | None]
    """The same if every cell had so many runs."""


def seen(study: Study, noise: SeedNoise, items: float) -> list[Seen]:
    """What the questions of a study can see, over all sizes first.

    `items`: of the benchmark; few of them scatter by themselves.
    """
    planned = _planned(study)
    places = {(mean.curve, mean.count): mean for mean in _means(planned, noise, items)}
    more = {runs: {(mean.curve, mean.count): mean for mean in _means(planned, noise, items, runs)} for runs in SEEDS}
    asked = questions(list(places), study.models)
    number = Counter(question.family for question in asked)
    return [
        Seen(
            question,
            estimate_of(question, places).se,
            _smallest(question, places, number[question.family]),
            {runs: _smallest(question, means, number[question.family]) for runs, means in more.items()},
        )
        for question in asked
    ]


def exponent_factor(study: Study, noise: SeedNoise, items: float) -> float | None:
    """By which factor the 95 % interval of a power law's exponent is wide, as a median over simulated studies.

    None where it is open at an end in half of them, or the design has too few counts.
    """
    planned = [run for run in _planned(study) if run.count > 0]
    curves = list(dict.fromkeys(run.curve for run in planned))
    if len({run.count for run in planned}) < COUNTS:
        return None
    c, a, b = LAW
    count_N = np.array([run.count for run in planned], dtype=float)
    true_N = c - a * count_N**-b
    variance_N = np.array([noise.variance(max(score, 1.0), items) for score in true_N])
    rng, factors = np.random.default_rng(0), []
    for _ in range(DRAWS):
        score_N = true_N + rng.normal(size=len(planned)) * np.sqrt(variance_N)
        data = Data(np.array([curves.index(run.curve) for run in planned]), count_N, score_N, 1 / variance_N)
        fit = scaling.fit("power_law", data, [curve.label for curve in curves])
        known = fit.parameters and fit.parameters[0].low and fit.parameters[0].high
        factors.append(fit.parameters[0].high / fit.parameters[0].low if known else np.inf)  # type: ignore[operator]
    factor = float(np.median(factors))
    return factor if np.isfinite(factor) else None


def _planned(study: Study) -> list[Replicate]:
    return summary.replicates(table(study).assign(benchmark="planned", setting=""), "planned", "")


def _means(planned: Sequence[Replicate], noise: SeedNoise, items: float, runs: int | None = None) -> list[Mean]:
    groups: dict[tuple[Curve, int], int] = {}
    for run in planned:
        groups[run.curve, run.count] = groups.get((run.curve, run.count), 0) + 1
    if runs is not None:
        groups = dict.fromkeys(groups, runs)
    df: dict[Curve, int] = {}
    for (curve, count), k in groups.items():
        df[curve] = df.get(curve, 0) + (k - 1) * (count > 0)
    whole = sum(df.values())
    own = {curve: replace(noise, df=number + min(BORROWED, (whole - number) / 2)) for curve, number in df.items()}
    out = []
    for (curve, count), k in groups.items():
        variance = 0.0 if count == 0 else noise.variance(50.0, items) / k
        out.append(Mean(curve, count, 50.0, variance, 2500 / items, np.nan, own[curve], 50.0, items, 1.0, k, (), ()))
    return out


def _smallest(question: Question, places: Mapping[tuple[Curve, int], Mean], asked: int) -> float | None:
    """By Bonferroni's rule for so many questions: Holm's sees as little of an effect that stands alone."""
    estimate = estimate_of(question, places)
    if not estimate.df > 0:
        return None
    critical = special.stdtrit(estimate.df, 1 - LEVEL / 2 / asked)
    return float(estimate.se * (critical + special.stdtrit(estimate.df, POWER)))
