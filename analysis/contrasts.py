"""What did rationales and what did more tasks change: differences between arms, paired on the items both answered.

    Δ CoT      trained with rationales − without, at the same number of tasks
    Δ volume   the largest number of tasks − the smallest (above 0), in the same arm

in each panel, so that direct-prompted and CoT-prompted evaluation stay apart. The seeds' error comes from the pooled
variance. The items' error is that of the per-item difference, stratified by task: what makes an item easy for all cells
cancels. Where predictions are not at hand the cells' own errors are added up instead, which is too wide, and said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.items import Answered, Items, items_of, read_answers
from analysis.panels import Panel
from analysis.runs import Study
from analysis.summary import Curve, Estimate, Mean, combine

ALL_SIZES = "all sizes"

Weights = dict[tuple[Curve, int], float]


@dataclass(frozen=True)
class Question:
    """A difference between arms: weights on the means of curves at counts, which sum to 0."""

    kind: str
    """cot, cot_at (one count), cot_growth, or volume."""
    text: str
    arm: str
    size: str
    weights: Weights


@dataclass(frozen=True)
class Contrast:
    """The answer to a question, with its interval; `paired` tells whether item by item."""

    question: Question
    estimate: Estimate
    paired: bool


def ask(study: Study, analysed: Sequence[Panel], answers: Answered | None = None) -> list[list[Contrast]]:
    """The contrasts of every panel, paired on items where the answers of all its runs are at hand.

    `answers` are read from the run directories where they are not given.
    """
    if answers is None:
        answers, _ = read_answers(study)
    out = []
    for panel in analysed:
        cells = dict.fromkeys(cell for mean in panel.means for cell in mean.cells)
        out.append(contrasts(panel, items_of(study, answers, panel.benchmark, panel.setting, cells)))
    return out


def contrasts(panel: Panel, items: Items | None) -> list[Contrast]:
    """The contrasts that a panel's cells allow, over all sizes and per size."""
    means = {(mean.curve, mean.count): mean for mean in panel.means}
    asked = [question for size in _sizes(panel) for question in _questions(panel, size)]
    return [_answer(question, means, items) for question in asked if all(place in means for place in question.weights)]


def _sizes(panel: Panel) -> list[str]:
    sizes = list(dict.fromkeys(curve.size for curve in panel.curves))
    return [ALL_SIZES, *sizes] if len(sizes) > 1 else sizes


def _questions(panel: Panel, size: str) -> list[Question]:
    """What can be asked of a size (or of all, averaged)."""
    counts = [count for count in panel.counts if count > 0]
    low, high = min(counts, default=0), max(counts, default=0)
    curves = [curve for curve in panel.curves if size in (ALL_SIZES, curve.size)]
    trained = {arm: [curve for curve in curves if curve.cot is arm] for arm in (True, False, None)}
    out = []
    if trained[True] and trained[False]:
        delta = {count: _minus(_average(trained[True], count), _average(trained[False], count)) for count in counts}
        everywhere = {place: weight / len(counts) for each in delta.values() for place, weight in each.items()}
        out.append(Question("cot", "Δ CoT, mean over task counts", "", size, everywhere))
        out += [
            Question("cot_at", f"Δ CoT at {count:,} tasks", "", size, delta[count])
            for count in dict.fromkeys((low, high))
        ]
        if low < high:
            growth = Question(
                "cot_growth", f"change of Δ CoT, {low:,} → {high:,} tasks", "", size, _minus(delta[high], delta[low])
            )
            out.append(growth)
    for own in (trained[arm] for arm in (True, False, None) if trained[arm] and low < high):
        text = " ".join(filter(None, (f"Δ volume, {low:,} → {high:,} tasks", own[0].arm)))
        out.append(Question("volume", text, own[0].arm, size, _minus(_average(own, high), _average(own, low))))
    return out


def _average(curves: Sequence[Curve], count: int) -> Weights:
    return {(curve, count): 1 / len(curves) for curve in curves}


def _minus(one: Weights, other: Weights) -> Weights:
    return one | {place: -weight for place, weight in other.items()}


def _answer(question: Question, means: Mapping[tuple[Curve, int], Mean], items: Items | None) -> Contrast:
    weighted = [(weight, means[place]) for place, weight in question.weights.items()]
    value = sum(weight * mean.value for weight, mean in weighted)
    if items is None:
        item_variance = sum(weight**2 * mean.item_variance for weight, mean in weighted)
    else:
        shares = {cell: weight / len(mean.cells) for weight, mean in weighted for cell in mean.cells}
        item_variance = items.variance(shares)
    return Contrast(question, combine(value, _seed_variances(weighted), item_variance), items is not None)


def _seed_variances(weighted: Sequence[tuple[float, Mean]]) -> list[tuple[float, int]]:
    """A variance per curve with its degrees of freedom: the means of a curve rest on one pooled deviation."""
    found: dict[Curve, tuple[float, int]] = {}
    for weight, mean in weighted:
        before, _ = found.get(mean.curve, (0.0, 0))
        found[mean.curve] = (before + weight**2 * mean.seed_variance, mean.seed_df)
    return list(found.values())
