"""Smooth measures of ranked options, worked out by hand; and rankings that never fall back on the first option."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from answered import option, record

from flanscale.errors import ConfigError
from flanscale.evaluation.records import Option, Record
from flanscale.evaluation.smooth import RANKINGS, accuracies, is_right, rank, smooth

NAN, INF = math.nan, math.inf


def ranked(key: str, *probabilities: float, gold: int = 0, **changed: Any) -> Record:
    options = tuple(option(math.log(p), bytes=4) for p in probabilities)
    return record(key, options=options, gold=gold, **changed)


def test_each_measure_is_that_of_its_definition() -> None:
    measured = smooth([ranked("a/0", 0.2, 0.1)])
    assert measured.bits_per_byte.value == pytest.approx(-math.log2(0.2) / 4)
    assert measured.log_gold.value == pytest.approx(math.log(0.2))
    assert measured.share_gold.value == pytest.approx(2 / 3)
    assert measured.mass.value == pytest.approx(0.3)
    assert measured.brier.value == pytest.approx((2 / 3 - 1) ** 2 + (1 / 3) ** 2)
    assert smooth([ranked("a/0", 0.2, 0.1, gold=1)]).brier.value == pytest.approx(2 * (2 / 3) ** 2)


def test_they_are_means_over_subtasks_with_the_errors_of_scores() -> None:
    answered = [ranked("a/0", 0.5, 0.5), ranked("a/1", 0.25, 0.25), ranked("b/0", 0.125, 0.125)]
    bits = smooth(answered).bits_per_byte
    assert bits.value == pytest.approx((np.mean([1, 2]) + 3) / 2 / 4)
    assert bits.stderr == pytest.approx(np.std([1, 2], ddof=1) / np.sqrt(2) / 2 / 4)
    together = smooth([ranked("a/0", 0.5, 0.5, cluster="c"), ranked("a/1", 0.25, 0.25, cluster="c")])
    assert together.bits_per_byte.stderr == pytest.approx(0)


def test_options_that_are_too_unlikely_for_a_probability_still_have_shares() -> None:
    measured = smooth([record("a/0", options=(option(-2000.0), option(-2000.0 - math.log(3))), gold=0)])
    assert measured.share_gold.value == pytest.approx(0.75)
    assert measured.mass.value == 0.0


def test_items_that_are_not_finite_are_counted_and_left_out() -> None:
    broken = record("a/1", options=(option(-1.0), option(NAN)), gold=0)
    free, skipped = record("a/2"), ranked("a/3", 0.5, 0.1, status="skipped")
    measured = smooth([ranked("a/0", 0.5, 0.25), broken, free, skipped])
    assert (measured.log_gold.n, measured.failures) == (1, 1)
    with pytest.raises(ConfigError, match="1 of 2 items have ranked options, none with finite"):
        smooth([broken, free])


def test_each_ranking_takes_its_own_option() -> None:
    options = (
        option(-4.0, unconditional=-6.0, tokens=1, bytes=1),
        option(-6.0, unconditional=-6.0, tokens=6, bytes=4),
        option(-8.0, unconditional=-6.0, tokens=4, bytes=16),
        option(-9.0, unconditional=-20.0, tokens=1, bytes=4),
    )
    assert {by: rank(options, by) for by in RANKINGS} == {"sum": 0, "per_token": 1, "per_byte": 2, "pmi": 3}


@pytest.mark.parametrize("by", RANKINGS)
@pytest.mark.parametrize(
    "options",
    [
        (option(-2.0), option(NAN)),
        (option(-INF), option(-1.0)),
        (option(NAN), option(NAN)),
        (option(-2.0), option(-2.0)),
        (option(-2.0, tokens=1, bytes=1, unconditional=-1), option(-2.0, tokens=3, bytes=3, unconditional=-2)),
    ],
)
def test_options_that_are_not_finite_or_all_alike_are_not_ranked(options: tuple[Option, ...], by: str) -> None:
    assert rank(options, by) is None


def test_options_alike_once_something_is_taken_off_are_not_ranked_by_that() -> None:
    options = (option(-2.0, unconditional=-2.0), option(-3.0, unconditional=-3.0))
    assert (rank(options, "pmi"), rank(options, "sum")) == (None, 0)
    unknown = (option(-2.0, unconditional=NAN), option(-3.0, unconditional=NAN))
    assert (rank(unknown, "pmi"), rank(unknown, "sum")) == (None, 0)


def test_another_option_of_the_same_text_is_right_too() -> None:
    assert is_right(("9", "4", "9"), 2, 0)
    assert not is_right(("9", "4", "9"), 1, 0)
    assert not is_right(("9", "4", "9"), None, 0)


def test_accuracy_stands_under_every_ranking_with_one_headline() -> None:
    first = record("a/0", options=(option(-1.0, tokens=1, bytes=2), option(-2.0, tokens=4, bytes=2)), gold=0)
    twice = record("a/1", options=(option(-3.0), option(-1.0), option(-2.0)), gold=0)
    broken = record("b/0", options=(option(-1.0), option(-1.0)), gold=0)
    texts = {"a/0": ("x", "y"), "a/1": ("x", "x", "y"), "b/0": ("x", "y")}
    found = accuracies([first, twice, broken], texts, "per_byte")
    assert {name: one.value for name, one in found.by.items()} == {
        "sum": 50,
        "per_token": 25,
        "per_byte": 50,
        "pmi": 50,
    }
    assert (found.headline, found.by["sum"].binary) == ("per_byte", True)
    with pytest.raises(ConfigError, match="none of 1 items has ranked options"):
        accuracies([record("a/0")], {}, "sum")


def test_pmi_is_left_out_where_nothing_unconditional_is_known() -> None:
    unknown = record("a/0", options=(option(-1.0, unconditional=NAN), option(-2.0, unconditional=NAN)), gold=0)
    assert list(accuracies([unknown], {"a/0": ("x", "y")}, "sum").by) == ["sum", "per_token", "per_byte"]
