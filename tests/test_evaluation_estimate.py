"""A mean of subtasks' means: its standard error is what many samples show, also where items err together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from flanscale.evaluation.estimate import Estimate, combined_stderr, interval, macro_mean

LANGUAGES, PROBLEMS = 5, 40


def shares(right: int, wrong: int, *, times: int = 1) -> Estimate:
    """One subtask, in which every cluster is `times` items that are answered alike."""
    values = [100.0] * right * times + [0.0] * wrong * times
    return macro_mean(values, ["a"] * len(values), [at // times for at in range(len(values))], binary=True)


def repeated(draw: Callable[[np.random.Generator], Estimate]) -> tuple[float, float]:
    """(standard deviation of the estimates of many samples, the mean of their standard errors)."""
    rng = np.random.default_rng(0)
    estimates = [draw(rng) for _ in range(600)]
    return float(np.std([one.value for one in estimates], ddof=1)), float(np.mean([one.stderr for one in estimates]))


def test_subtasks_weigh_the_same_whatever_their_size() -> None:
    estimate = macro_mean([100.0, 0.0, 0.0, 0.0, 100.0], ["a"] * 4 + ["b"], range(5))
    assert estimate.value == pytest.approx((25 + 100) / 2)
    assert (dict(estimate.means), estimate.n) == ({"a": 25.0, "b": 100.0}, 5)


def test_without_clusters_the_error_is_that_of_a_stratified_sample() -> None:
    one, other = [1.0, 4.0, 4.0], [2.0, 9.0]
    estimate = macro_mean(one + other, ["a"] * 3 + ["b"] * 2, range(5))
    assert estimate.stderr == pytest.approx(np.sqrt(np.var(one, ddof=1) / 3 + np.var(other, ddof=1) / 2) / 2)
    assert estimate.stderr_tasks == pytest.approx(np.std([3.0, 5.5], ddof=1) / np.sqrt(2))


def test_an_item_asked_twice_is_one_item() -> None:
    assert shares(3, 4, times=2).stderr == pytest.approx(shares(3, 4).stderr)
    assert shares(3, 4, times=2).effective == pytest.approx(7)


def test_the_error_is_right_where_clusters_cross_subtasks() -> None:
    """One problem in several languages."""

    def draw(rng: np.random.Generator, cluster: Callable[[int, int], object] = lambda _, problem: problem) -> Estimate:
        hard = rng.normal(size=PROBLEMS)
        pairs = [(language, problem) for language in range(LANGUAGES) for problem in range(PROBLEMS)]
        right = [100.0 * (hard[problem] + 0.5 * rng.normal() > language / 4 - 0.5) for language, problem in pairs]
        return macro_mean(right, [str(language) for language, _ in pairs], [cluster(*pair) for pair in pairs])

    observed, told = repeated(draw)
    assert told == pytest.approx(observed, rel=0.08)
    _, naive = repeated(lambda rng: draw(rng, lambda *pair: pair))
    assert naive < 0.6 * observed


def test_the_error_is_right_where_clusters_lie_inside_subtasks() -> None:
    """Several questions about one passage."""

    def draw(rng: np.random.Generator, together: bool = True) -> Estimate:
        values, subtasks, clusters = [], [], []
        for passage in range(120):
            hard = rng.normal()
            for _ in range(1 + rng.poisson(2)):
                values.append(100.0 * (hard + 0.5 * rng.normal() > passage % 3 - 1))
                subtasks.append(str(passage % 3))
                clusters.append(passage if together else -len(values))
        return macro_mean(values, subtasks, clusters)

    observed, told = repeated(draw)
    assert told == pytest.approx(observed, rel=0.08)
    _, naive = repeated(lambda rng: draw(rng, together=False))
    assert naive < 0.75 * observed


def test_the_error_of_a_difference_follows_from_the_influences_of_both() -> None:
    one, other = [1.0, 5.0, 2.0, 2.0], [0.0, 4.0, 4.0, 1.0]
    first, second = (macro_mean(values, ["a"] * 4, range(4)) for values in (one, other))
    apart = macro_mean([a - b for a, b in zip(one, other, strict=True)], ["a"] * 4, range(4))
    assert combined_stderr([(1, first.influence), (-1, second.influence)]) == pytest.approx(apart.stderr)


@pytest.mark.parametrize(
    ("right", "wrong", "low", "high"),
    [(0, 10, 0.0, 27.75), (5, 5, 23.66, 76.34), (1, 9, 1.79, 40.42), (90, 9, 83.62, 95.14)],
)
def test_below_100_items_the_interval_of_a_share_is_wilsons(right: int, wrong: int, low: float, high: float) -> None:
    assert interval(shares(right, wrong)) == pytest.approx((low, high), abs=0.006)
    assert interval(shares(right, wrong, times=20)) == pytest.approx((low, high), abs=0.006), "of clusters"


def test_subtasks_that_differ_do_not_make_more_items_than_were_asked() -> None:
    values = [100.0] * 10 + [100.0] + [0.0] * 9
    estimate = macro_mean(values, ["easy"] * 10 + ["hard"] * 10, range(20), binary=True)
    assert interval(estimate) == pytest.approx(interval(shares(11, 9)))


def test_from_100_items_on_the_interval_is_normal_within_0_and_100() -> None:
    many = shares(50, 50)
    assert interval(many) == pytest.approx((50 - 1.95996 * many.stderr, 50 + 1.95996 * many.stderr))
    assert interval(shares(1, 250))[0] == 0.0


def test_many_items_that_are_all_wrong_do_not_prove_that_none_is_right() -> None:
    low, high = interval(shares(0, 250))
    assert low == 0.0
    assert high == pytest.approx(1.51, abs=0.01)


def test_points_that_are_no_shares_have_a_normal_interval() -> None:
    estimate = macro_mean([-3.0, -1.0], ["a", "a"], [0, 1])
    assert interval(estimate, 0.9) == pytest.approx((-2 - 1.64485, -2 + 1.64485), abs=1e-4)


def test_subtasks_of_one_item_each_are_a_sample_too() -> None:
    """Collapsed to one stratum, their error is that of a plain sample, and no certainty."""
    values = [100.0 * (n % 3 == 0) for n in range(12)]
    one_each = macro_mean(values, [f"t{n}" for n in range(12)], list(range(12)), binary=True)
    assert one_each.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(12))
    mixed = macro_mean([*values, 0.0, 100.0], [*(["a"] * 12), "b", "c"], list(range(14)), binary=True)
    alone = macro_mean(values, ["a"] * 12, list(range(12)), binary=True)
    assert mixed.stderr == pytest.approx(math.sqrt(alone.stderr**2 / 9 + 2 * (50 / 3 * math.sqrt(2)) ** 2))
