"""How large is every difference beside the others: contrasts as rows of bars on one axis, for the page.

A group is a question, a row a panel that answers it. Positions are in percent of the axis, which holds every interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from analysis.contrasts import Contrast
from analysis.panels import Panel
from analysis.summary import Unit
from analysis.tables import probability, signed


@dataclass(frozen=True)
class Row:
    """One contrast: what is written, and where its bar begins, has its mark and ends."""

    label: str
    estimate: str
    p: str
    verdict: str
    """better, worse, told (an effect without a better side), open (none is told), or single (of single runs)."""
    left: float
    mark: float
    right: float


@dataclass(frozen=True)
class Forest:
    """Rows by question, and the axis under them: (position, label) of its ticks."""

    unit: str
    groups: Sequence[tuple[str, Sequence[Row]]]
    ticks: Sequence[tuple[float, str]]
    zero: float


def forests(found: Sequence[tuple[Panel, Contrast]]) -> list[Forest]:
    """The contrasts in their order, those of one question together; one forest for points, another for losses."""
    units = dict.fromkeys(each.unit for _, each in found)
    return [_forest([(panel, each) for panel, each in found if each.unit == unit], unit) for unit in units]


def _forest(found: Sequence[tuple[Panel, Contrast]], unit: Unit) -> Forest:
    ends = [end for _, each in found for end in (*_ends(each), 0.0)]
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(min(ends), max(ends))
    low, high = float(ticks[0]), float(ticks[-1])

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    groups: dict[str, list[Row]] = {}
    for panel, each in found:
        size = f", {each.question.size}" if each.question.size != found[0][1].question.size else ""
        left, right = _ends(each)
        place = (at(left), at(each.estimate.value), at(right))
        text = (f"{panel.title}{size}", signed(each.estimate, each.unit.digits), probability(each.p), _verdict(each))
        groups.setdefault(each.question.text, []).append(Row(*text, *place))
    return Forest(unit.name, list(groups.items()), [(at(tick), f"{tick:g}") for tick in ticks], at(0.0))


def _ends(contrast: Contrast) -> tuple[float, float]:
    """Of the interval; of the items' error where there is none."""
    estimate = contrast.estimate
    if estimate.interval is not None:
        return estimate.interval
    error = estimate.se if math.isfinite(estimate.se) else 0.0
    return estimate.value - error, estimate.value + error


def _verdict(contrast: Contrast) -> str:
    if contrast.p is None:
        return "single"
    if not contrast.effect:
        return "open"
    if contrast.question.kind == "volume_less_cot":  # which of two adds more: neither is the better
        return "told"
    return "better" if contrast.better else "worse"
