"""Which sample is shown, and how often a model is preferred: the paper's rule, and an interval that holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from flanscale.evaluation.estimate import wilson
from flanscale.evaluation.preference import Judgement, WinRate, shown, win_rates
from flanscale.evaluation.records import Sample

NAN = float("nan")


def samples(*logprobs: float) -> list[Sample]:
    return [Sample(f"text {number}", None, 9, True, logprob) for number, logprob in enumerate(logprobs)]


def shown_of(*logprobs: float) -> float:
    found = shown(samples(*logprobs))
    assert found is not None
    return found.logprob


def judgement(
    item: str, points: float, rater: str = "ann", *, cluster: str = "", subtask: str = "", failed: Sequence[int] = ()
) -> Judgement:
    return Judgement(item, subtask, cluster, rater, points, (0 in failed, 1 in failed))


def overall(judgements: Sequence[Judgement]) -> WinRate:
    return win_rates(judgements)[0]


def test_the_likeliest_sample_is_shown() -> None:
    assert shown_of(-30, -18, -20, -25, -40) == -18


def test_samples_better_than_half_the_median_are_taken_for_repetition() -> None:
    assert shown_of(-20, -3, -21, -15, -30) == -15, "of a median of -20, -3 goes"
    assert shown_of(-20, -10, -21, -25, -30) == -20, "-10 is better than half of -21"
    assert shown_of(-20, -10, -20, -25, -30) == -10, "half the median itself stays"


def test_length_does_not_count() -> None:
    short, long = (Sample("x", None, tokens, True, logprob) for tokens, logprob in ((2, -18.0), (90, -20.0)))
    assert shown([long, short]) is short


def test_of_equals_the_first_is_shown() -> None:
    found = shown(samples(-9, -8, -8))
    assert found is not None
    assert found.text == "text 1"


@pytest.mark.parametrize("alone", [-7.0, 0.0, 1e-7])
def test_some_sample_is_always_shown(alone: float) -> None:
    assert shown_of(alone) == alone
    assert shown_of(alone, alone) == alone


def test_a_sample_without_a_finite_log_probability_is_never_shown() -> None:
    assert shown_of(NAN, -20, -math.inf, -15) == -15
    assert shown(samples(NAN, math.inf)) is None
    assert shown([]) is None


def test_a_tie_counts_as_half() -> None:
    found = overall([judgement("a", 1), judgement("b", 0.5), judgement("c", 0), judgement("d", 1)])
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.share == 62.5


def test_every_item_counts_once_however_many_judge_it() -> None:
    found = overall([judgement("a", 1), *(judgement("b", 0, rater) for rater in ("ann", "bob", "cy"))])
    assert (found.items, found.judgements, found.share) == (2, 4, 50)


def test_failures_are_counted_apart_for_each_model() -> None:
    found = overall(
        [
            judgement("a", 1, failed=[1]),
            judgement("b", 0.5, failed=[0, 1]),
            judgement("c", 1, "ann", failed=[1]),
            judgement("c", 1, "bob"),
            judgement("d", 0),
        ]
    )
    assert found.failed == (25, 62.5)


def test_each_subtask_has_a_win_rate_of_its_own_behind_that_of_all() -> None:
    mixed = [judgement("a", 1, subtask="plans"), judgement("b", 0, subtask="poems"), judgement("c", 0, subtask="plans")]
    found = win_rates(mixed)
    assert [(each.subtask, each.items, each.share) for each in found] == [
        ("", 3, pytest.approx(100 / 3)),
        ("plans", 2, 50),
        ("poems", 1, 0),
    ]
    assert len(win_rates(mixed[:1])) == 1, "one subtask is all there is"
    assert win_rates([]) == []


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(0, 10, 0.0, 27.75), (5, 10, 23.66, 76.34), (10, 10, 72.25, 100.0), (81, 263, 25.53, 36.62)],
)
def test_the_interval_of_single_judgements_is_wilsons(wins: int, n: int, low: float, high: float) -> None:
    """81 of 263 is the example of Newcombe (1998, Statistics in Medicine 17:857), table I: .2553 to .3662."""
    assert [100 * bound for bound in wilson(wins / n, n)] == pytest.approx([low, high], abs=0.005)
    found = overall([judgement(f"{item}", float(item < wins)) for item in range(n)])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.005)


def test_more_opinions_on_one_item_are_no_more_items() -> None:
    once = [judgement(f"{item}", float(item < 12)) for item in range(20)]
    echoed = [judgement(f"{item}", float(item < 12), rater) for item in range(20) for rater in ("ann", "bob", "cy")]
    assert width(echoed) >= width(once)
    agreed = [judgement(f"{item}", 1, rater) for item in range(9) for rater in ("ann", "bob")]
    assert width(agreed) == width(agreed[::2])
    split = [judgement(f"{item}", float(rater < 3), f"{rater}") for item in range(20) for rater in range(5)]
    assert width(split) < width(once), "raters who differ on every item say more than one does"


def test_a_tie_says_no_more_than_a_choice() -> None:
    found = overall([judgement("a", 1), *(judgement(f"{item}", 0.5) for item in range(9))])
    assert (found.low / 100, found.high / 100) == pytest.approx(wilson(0.55, 10))


def test_items_of_one_cluster_are_one_opinion() -> None:
    apart = [judgement(f"{item}", float(item < 20)) for item in range(40)]
    together = [judgement(f"{item}", float(item < 20), cluster=f"{item // 4}") for item in range(40)]
    assert width(together) > 1.5 * width(apart)


def test_an_interval_never_closes_on_a_few_equal_judgements() -> None:
    assert width([judgement(f"{item}", 0.5) for item in range(5)]) > 50
    assert width([judgement("a", 1, "ann"), judgement("a", 1, "bob")]) > 50, "one item is one, however many judge it"
    assert overall([judgement("a", 1)]).high == 100


def width(judgements: Sequence[Judgement]) -> float:
    found = overall(judgements)
    return found.high - found.low


@pytest.mark.parametrize(("items", "raters", "tied"), [(20, 1, 0.0), (30, 3, 0.0), (30, 3, 0.2), (5, 20, 0.0)])
def test_the_interval_holds_the_truth_in_95_of_100_studies(items: int, raters: int, tied: float) -> None:
    """Items differ in how often the first model is preferred, from never to always. An interval that takes judgements
    of one item for independent holds the truth in 84 of 100 studies with three raters, and in 43 with twenty.
    """
    draw, studies, truth = np.random.default_rng(13), 500, 0.6 * (1 - tied) + 0.5 * tied
    held = 0
    for _ in range(studies):
        preferred = draw.beta(0.6, 0.4, (items, 1)) > draw.random((items, raters))
        points = np.where(draw.random((items, raters)) < tied, 0.5, preferred)
        found = overall([judgement(f"{i}", float(points[i, r]), f"{r}") for i in range(items) for r in range(raters)])
        held += found.low <= 100 * truth <= found.high
    assert 0.92 <= held / studies <= 0.99
