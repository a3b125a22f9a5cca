"""What fits promise: known truths come back with honest intervals, and what cannot be known is no number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import lmfit
import numpy as np
import pytest

from analysis import comparison, figures, published, scaling
from analysis.profile import CEILING, Data
from analysis.scaling import Fit

COUNTS = np.array([9, 30, 89, 282, 700, 1836.0])
CEILINGS, DROPS = (22.0, 40.0, 55.0, 60.0), (25.0, 30.0, 30.0, 20.0)
NAMES = ("a", "b", "c", "d")
FEW = "too_few_points"

Form = Callable[[int, np.ndarray], np.ndarray]


def law(exponent: float | Sequence[float]) -> Form:
    exponents = [exponent] * 4 if isinstance(exponent, float) else exponent
    return lambda s, n: CEILINGS[s] - DROPS[s] * n ** -exponents[s]


def runs(
    form: Form, *, curves: int = 4, seeds: int = 3, spread: float = 0.7, counts: np.ndarray = COUNTS, rng: int = 0
) -> Data:
    """Runs of a study whose truth is `form(curve, counts)`."""
    random = np.random.default_rng(rng)
    shape = (curves, seeds, len(counts))
    truth = np.stack([form(s, counts) for s in range(curves)])[:, None]
    score = truth + spread * random.normal(size=shape)
    number, count = np.broadcast_to(np.arange(curves)[:, None, None], shape), np.broadcast_to(counts, shape)
    weight = np.full(score.size, 1 / max(spread, 1e-3) ** 2)
    return Data(number.ravel(), count.ravel(), score.ravel(), weight)


def fit_all(data: Data) -> dict[str, Fit]:
    return {form: scaling.fit(form, data, NAMES[: data.curves]) for form in scaling.FORMS}


def compare(data: Data, spread: float = 0.7) -> comparison.Comparison:
    return comparison.compare(data, NAMES[: data.curves], fit_all(data), np.full(len(data.score_N), spread**2))


def test_a_noiseless_power_law_is_recovered() -> None:
    fit = scaling.fit("power_law", runs(law(0.35), spread=1e-6), NAMES)
    assert fit.ok
    assert fit.parameter("b").value == pytest.approx(0.35, abs=1e-4)
    for name, c, a in zip(NAMES, CEILINGS, DROPS, strict=True):
        assert fit.parameter("c", name).value == pytest.approx(c, abs=1e-3)
        assert fit.parameter("a", name).value == pytest.approx(a, abs=1e-2)
    assert fit.predict("b", np.array([50.0])) == pytest.approx(40 - 30 * 50**-0.35, abs=1e-4)


@pytest.mark.parametrize(("curves", "spread"), [(4, 0.7), (1, 0.4)])
def test_intervals_and_bands_cover_the_truth_as_often_as_they_say(curves: int, spread: float) -> None:
    hits = np.zeros(3)
    repeats = 120
    for number in range(repeats):
        fit = scaling.fit("power_law", runs(law(0.35), curves=curves, spread=spread, rng=number), NAMES[:curves])
        b, c = fit.parameter("b"), fit.parameter("c", "a")
        (low,), (high,) = fit.band("a", np.array([200.0]))
        hits += [
            (b.low or 0) < 0.35 < (b.high or math.inf),
            (c.low or 0) < CEILINGS[0] < (c.high or math.inf),
            low < CEILINGS[0] - DROPS[0] * 200**-0.35 < high,
        ]
    assert (hits / repeats > 0.89).all()  # nominal 0.95, standard error 0.02
    assert (hits / repeats < 0.995).all()


def test_intervals_agree_with_lmfit() -> None:
    data = runs(law(0.35), curves=1, spread=0.4)
    ours = scaling.fit("power_law", data, ["a"])

    def residual(p: lmfit.Parameters) -> np.ndarray:
        return np.sqrt(data.weight_N) * (data.score_N - p["c"] + p["a"] * data.count_N ** -p["b"])

    start = lmfit.Parameters()
    start.add_many(("c", 25.0), ("a", 20.0), ("b", 0.5))
    minimizer = lmfit.Minimizer(residual, start)
    theirs = minimizer.minimize()
    intervals = lmfit.conf_interval(minimizer, theirs, sigmas=[0.95])
    for name in ("a", "b", "c"):
        parameter = ours.parameter(name, None if name == "b" else "a")
        assert parameter.value == pytest.approx(theirs.params[name].value, rel=1e-4)
        assert parameter.low == pytest.approx(intervals[name][0][1], rel=5e-3)
        assert parameter.high == pytest.approx(intervals[name][-1][1], rel=5e-3)


def odds(alpha: float = -4.5, beta: float = 2.2) -> Form:
    """From about 5 to 95 over the counts, where nothing else is said."""
    return lambda s, n: 100 / (1 + np.exp(-(alpha + 0.3 * s + beta * np.log10(n))))


@pytest.mark.parametrize(("alpha", "beta"), [(-4.5, 2.2), (-4.8, 1.0), (1.5, 0.6), (2.0, -1.2)])
def test_intervals_in_log_odds_agree_with_lmfit(alpha: float, beta: float) -> None:
    data = runs(odds(alpha, beta), curves=1, spread=1.5)
    ours = scaling.fit("logistic", data, ["a"])

    def residual(p: lmfit.Parameters) -> np.ndarray:
        share = 1 / (1 + np.exp(-(p["alpha"] + p["beta"] * np.log10(data.count_N))))
        return np.sqrt(data.weight_N) * (data.score_N - 100 * share)

    start = lmfit.Parameters()
    start.add_many(("alpha", alpha + 0.5), ("beta", beta))
    minimizer = lmfit.Minimizer(residual, start)
    theirs = minimizer.minimize()
    intervals = lmfit.conf_interval(minimizer, theirs, sigmas=[0.95])
    assert ours.sse == pytest.approx(theirs.chisqr, rel=1e-9)
    for name in ("alpha", "beta"):
        parameter = ours.parameter(name, "a")
        assert parameter.value == pytest.approx(theirs.params[name].value, rel=1e-4)
        assert parameter.low == pytest.approx(intervals[name][0][1], rel=2e-3)
        assert parameter.high == pytest.approx(intervals[name][-1][1], rel=2e-3)


def test_the_band_in_odds_covers_the_truth_as_often_as_it_says_and_stays_in_bounds() -> None:
    hits, at = [], np.array([9.0, 200.0, 1836.0])
    for number in range(150):
        fit = scaling.fit("logistic", runs(odds(), curves=2, spread=2.0, counts=COUNTS[::2], rng=number), NAMES[:2])
        low, high = fit.band("a", at)
        assert (low >= 0).all()
        assert (high <= 100).all()
        hits.append((low < odds()(0, at)) & (odds()(0, at) < high))
    assert (np.mean(hits, axis=0) > 0.89).all()  # nominal 0.95, standard error 0.02
    assert np.mean(hits) < 0.995


def test_a_curve_on_a_bound_or_with_a_jump_has_no_odds_but_spoils_nothing() -> None:
    for nothing in (lambda s, n: np.full_like(n, -1.0), lambda s, n: 100.0 * (n > 100), lambda s, n: 95.0 * (n > 1000)):
        fit = scaling.fit("logistic", runs(nothing, curves=1, spread=0.1), ["a"])
        assert (fit.status, fit.parameters) == ("degenerate", ())
    fit = scaling.fit("logistic", runs(lambda s, n: odds()(s, n) if s else np.zeros_like(n), curves=2), NAMES[:2])
    assert fit.ok
    assert (fit.parameter("beta", "a").status, fit.parameter("beta", "a").value) == ("degenerate", None)
    assert fit.parameter("beta", "b").value == pytest.approx(2.2, abs=0.1)
    assert fit.predict("a", COUNTS) == pytest.approx(0, abs=0.3)


def test_what_the_odds_do_not_bound_has_open_ends() -> None:
    """Scores on the floor but for the last count: how much lower the others are is not told."""
    rising = runs(lambda s, n: 40.0 * (n > 1000) + 2.0 * (n > 500) * (n < 1000), curves=1, spread=3.0)
    beta = scaling.fit("logistic", rising, ["a"]).parameter("beta", "a")
    assert beta.high is None
    assert beta.low is not None


def test_log_linear_growth_in_odds_stands_for_that_in_points_only_near_a_bound() -> None:
    near = compare(runs(odds(), spread=2.0), spread=2.0)
    assert (near.best, near.verdict) == ("logistic", "preferred")
    assert (near.error["logistic"] or 0) < (near.error["log_linear"] or 0) / 3
    middle = runs(lambda s, n: 38 + 2 * s + 8 * np.log10(n / 9), spread=0.7)
    judged, fits = compare(middle), fit_all(middle)
    assert abs(fits["logistic"].aicc - fits["log_linear"].aicc) < comparison.NEAR_A_BOUND
    assert (judged.best, judged.verdict) == ("log_linear", "preferred")


def test_the_papers_table_gives_the_values_computed_elsewhere() -> None:
    """Shared b = .210 at SSE 8.29, separate .193/.173/.501; without 1,836 tasks "no change" errs by 1.4/0.9/1.0."""
    panel = published.task_count_panel()
    shared = panel.fits["power_law"]
    assert shared.sse == pytest.approx(8.29, abs=0.005)
    assert shared.parameter("b").value == pytest.approx(0.210, abs=0.001)
    for size, c, a in (("8B", 29.24, 33.56), ("62B", 44.09, 24.29), ("540B", 61.82, 14.15)):
        assert shared.parameter("c", size).value == pytest.approx(c, abs=0.05)
        assert shared.parameter("a", size).value == pytest.approx(a, abs=0.05)
    assert panel.comparison.error["hold"] == pytest.approx(math.sqrt((1.4**2 + 0.9**2 + 1.0**2) / 3), abs=0.01)
    predicted = np.array([26.3, 41.9, 60.8]) - np.array([21.9, 38.8, 58.5])
    assert panel.comparison.error["log_linear"] == pytest.approx(math.sqrt((predicted**2).mean()), abs=0.05)
    assert (panel.comparison.best, panel.comparison.verdict) == (comparison.UNCHANGED, "preferred")
    assert panel.comparison.sentence.startswith("No change since the last count is preferred")
    assert panel.drawn is panel.fits["power_law"]
    assert figures.fit_text(panel).startswith("flat end preferred; b = 0.21 ")


def test_ceilings_stay_below_100_and_say_that_they_hit_it() -> None:
    fit = scaling.fit("power_law", runs(lambda s, n: 104 - 60 * n**-0.3, curves=1, spread=0.2), ["a"])
    assert fit.ok
    ceiling = fit.parameter("c", "a")
    assert (ceiling.value, ceiling.status, ceiling.high) == (None, "bound:c", None)
    assert fit.predict("a", COUNTS).max() < CEILING


def test_a_log_linear_truth_gives_no_exponent_and_no_ceiling() -> None:
    fit = scaling.fit("power_law", runs(lambda s, n: 5 + 6 * np.log10(n), curves=1, spread=0.01), ["a"])
    assert fit.status == "bound:b"
    assert [(each.name, each.value) for each in fit.parameters] == [("b", None)]
    assert fit.predict("a", np.array([4000.0])) == pytest.approx(5 + 6 * math.log10(4000), abs=1)  # the curve is fine


def test_a_curve_that_does_not_rise_is_degenerate() -> None:
    fit = scaling.fit("power_law", runs(lambda s, n: 30 - 3 * np.log10(n), curves=2, spread=0.1), NAMES[:2])
    assert (fit.status, fit.parameters) == ("degenerate", ())


def test_a_falling_curve_among_rising_ones_has_no_ceiling_but_spoils_nothing() -> None:
    data = runs(lambda s, n: law(0.35)(s, n) if s else 20 - np.log10(n), curves=3, spread=0.2)
    fit = scaling.fit("power_law", data, NAMES[:3])
    assert fit.ok
    assert fit.parameter("c", "a").status == fit.parameter("a", "a").status == "degenerate"
    assert fit.parameter("c", "a").value is None
    assert fit.parameter("b").value == pytest.approx(0.35, abs=0.1)


@pytest.mark.parametrize(
    ("counts", "curves", "status"),
    [
        ([9.0], 1, {"hold": "ok", "plateau": FEW, "log_linear": FEW, "logistic": FEW, "power_law": FEW}),
        ([9.0, 89.0], 4, {"hold": "ok", "plateau": FEW, "log_linear": "ok", "logistic": "ok", "power_law": FEW}),
        (
            [9.0, 89.0, 282.0],
            1,
            {"hold": "ok", "plateau": "ok", "log_linear": "ok", "logistic": "ok", "power_law": "ok"},
        ),
    ],
)
def test_too_few_counts_are_a_status(counts: list[float], curves: int, status: dict[str, str]) -> None:
    data = runs(law(0.35), counts=np.array(counts), curves=curves)
    fits = fit_all(data)
    assert {form: fit.status for form, fit in fits.items()} == status
    for fit in (fit for fit in fits.values() if not fit.ok):
        with pytest.raises(ValueError, match="too_few_points"):
            fit.predict("a", COUNTS)


def test_a_single_run_a_count_leaves_nothing_to_judge_three_parameters_by() -> None:
    data = runs(law(0.35), counts=COUNTS[:3], curves=1, seeds=1)
    assert scaling.fit("power_law", data, ["a"]).status == "too_few_points"


def test_scores_that_are_not_numbers_are_a_status() -> None:
    data = runs(law(0.35))
    data.score_N[3] = np.nan
    fit = scaling.fit("power_law", data, NAMES)
    assert (fit.status, fit.sse, fit.parameters) == ("nonfinite", None, ())


def test_an_exponent_that_the_data_do_not_bound_has_open_ends() -> None:
    fit = scaling.fit("power_law", runs(law(0.35), curves=1, seeds=1, spread=3.0, rng=3), ["a"])
    b = fit.parameter("b")
    assert None in (b.low, b.high)


def test_a_shape_of_which_every_value_fits_is_no_number() -> None:
    """Three counts leave one place where the rise may end: that it is there was not found, but assumed."""
    data = runs(lambda s, n: 30 + 8 * np.minimum(np.log10(n / 89), 0), counts=COUNTS[[0, 2, 5]])
    fit = scaling.fit("plateau", data, NAMES)
    k = fit.parameter("k")
    assert (k.value, k.low, k.high, k.status) == (None, None, None, "not bounded")
    assert fit.ok
    assert not fit.located
    assert fit.parameter("c", "a").value == pytest.approx(30, abs=1)
    wide = scaling.fit("power_law", runs(law(0.35), curves=1, seeds=1, spread=9.0, rng=5), ["a"])
    assert wide.parameter("b").status in ("not bounded", "bound:b")
    assert wide.parameter("b").value is None
    found = scaling.fit("plateau", runs(lambda s, n: 30 + 8 * np.minimum(np.log10(n / 150), 0)), NAMES)
    assert found.parameter("k").status == "ok"
    assert found.parameter("k").value == pytest.approx(150, rel=0.1)
    assert found.located


def test_weights_count_as_many_equal_runs() -> None:
    data = runs(law(0.35), curves=1)
    twice = np.concatenate([np.arange(18), [4]])
    repeated = Data(*(values[twice] for values in (data.curve_N, data.count_N, data.score_N, data.weight_N)))
    weighted = Data(data.curve_N, data.count_N, data.score_N, data.weight_N * (1 + (np.arange(18) == 4)))
    one, other = (scaling.fit("power_law", each, ["a"]) for each in (repeated, weighted))
    assert one.parameter("b").value == pytest.approx(other.parameter("b").value, rel=1e-6)


def test_the_true_form_is_preferred() -> None:
    rising = compare(runs(law(0.35), spread=0.4), spread=0.4)
    assert (rising.best, rising.verdict) == ("power_law", "preferred")
    straight = compare(runs(lambda s, n: 5 + (3 + s) * np.log10(n), spread=0.2), spread=0.2)
    assert straight.best != "hold"
    flat = compare(runs(lambda s, n: np.full_like(n, 20.0 + s), spread=0.1), spread=0.1)
    assert flat.best == "hold"


def test_a_difference_below_the_noise_is_a_tie() -> None:
    judged = compare(runs(law(0.35), spread=6.0, rng=1), spread=6.0)
    assert judged.verdict in ("tied", "not identifiable")


def test_a_form_is_not_preferred_for_failing_less_than_the_others() -> None:
    sudden = compare(runs(lambda s, n: 5 + 40.0 * (n > 1000), spread=0.5), spread=0.5)
    assert sudden.verdict == "not identifiable"
    assert "no form predicts it" in sudden.reason


def test_three_counts_of_one_curve_do_not_identify_a_form() -> None:
    judged = compare(runs(law(0.35), curves=1, counts=np.array([8.0, 64.0, 512.0])))
    assert judged.verdict == "not identifiable"
    assert judged.error["power_law"] is None
    assert judged.error["hold"] is not None
    assert judged.held_out_count == 512


def test_holding_predicts_the_mean_at_the_largest_count_seen() -> None:
    data = runs(law(0.35), curves=1)
    rest = data.select(data.count_N < 1836)
    assert comparison.hold(rest, 0) == pytest.approx(data.score_N[data.count_N == 700].mean())


def test_aicc_is_withheld_where_its_correction_decides() -> None:
    assert scaling.fit("power_law", runs(law(0.35), curves=1, seeds=1), ["a"]).aicc is None  # 6 − 4 − 1 = 1
    fit = scaling.fit("log_linear", runs(law(0.35), curves=1, seeds=2), ["a"])
    assert fit.aicc == pytest.approx(12 * math.log(fit.sse / 12) + 2 * 3 + 2 * 3 * 4 / 8)


def test_one_exponent_for_all_is_rejected_only_where_it_is_wrong() -> None:
    same, different = runs(law(0.35), spread=0.3), runs(law([0.15, 0.35, 0.7, 1.2]), spread=0.3)
    p_same, p_different = (
        scaling.shared_exponent_p(data, NAMES, scaling.fit("power_law", data, NAMES)) for data in (same, different)
    )
    assert p_same is not None
    assert p_different is not None
    assert p_different < 0.001 < 0.01 < p_same


def test_a_curve_without_the_largest_count_is_fitted_but_not_scored_there() -> None:
    data = runs(law(0.35), curves=2)
    data = data.select((data.curve_N == 0) | (data.count_N < 1836))
    assert compare(data).error["power_law"] is not None


def losses(form: Form, *, spread: float = 0.01, rng: int = 0) -> Data:
    """Runs whose loss is `form(curve, counts)`, of two curves."""
    return replace(runs(form, curves=2, spread=spread, rng=rng), falls=True)


def falling(s: int, n: np.ndarray) -> np.ndarray:
    """To a floor of 1.2 bits per byte, and of 0.9."""
    return 1.2 - 0.3 * s + (1.1 - 0.2 * s) * n**-0.4


def test_losses_fall_to_a_floor_that_comes_back_with_honest_intervals() -> None:
    hits = []
    for number in range(60):
        data = losses(falling, rng=number)
        law = scaling.fit("power_law", data, NAMES[:2])
        assert law.ok
        b, c, a = law.parameter("b"), law.parameter("c", "a"), law.parameter("a", "a")
        low, high = law.band("a", np.array([200.0]))
        truth = [(b, 0.4), (c, 1.2), (a, 1.1)]
        hits.append([(each.low or 0) < true < (each.high or math.inf) for each, true in truth])
        hits[-1].append(bool(low[0] < falling(0, np.array([200.0]))[0] < high[0]))
    assert (np.mean(hits, axis=0) > 0.86).all()  # nominal 0.95, standard error 0.03
    judged = compare(losses(falling), spread=0.01)
    assert (judged.best, judged.verdict) == ("power_law", "preferred")
    assert "points" not in judged.sentence


def test_losses_are_scores_with_their_sign_turned() -> None:
    data = losses(falling)
    turned = replace(data, score_N=100 - data.score_N, falls=False)
    for form in ("hold", "plateau", "log_linear", "power_law"):
        fell, rose = (scaling.fit(form, each, NAMES[:2]) for each in (data, turned))
        assert fell.sse == pytest.approx(rose.sse)
        assert fell.predict("b", COUNTS) == pytest.approx(100 - rose.predict("b", COUNTS))
        for one, other in zip(fell.band("b", COUNTS), reversed(rose.band("b", COUNTS)), strict=True):
            assert one == pytest.approx(100 - other)
        for one, other in zip(fell.parameters, rose.parameters, strict=True):
            assert (one.name, one.curve, one.status) == (other.name, other.curve, other.status)
    slope = scaling.fit("log_linear", data, NAMES[:2]).parameter("beta", "a")
    assert slope.high < 0
    assert slope.low < slope.value < slope.high


def test_a_loss_has_no_odds_no_floor_below_zero_and_its_rise_no_law() -> None:
    assert scaling.fit("logistic", losses(falling), NAMES[:2]).status == "unbounded scale"
    near_zero = scaling.fit("power_law", losses(lambda s, n: 2 * n**-0.2, spread=0.05), NAMES[:2])
    assert (near_zero.predict("a", np.array([1e9])) >= 0).all()
    assert scaling.fit("power_law", losses(lambda s, n: 1 + 0.1 * np.log10(n)), NAMES[:2]).status == "degenerate"


def test_what_ends_is_a_fall_of_losses() -> None:
    ends = compare(losses(lambda s, n: 1.5 - s * 0.2 + 0.3 * np.maximum(0, 2 - np.log10(n))), spread=0.01)
    assert ends.sentence.startswith("A fall that ends is preferred")
    steady = compare(losses(lambda s, n: 1.5 - s * 0.2 - 0.1 * np.log10(n)), spread=0.01)
    assert steady.sentence.startswith("A log-linear fall is preferred")
