"""Two models on the same items: their difference, how many items would tell it, and which ones are asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from answered import record, records

from flanscale.errors import ConfigError
from flanscale.evaluation.item import Item, Prompt
from flanscale.evaluation.paired import Difference, difference, difference_of_answers, items_needed
from flanscale.evaluation.records import Record
from flanscale.evaluation.suites import subset


def pair(per_subtask: int, rng: np.random.Generator, better: float = 0.0, languages: bool = False) -> Difference:
    """Two models on three subtasks, which find the same items hard; items of one place may be translations."""
    ones, others = [], []
    for place in range(per_subtask):
        taste = rng.normal(size=2)
        for task in "abc":
            hard = rng.normal()
            one, other = (100.0 * (hard + 0.8 * one > 0) for one in (taste if languages else rng.normal(size=2)))
            cluster = f"problem {place}" if languages else ""
            ones.append(record(f"{task}/{place}", one + better, cluster=cluster))
            others.append(record(f"{task}/{place}", other, cluster=cluster))
    return difference(ones, others, "exact", "mgsm/cot")


def items(sizes: dict[str, int]) -> list[Item]:
    return [Item(f"{task}/{at}", task, Prompt("", (), ""), ()) for task, size in sizes.items() for at in range(size)]


def keys(chosen: Sequence[Item]) -> list[str]:
    return [item.key for item in chosen]


def test_a_difference_is_taken_item_by_item() -> None:
    ones = records({"a": [100, 100, 0, 100], "b": [100, 0]})
    others = records({"a": [100, 0, 0, 100], "b": [0, 0]})[::-1]
    found = difference(ones, others, "exact", "bbh/cot")
    assert found.paired.value == pytest.approx((25 + 50) / 2)
    apart = [np.var(points, ddof=1) / len(points) for points in ([0, 100, 0, 0], [100, 0])]
    assert found.paired.stderr == pytest.approx(np.sqrt(sum(apart)) / 2)
    alone = [np.var(p, ddof=1) / len(p) for p in ([100, 100, 0, 100], [100, 0], [100, 0, 0, 100], [0, 0])]
    assert found.unpaired_stderr == pytest.approx(np.sqrt(sum(alone)) / 2)
    assert dict(found.variance) == pytest.approx({"a": 2500, "b": 5000})
    assert found.design_effect == pytest.approx(1)


def test_only_items_that_both_were_scored_on_are_compared() -> None:
    ones = [*records({"a": [100, 0, 0]}), record("b/0")]
    others = [*records({"a": [0, 0]}), record("a/2", None, status="skipped", prompt_hash="shorter"), record("c/0")]
    found = difference(ones, others, "exact", "bbh/cot")
    assert (found.paired.value, found.paired.n, found.unshared) == (50.0, 2, 3)
    with pytest.raises(ConfigError, match=r"bbh/cot: .* not scored on any item in common"):
        difference(ones[-1:], others, "exact", "bbh/cot")


def test_items_asked_in_different_prompts_are_not_compared() -> None:
    ones = records({"a": [100, 0]})
    others = [ones[0], record("a/1", prompt_hash="another")]
    with pytest.raises(ConfigError, match=r"bbh/cot: .* asked 1 items in different prompts.*'a/1'") as raised:
        difference(ones, others, "exact", "bbh/cot")
    assert "\n" not in str(raised.value)
    assert difference_of_answers(ones, others, "exact", "bbh").paired.n == 2


@pytest.mark.parametrize("languages", [False, True])
def test_the_error_of_a_difference_is_what_many_samples_show(languages: bool) -> None:
    rng = np.random.default_rng(0)
    found = [pair(40, rng, languages=languages) for _ in range(300)]
    observed = np.std([one.paired.value for one in found], ddof=1)
    assert np.mean([one.paired.stderr for one in found]) == pytest.approx(observed, rel=0.1)
    assert (np.mean([one.design_effect for one in found]) > 1.5) == languages


def test_the_items_needed_are_those_of_the_formula() -> None:
    """(1.959964 + 0.841621)² = 7.848880, times the mean of the variances, over the square of two points."""
    pilot = difference(records({"a": [100, 0, 0, 0], "b": [0, 0, 100, 0]}), records({"a": [0] * 4, "b": [0] * 4}), *BBH)
    needed = items_needed(pilot, {"a": 10_000, "b": 10_000}, 2.0)
    assert needed.formula == math.ceil(7.848880 * 2500 / 4) == 4906
    assert dict(needed.by_subtask) == {"a": 2453, "b": 2453}
    assert (needed.total, needed.enough) == (4906, True)
    assert items_needed(pilot, {"a": 10_000, "b": 10_000}, 4.0).formula == math.ceil(4906 / 4)
    stricter = items_needed(pilot, {"a": 10_000, "b": 10_000}, 2.0, alpha=0.01, power=0.9)
    assert stricter.formula == math.ceil((2.575829 + 1.281552) ** 2 * 2500 / 4)


def test_so_many_items_tell_the_difference_as_often_as_asked() -> None:
    rng = np.random.default_rng(1)
    needed = items_needed(pair(600, rng), dict.fromkeys("abc", 10_000), 12.0)
    each = needed.by_subtask["a"]
    seen = [pair(each, rng, better=12.0).paired for _ in range(400)]
    assert np.mean([one.value > 1.96 * one.stderr for one in seen]) == pytest.approx(0.8, abs=0.06)


def test_where_a_subtask_has_too_few_items_the_others_give_more() -> None:
    pilot = difference(records({"a": [100, 0, 0, 0], "b": [0, 0, 100, 0]}), records({"a": [0] * 4, "b": [0] * 4}), *BBH)
    needed = items_needed(pilot, {"a": 2000, "b": 10_000}, 2.0)
    assert needed.enough
    assert needed.by_subtask["a"] == 2000
    assert needed.by_subtask["b"] == pytest.approx(1 / (4 / 7.848880 * 4 / 2500 - 1 / 2000), abs=1)
    short = items_needed(pilot, {"a": 1000, "b": 10_000}, 2.0)
    assert (dict(short.by_subtask), short.enough) == ({"a": 1000, "b": 10_000}, False)
    assert short.detectable == pytest.approx(math.sqrt(7.848880 * (2500 / 1000 + 2500 / 10_000)) / 2)


def test_items_that_err_together_make_more_needed() -> None:
    found = pair(300, np.random.default_rng(2), languages=True)
    apart = Difference(found.paired, found.unpaired_stderr, found.variance, 1.0, 0)
    many = dict.fromkeys("abc", 10_000)
    assert items_needed(found, many, 3.0).formula == pytest.approx(
        found.design_effect * items_needed(apart, many, 3.0).formula, abs=2
    )
    assert found.design_effect > 1.5


@pytest.mark.parametrize(
    ("ones", "available", "points", "told"),
    [
        (records({"a": [100, 0]}), {"a": 9}, 0.0, "a positive number of points, not 0"),
        (records({"a": [100, 0]}), {"a": 9, "b": 9}, 2.0, "one of them has no 'b'"),
        (records({"a": [0, 0]}), {"a": 9}, 2.0, "2 shared items say nothing"),
        (records({"a": [100]}), {"a": 9}, 2.0, "1 shared items say nothing"),
    ],
)
def test_a_pilot_that_cannot_tell_is_one_clear_line(
    ones: list[Record], available: dict[str, int], points: float, told: str
) -> None:
    pilot = difference(ones, records({"a": [0, 0]}), *BBH)
    with pytest.raises(ConfigError, match=told) as raised:
        items_needed(pilot, available, points)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("in_order", [False, True])
def test_a_smaller_subset_is_part_of_a_larger_one_and_takes_the_same_of_each_subtask(in_order: bool) -> None:
    all_items = items({"a": 30, "b": 4, "c": 11})
    chosen = {size: keys(subset(all_items, size, in_order)) for size in (1, 3, 10, 100)}
    for smaller, larger in ((1, 3), (3, 10), (10, 100)):
        assert set(chosen[smaller]) <= set(chosen[larger])
    assert [sum(key.startswith(task) for key in chosen[10]) for task in "abc"] == [10, 4, 10]
    assert chosen[100] == keys(all_items)
    assert chosen[10] == [key for key in keys(all_items) if key in chosen[10]], "in their order"


def test_a_subset_is_drawn_by_the_items_keys_alone() -> None:
    all_items = items({"a": 30})
    drawn = keys(subset(all_items, 3, in_order=False))
    assert drawn == ["a/2", "a/18", "a/23"]
    assert sorted(keys(subset(all_items[::-1], 3, in_order=False))) == sorted(drawn)
    assert keys(subset(all_items, 3, in_order=True)) == ["a/0", "a/1", "a/2"]


BBH = ("exact", "bbh/cot")
