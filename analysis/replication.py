"""Does a finding hold again: the questions of one study, asked of another on other tasks, one verdict each.

On other tasks the heights differ; what can hold again is what changes them. A question is

    replicated       an effect in both studies, of one sign
    not replicated   an effect in the first; in the second one of the other sign, or its 90 % interval lies within
                     ± `answers.MARGIN` points, which was fixed beforehand (two one-sided tests, Schuirmann 1987)
    inconclusive     anything else

Whether the heights agree too is told apart: mean difference over matched cells with the p of its sign flips, how many
cells of the second lie in the 95 % prediction intervals of the first, and whether both put the cells in one order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.answers import equivalent
from analysis.contrasts import Contrast, overall
from analysis.panels import Panel
from analysis.summary import LOSS, POINTS, Mean, Unit
from analysis.tables import number, signed


@dataclass(frozen=True)
class Replicated:
    """One question in both studies."""

    first: Contrast
    second: Contrast
    verdict: str


@dataclass(frozen=True)
class Heights:
    """The matched cells of two panels."""

    cells: int
    difference: float
    """Mean of second − first."""
    p: float
    """Of the sign flips of the differences: exact up to twenty cells."""
    inside: float
    """Share of the second's means in the 95 % prediction intervals of the first's; NaN where seeds are not known."""
    order: float
    """Kendall's τ of the cells' order."""
    unit: Unit = POINTS
    """What the difference is counted in."""


@dataclass(frozen=True)
class Again:
    """What became of another study's findings."""

    study: str
    panel: str
    pairs: Sequence[Replicated]
    heights: Heights | None

    @property
    def sentences(self) -> list[str]:
        """A line for every question that both studies answer, and one for the heights."""
        lines = [
            f"{each.verdict}: {each.first.question.text}: {signed(each.first.estimate, each.first.unit.digits)} in"
            f" {self.study}, {signed(each.second.estimate, each.second.unit.digits)} here"
            for each in self.pairs
        ]
        if self.heights:
            h = self.heights
            lines.append(
                f"Over {h.cells} matched cells the score is {h.difference:+.{h.unit.digits}f} {h.unit.of} from there"
                f" (sign flips: p = {h.p:.2g}), {number(100 * h.inside, 0)} % of them in the first's 95 %"
                f" prediction intervals, in the same order by τ = {h.order:.2f}."
            )
        return lines or ["no question is asked by both studies"]


def replication(first: Sequence[Contrast], second: Sequence[Contrast]) -> list[Replicated]:
    """Every question that both panels answer, over all sizes."""
    of = {(each.question.kind, each.question.text): each for each in overall(second)}
    pairs = [(each, of[each.question.kind, each.question.text]) for each in overall(first) if _key(each) in of]
    return [Replicated(one, other, _verdict(one, other)) for one, other in pairs]


def heights(first: Panel, second: Panel) -> Heights | None:
    """The matched cells of two panels; None where fewer than two match."""
    from scipy import stats  # half a second, which a report of one study does not pay

    of = {(mean.curve, mean.count): mean for mean in second.means}
    pairs = [(mean, of[mean.curve, mean.count]) for mean in first.means if (mean.curve, mean.count) in of]
    if len(pairs) < 2:
        return None
    difference = np.array([other.value - one.value for one, other in pairs])
    exact = 2 ** len(pairs) if len(pairs) <= 20 else 9999
    flips = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", vectorized=True, n_resamples=exact, batch=2**14, rng=0
    )
    inside = [_inside(one, other) for one, other in pairs]
    order = stats.kendalltau([one.value for one, _ in pairs], [other.value for _, other in pairs]).statistic
    return Heights(
        cells=len(pairs),
        difference=float(difference.mean()),
        p=float(flips.pvalue),
        inside=math.nan if None in inside else sum(map(bool, inside)) / len(inside),
        order=float(order),
        unit=LOSS if first.falls else POINTS,
    )


def _verdict(first: Contrast, second: Contrast) -> str:
    if not first.effect or second.p is None:
        return "inconclusive"
    if second.effect:
        return "replicated" if first.better == second.better else "not replicated"
    return "not replicated" if equivalent(second) else "inconclusive"


def _inside(one: Mean, other: Mean) -> bool | None:
    """Whether a mean lies where the first study's seeds would put it."""
    if not (one.estimate.df > 0 and other.estimate.df > 0):
        return None
    spread = math.hypot(one.estimate.se, other.estimate.se)
    return abs(other.value - one.value) <= spread * float(special.stdtrit(one.estimate.df, 0.975))


def _key(each: Contrast) -> tuple[str, str]:
    return each.question.kind, each.question.text
