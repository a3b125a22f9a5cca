"""Which questions a design allows, and with which weights."""

from __future__ import annotations

import pytest

from analysis.questions import ALL_SIZES, Question, paired_counts, questions
from analysis.summary import Curve

SIZES: dict[str, int | None] = {"small": 10**6, "large": 10**8}


def asked(
    places: list[tuple[Curve, int]], parameters: dict[str, int | None] = SIZES
) -> dict[tuple[str, str], Question]:
    found = {(each.text, each.size): each for each in questions(places, parameters)}
    assert all(sum(each.weights.values()) == pytest.approx(0) for each in found.values())
    return found


def arm(model: str, cot: bool | None, *counts: int) -> list[tuple[Curve, int]]:
    return [(Curve(model, cot), count) for count in counts]


def test_arms_with_the_same_counts_are_compared_at_them() -> None:
    found = asked([*arm("small", True, 0, 9, 89), *arm("small", False, 0, 9, 89)])
    delta = found["Δ CoT, mean over task counts", "small"].weights
    assert delta == {place: sign / 2 for sign, cot in ((1, True), (-1, False)) for place in arm("small", cot, 9, 89)}
    assert ("Δ CoT at 89 tasks", "small") in found


@pytest.mark.parametrize(
    ("with_cot", "without", "pairs"),
    [
        ([0, 9, 89, 282, 1836], [0, 80, 273, 1827], [(9, 0), (89, 80), (282, 273), (1836, 1827)]),
        ([0, 9, 1836], [0, 1827], [(9, 0), (1836, 1827)]),
        ([1836], [1827], [(1836, 1827)]),
        ([0, 1836], [0, 1827], [(1836, 1827)]),
        ([9, 89], [9, 80], [(9, 9)]),
        ([9], [89], []),
    ],
)
def test_arms_without_common_counts_are_matched_on_the_tasks_without_rationales(
    with_cot: list[int], without: list[int], pairs: list[tuple[int, int]]
) -> None:
    assert paired_counts(with_cot, without) == pairs


def test_the_papers_arms_are_matched_and_interpolated() -> None:
    found = asked([*arm("small", True, 0, 9, 89, 1836), *arm("small", False, 0, 80, 1827)])
    matched = found["Δ CoT, matched on the other tasks, mean over 9 ↔ 0, 89 ↔ 80, 1,836 ↔ 1,827", "small"]
    assert matched.weights[Curve("small", False), 0] == pytest.approx(-1 / 3)
    between = found["Δ CoT at equal counts, without CoT interpolated, mean over 89 tasks", "small"].weights
    assert between[Curve("small", True), 89] == 1
    below, above = between[Curve("small", False), 80], between[Curve("small", False), 1827]
    assert below < above < 0 or above > below
    assert below + above == pytest.approx(-1)
    assert -0.05 < above < 0  # 89 is close to 80


def test_sizes_are_averaged_where_both_ends_were_measured() -> None:
    found = asked([*arm("small", None, 9, 89), *arm("large", None, 9, 89)])
    volume = found["Δ volume, 9 → 89 tasks", ALL_SIZES].weights
    assert volume == {
        place: sign / 2 for sign, count in ((1, 89), (-1, 9)) for place in [(Curve(m), count) for m in SIZES]
    }
    partly = asked([*arm("small", None, 9, 30, 89), *arm("large", None, 9, 30)])
    assert ("Δ volume, 9 → 30 tasks", ALL_SIZES) in partly  # what all have
    assert {("Δ volume, 9 → 89 tasks", "small"), ("Δ volume, 9 → 30 tasks", "large")} < partly.keys()


def test_two_sizes_give_a_difference_and_three_a_slope_per_tenfold() -> None:
    two = asked([*arm("small", None, 0, 9), *arm("large", None, 0, 9)])
    assert two["Δ size, small → large, at 9 tasks", ALL_SIZES].weights == {
        (Curve("small"), 9): -1.0,
        (Curve("large"), 9): 1.0,
    }
    sizes: dict[str, int | None] = {"a": 10**6, "b": 10**7, "c": 10**8}
    three = asked([place for model in sizes for place in arm(model, None, 0, 9)], sizes)
    slope = three["Δ size, per tenfold of parameters, at 9 tasks", ALL_SIZES].weights
    assert sum(weight * position for weight, position in zip(slope.values(), (0, 1, 2), strict=True)) == pytest.approx(
        1
    )
    assert ("Δ size, per tenfold of parameters, of the gain 0 → 9 tasks", ALL_SIZES) in three


def test_models_of_unknown_parameters_are_told_apart_and_none_is_the_larger() -> None:
    sizes: dict[str, int | None] = {"a": None, "b": None, "c": None}
    found = asked([place for model in sizes for place in arm(model, None, 9)], sizes)
    assert {("model: b − a", ALL_SIZES), ("model: c − a", ALL_SIZES)} <= found.keys()
    assert not any(each.kind.startswith("size") for each in found.values())


def test_other_axes_are_compared_with_their_first_level() -> None:
    curves = [Curve("small", None, (("mixture", level),)) for level in ("paper_a", "paper_b", "equal")]
    found = asked([(curve, 1836) for curve in curves])
    levels = [each.text for each in found.values() if each.kind == "level"]
    assert levels == ["mixture: paper_b − paper_a", "mixture: equal − paper_a"]


def test_volume_or_rationales_is_a_question_of_its_own() -> None:
    found = asked([*arm("small", True, 9, 89), *arm("small", False, 9, 89)])
    weights = found["Δ volume − Δ CoT, volume from 9 → 89 tasks", "small"].weights
    assert weights[Curve("small", True), 89] == pytest.approx(0.5 - 0.5)
    assert weights[Curve("small", False), 89] == pytest.approx(0.5 + 0.5)


def test_one_arm_at_one_count_asks_nothing() -> None:
    assert questions(arm("small", None, 9), SIZES) == []
