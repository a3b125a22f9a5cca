"""Which questions does the design of a panel answer: each is a weighted sum of its means, with weights that sum to 0.

    finetuning       the largest number of tasks − the untouched checkpoint, in the same arm
    volume           the largest number of tasks − the smallest above 0, in the same arm
    after            the largest number of tasks − one in between: is there a plateau?
    cot              trained with rationales − without
    size             the largest model − the smallest, or where there are three the slope per tenfold of parameters
    volume_less_cot  what volume changes, averaged over the arms, − what rationales change: "volume or CoT?"
    level            one level of another axis (mixture, template …) − the first level of that axis

Rationales are tasks too, so the two arms of a study may share no number of tasks. Then arms are matched on the tasks
without rationales (9 with ↔ 0 without, 89 ↔ 80), which leaves the arm with rationales a few tasks more; and at the same
number of tasks, the arm without is interpolated between its neighbours, linearly in the logarithm of the number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import mean

from analysis.summary import Curve

ALL_SIZES = "all sizes"

Place = tuple[Curve, int]
"""A curve at a number of tasks."""
Weights = Mapping[Place, float]


@dataclass(frozen=True)
class Question:
    """A difference between arms: weights on the means of curves at counts, which sum to 0."""

    kind: str
    """One of the above, or of its details: cot_at, cot_growth, cot_interpolated, size_at, size_gain."""
    text: str
    arm: str
    size: str
    """Of the models compared, or `ALL_SIZES`."""
    weights: Weights
    what: str = ""
    """What tells it from others of its kind, whatever the numbers: the same for a size and over all sizes."""

    @property
    def family(self) -> tuple[str, bool]:
        """What it is judged together with: those over all sizes apart from those of each, plateaus by themselves."""
        return ("after" if self.kind == "after" else "", self.size == ALL_SIZES)


def questions(places: Sequence[Place], parameters: Mapping[str, int | None]) -> list[Question]:
    """Everything that means at these places allow to ask, over all sizes first, then of each.

    `parameters` has the models' sizes, smallest first, where they are known.
    """
    grid = set(places)
    curves = list(dict.fromkeys(curve for curve, _ in places))
    own_counts = {curve: sorted(count for each, count in grid if each == curve) for curve in curves}
    sizes = list(dict.fromkeys(curve.size for curve in curves))
    arms = {size: {curve.cot: curve for curve in curves if curve.size == size} for size in sizes}
    own = [
        question
        for size in sizes
        for question in _of_size(size, arms[size], {cot: own_counts[curve] for cot, curve in arms[size].items()})
    ]
    if len(sizes) == 1:
        return own
    # Over all sizes at the counts that all of an arm share, so that an average is over the same everywhere.
    shared = {
        cot: sorted(set.intersection(*(set(own_counts[curve]) for curve in curves if curve.cot is cot)))
        for cot in dict.fromkeys(curve.cot for curve in curves)
    }
    alike: dict[tuple[str, str], list[Question]] = {}
    for question in (question for size in sizes for question in _of_size(size, arms[size], shared)):
        alike.setdefault((question.kind, question.text), []).append(question)
    together = [_together(found, len(sizes)) for found in alike.values()]
    models = [name for name in parameters if any(curve.model == name for curve in curves)]
    return [*together, *_of_models(curves, grid, models, parameters), *_of_levels(curves, grid), *own]


def minus(one: Weights, other: Weights) -> dict[Place, float]:
    """The difference of two weighted sums."""
    return {place: one.get(place, 0.0) - other.get(place, 0.0) for place in dict.fromkeys([*one, *other])}


def average(several: Sequence[Weights]) -> dict[Place, float]:
    """The mean of weighted sums."""
    places = dict.fromkeys(place for each in several for place in each)
    return {place: sum(each.get(place, 0.0) for each in several) / len(several) for place in places}


def _of_size(
    size: str, arms: Mapping[bool | None, Curve], counts: Mapping[bool | None, Sequence[int]]
) -> Iterator[Question]:
    for cot, curve in arms.items():
        trained = [count for count in counts[cot] if count > 0]
        if not trained:
            continue
        low, high = trained[0], trained[-1]
        if 0 in counts[cot]:
            text = _words(f"Δ finetuning, 0 → {high:,} tasks", curve.arm)
            yield Question("finetuning", text, curve.arm, size, _step(curve, 0, high), curve.arm)
        if low < high:
            text = _words(f"Δ volume, {low:,} → {high:,} tasks", curve.arm)
            yield Question("volume", text, curve.arm, size, _step(curve, low, high), curve.arm)
        for count in trained[1:-1]:
            text = _words(f"Δ after {count:,} tasks, to {high:,}", curve.arm)
            yield Question("after", text, curve.arm, size, _step(curve, count, high), f"{curve.arm} {count}")
    if True in arms and False in arms:
        rationales = list(_of_rationales(size, arms[True], arms[False], counts[True], counts[False]))
        yield from rationales
        rising = [(curve, sorted(count for count in counts[cot] if count > 0)) for cot, curve in arms.items()]
        if rationales and all(len(trained) > 1 for _, trained in rising):
            volume = average([_step(curve, trained[0], trained[-1]) for curve, trained in rising])
            ranges = " and ".join(dict.fromkeys(f"{trained[0]:,} → {trained[-1]:,}" for _, trained in rising))
            text = f"Δ volume − Δ CoT, volume from {ranges} tasks"
            yield Question("volume_less_cot", text, "", size, minus(volume, rationales[0].weights))


def _of_rationales(
    size: str, yes: Curve, no: Curve, with_cot: Sequence[int], without: Sequence[int]
) -> Iterator[Question]:
    pairs = paired_counts(with_cot, without)
    if not pairs:
        return
    deltas = [minus({(yes, one): 1.0}, {(no, other): 1.0}) for one, other in pairs]
    equal = pairs[0][0] == pairs[0][1]
    names = [f"{one:,}" if equal else f"{one:,} ↔ {other:,}" for one, other in pairs]
    where = "mean over task counts" if equal else f"matched on the other tasks, mean over {', '.join(names)}"
    yield Question("cot", f"Δ CoT, {where}", "", size, average(deltas))
    for place in dict.fromkeys((0, len(pairs) - 1)):
        if len(pairs) > 1 or equal:
            yield Question("cot_at", f"Δ CoT at {names[place]} tasks", "", size, deltas[place], names[place])
    if len(pairs) > 1:
        yield Question(
            "cot_growth", f"change of Δ CoT, {names[0]} → {names[-1]} tasks", "", size, minus(deltas[-1], deltas[0])
        )
    if not equal and (between := list(_interpolated(yes, no, with_cot, without))):
        at = ", ".join(f"{count:,}" for count, _ in between)
        text = f"Δ CoT at equal counts, without CoT interpolated, mean over {at} tasks"
        yield Question("cot_interpolated", text, "", size, average([weights for _, weights in between]))


def paired_counts(with_cot: Sequence[int], without: Sequence[int]) -> list[tuple[int, int]]:
    """Task counts of the two arms that belong together: the same ones, else those that differ by the rationales' tasks.

    How many those are is the difference that most pairs share, the smallest of several.
    """
    trained = [count for count in with_cot if count > 0]
    if equal := [(count, count) for count in trained if count in without]:
        return equal
    differences = Counter(one - other for one in trained for other in without if one > other)
    if not differences:
        return []
    most = max(differences.values())
    extra = min(difference for difference, number in differences.items() if number == most)
    return [(count, count - extra) for count in trained if count - extra in without]


def _interpolated(
    yes: Curve, no: Curve, with_cot: Sequence[int], without: Sequence[int]
) -> Iterator[tuple[int, Weights]]:
    for count in with_cot:
        for below, above in pairwise(other for other in without if other > 0):
            if below < count < above:
                share = math.log(count / below) / math.log(above / below)
                yield count, {(yes, count): 1.0, (no, below): share - 1, (no, above): -share}


def _of_models(
    curves: Sequence[Curve],
    grid: set[Place],
    models: Sequence[str],
    parameters: Mapping[str, int | None],
) -> Iterator[Question]:
    """What size changes: at the untouched checkpoint, on average over counts, at the largest, and of the gain."""
    if len(models) < 2:
        return
    counts = {count for _, count in grid}
    slope, what = _slope(models, parameters)
    groups: dict[tuple[bool | None, tuple[tuple[str, str], ...]], dict[str, Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.cot, curve.others), {})[curve.model] = curve
    whole = [group for group in groups.values() if len(group) == len(models)]

    def at(group: Mapping[str, Curve], count: int) -> Weights:
        return {(group[model], count): slope[model] for model in models}

    shared = [sorted(n for n in counts if all((curve, n) in grid for curve in group.values())) for group in whole]
    trained = [[count for count in own if count > 0] for own in shared]
    pairs = [(group, own) for group, own in zip(whole, trained, strict=True) if own]
    if not pairs:
        return
    known = [parameters.get(model) for model in models]
    if not all(known) or known[0] == known[-1]:  # nobody knows which is the larger
        for model in models[1:]:
            against = [
                average([{(group[model], count): 1.0, (group[models[0]], count): -1.0} for count in own])
                for group, own in pairs
            ]
            text = f"model: {model} − {models[0]}"
            yield Question("level", text, "", ALL_SIZES, average(against), f"model {model}")
        return
    every = [average([at(group, count) for count in own]) for group, own in pairs]
    several = any(len(own) > 1 for _, own in pairs)
    where = "mean over task counts" if several else f"at {pairs[0][1][0]:,} tasks"
    yield Question("size", f"{what}, {where}", "", ALL_SIZES, average(every))
    if whole and all(0 in own for own in shared):
        yield Question("size_at", f"{what}, at 0 tasks", "", ALL_SIZES, average([at(group, 0) for group in whole]))
        gains = [minus(at(group, own[-1]), at(group, 0)) for group, own in pairs]
        tops = " and ".join(dict.fromkeys(f"{own[-1]:,}" for _, own in pairs))
        yield Question("size_gain", f"{what}, of the gain 0 → {tops} tasks", "", ALL_SIZES, average(gains))
    for group, own in pairs if several else ():
        arm = next(iter(group.values())).arm
        text = _words(
            f"{what}, at {own[-1]:,} tasks",
            arm,
            *(f"{axis} {level}" for axis, level in next(iter(group.values())).others),
        )
        yield Question("size_at", text, arm, ALL_SIZES, at(group, own[-1]), text)


def _slope(models: Sequence[str], parameters: Mapping[str, int | None]) -> tuple[dict[str, float], str]:
    known = [parameters.get(model) for model in models]
    x = [math.log10(each) for each in known if each]
    if len(models) > 2 and len(x) == len(models) and len(set(x)) > 1:
        middle = mean(x)
        spread = sum((each - middle) ** 2 for each in x)
        return {model: (each - middle) / spread for model, each in zip(models, x, strict=True)}, (
            "Δ size, per tenfold of parameters"
        )
    ends = dict.fromkeys(models, 0.0) | {models[0]: -1.0, models[-1]: 1.0}
    return ends, f"Δ size, {models[0]} → {models[-1]}"


def _of_levels(curves: Sequence[Curve], grid: set[Place]) -> Iterator[Question]:
    """Every level of every other axis against its first, over all that they have in common."""
    for axis in dict.fromkeys(axis for curve in curves for axis, _ in curve.others):
        levels = list(dict.fromkeys(dict(curve.others)[axis] for curve in curves))
        for level in levels[1:]:
            found = []
            for curve in curves:
                if dict(curve.others)[axis] != levels[0]:
                    continue
                others = tuple((name, level if name == axis else value) for name, value in curve.others)
                found += _same_counts(Curve(curve.model, curve.cot, others), curve, grid)
            if found:
                yield Question(
                    "level", f"{axis}: {level} − {levels[0]}", "", ALL_SIZES, average(found), f"{axis} {level}"
                )


def _same_counts(one: Curve, other: Curve, grid: set[Place]) -> list[Weights]:
    """At every number of tasks that both have; where they have none in common, at the largest of each."""
    counts = [sorted(count for curve, count in grid if curve == each and count > 0) for each in (one, other)]
    if not all(counts):
        return []
    shared = [count for count in counts[0] if count in counts[1]]
    pairs = [(count, count) for count in shared] or [(counts[0][-1], counts[1][-1])]
    return [minus({(one, left): 1.0}, {(other, right): 1.0}) for left, right in pairs]


def _together(found: Sequence[Question], sizes: int) -> Question:
    """What is asked of several sizes, averaged over them."""
    first = found[0]
    text = first.text if len(found) == sizes else f"{first.text} ({len(found)} of {sizes} curves)"
    return replace(first, text=text, size=ALL_SIZES, weights=average([question.weights for question in found]))


def _step(curve: Curve, low: int, high: int) -> Weights:
    return {(curve, high): 1.0, (curve, low): -1.0}


def _words(*parts: str) -> str:
    return " ".join(filter(None, parts))
