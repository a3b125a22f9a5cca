"""What did more tasks, rationales, size or another mixture change: the answers to a panel's questions, with intervals.

The error of a difference is that between seeds, pooled along each curve. Where seeds were not repeated there is no
interval, and the error told is that of the items: of the per-item difference, stratified by task, since what makes an
item easy for all cells cancels; of the cells' own errors added up where predictions are not at hand, which is too wide.
Several questions are asked of one panel, so that some answer looks like an effect by luck: `p` is corrected by Holm's
rule for the family of each question, and is no smaller than that of the wider question: what is no effect over all
sizes is none in one of them. An effect is what has a p below 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.items import Items, items_of, read_answers
from analysis.panels import Panel
from analysis.questions import ALL_SIZES, Place, Question, questions
from analysis.runs import Study
from analysis.summary import LEVEL, LOSS, POINTS, Estimate, Mean, Unit, combine, holm


@dataclass(frozen=True)
class Contrast:
    """The answer to a question. `p` is corrected for its family, None where there is no interval.

    `paired`: whether the items' error is that of per-item differences.
    """

    question: Question
    estimate: Estimate
    p: float | None
    paired: bool
    falls: bool = False
    """Whether it is one of losses: then less is better."""

    @property
    def effect(self) -> bool:
        """Whether it is told from no difference, the other questions of its family considered."""
        return self.p is not None and self.p < LEVEL

    @property
    def unit(self) -> Unit:
        """What the difference is counted in."""
        return LOSS if self.falls else POINTS

    @property
    def better(self) -> bool:
        """Whether what the question names first does better, be it by more points or by less loss."""
        return self.estimate.value < 0 if self.falls else self.estimate.value > 0


def ask(study: Study, analysed: Sequence[Panel]) -> tuple[list[list[Contrast]], list[str]]:
    """The contrasts of every panel, and which records are damaged: they are read where seeds were not repeated."""
    if all(panel.repeated for panel in analysed):
        return [contrasts(panel) for panel in analysed], []
    answers, damaged = read_answers(study)
    out = []
    for panel in analysed:
        cells = dict.fromkeys(cell for mean in panel.means for cell in mean.cells)
        items = None if panel.repeated else items_of(study, answers, panel.benchmark, panel.setting, cells)
        out.append(contrasts(panel, items))
    return out, damaged


def contrasts(panel: Panel, items: Items | None = None) -> list[Contrast]:
    """The answers that a panel's means give."""
    means = {(mean.curve, mean.count): mean for mean in panel.means}
    asked = questions(list(means), panel.parameters)
    estimates = [estimate_of(question, means, items) for question in asked]
    families: dict[tuple[str, bool], list[int]] = {}
    for number, (question, estimate) in enumerate(zip(asked, estimates, strict=True)):
        if estimate.p is not None:
            families.setdefault(question.family, []).append(number)
    corrected: dict[int, float] = {}
    for numbers in families.values():
        corrected |= dict(zip(numbers, holm([estimates[number].p or 0.0 for number in numbers]), strict=True))
    by_place = {(each.kind, each.what, each.size): corrected.get(number) for number, each in enumerate(asked)}
    return [
        Contrast(question, estimate, _gated(question, corrected.get(number), by_place), items is not None, panel.falls)
        for number, (question, estimate) in enumerate(zip(asked, estimates, strict=True))
    ]


def _gated(question: Question, p: float | None, by_place: Mapping[tuple[str, str, str], float | None]) -> float | None:
    """No smaller than that of the wider questions: the same over all sizes, and for a plateau that of the volume."""
    wider = [by_place.get((question.kind, question.what, ALL_SIZES))]
    if question.kind == "after":
        wider.append(by_place.get(("volume", question.arm, question.size)))
    return None if p is None else max([p, *(each for each in wider if each is not None)])


def overall(found: Sequence[Contrast]) -> list[Contrast]:
    """Those over all sizes; where there are none, since there is one size or they share no counts, all."""
    return [each for each in found if each.question.size == ALL_SIZES] or list(found)


def estimate_of(question: Question, means: Mapping[Place, Mean], items: Items | None = None) -> Estimate:
    """The difference with its standard error. `items`: of all cells, for the error where seeds are not repeated."""
    by_cells: dict[object, tuple[float, Mean]] = {}
    for place, weight in question.weights.items():  # an untouched checkpoint stands in every arm, and is one
        mean = means[place]
        before, _ = by_cells.get(mean.cells or place, (0.0, mean))
        by_cells[mean.cells or place] = (before + weight, mean)
    weighted = [(weight, mean) for weight, mean in by_cells.values() if abs(weight) > 1e-12]
    value, item_variance = sum(weight * mean.value for weight, mean in weighted), _item_variance(weighted, items)
    return combine(value, _seed_variances(weighted), item_variance)


def _item_variance(weighted: Sequence[tuple[float, Mean]], items: Items | None) -> float:
    apart = sum(weight**2 * mean.item_variance for weight, mean in weighted)
    if items is None:
        return apart
    shares: dict[str, float] = {}
    for weight, mean in weighted:
        for cell in mean.cells:
            shares[cell] = shares.get(cell, 0.0) + weight / len(mean.cells)
    return items.variance(shares) or apart  # where all cells answer all items alike, nothing shows what others would


def _seed_variances(weighted: Sequence[tuple[float, Mean]]) -> list[tuple[float, float]]:
    """Variances with their degrees of freedom, those together that rest on one pooled deviation.

    That of an untouched checkpoint is its items'.
    """
    found: dict[int, tuple[float, float]] = {}
    for weight, mean in weighted:
        if mean.untouched:
            before, _ = found.get(0, (0.0, 0.0))
            found[0] = (before + weight**2 * mean.item_variance, math.inf)
        else:
            before, _ = found.get(id(mean.noise), (0.0, 0.0))
            found[id(mean.noise)] = (before + weight**2 * mean.seed_variance, mean.noise.df)
    return list(found.values())
