"""What statsmodels says of the same numbers: corrections, p-values and intervals, computed once and kept here.

Made with statsmodels 0.15.0 and numpy 2.4.6 by the calls that stand above each; `sm` is statsmodels.api.
"""

from __future__ import annotations

import numpy as np
import pytest

from analysis import scaling
from analysis.profile import Data
from analysis.summary import combine, holm

# multipletests(P, method="holm")[1]
P = [0.011, 0.04, 0.0004, 0.21, 0.013, 0.013, 0.9, 0.049]
HOLM = [0.077, 0.16, 0.0032, 0.42, 0.078, 0.078, 0.9, 0.16]

# CompareMeans(DescrStatsW(MORE), DescrStatsW(LESS)): ttest_ind(usevar="unequal"), tconfint_diff(usevar="unequal"), and
# the latter with alpha=0.1
LESS, MORE = [41.2, 43.9, 40.1, 44.8], [47.0, 52.5, 49.1]
WELCH_P, WELCH_DF = 0.024704911657953247, 3.7886104481041722
WELCH_95, WELCH_90 = (1.5051039553249357, 12.561562711341727), (2.814088514287132, 11.252578152379531)

# sm.WLS(Y, X, weights=1 / VARIANCE).fit(): params, conf_int(), (wresid**2).sum(), df_resid, where X has an intercept
# and a slope in log10(COUNT) for each curve; get_prediction at 500 tasks; and the same without the slopes.
COUNT = np.array([9, 89, 282, 1836.0] * 4)
CURVE = np.repeat([0, 1], 8)
Y = np.array([12.1, 18.9, 22.8, 27.9, 11.2, 20.1, 23.7, 29.0, 30.4, 36.6, 38.0, 44.9, 31.5, 35.2, 40.1, 43.6])
VARIANCE = np.tile([1.0, 2.0, 0.5, 1.5], 4)
SSE, DF = 9.591110089501498, 12
LOG_LINEAR = {
    ("alpha", "one"): (4.818898319957656, 2.8033945546166827, 6.834402085298629),
    ("beta", "one"): (7.416471029198001, 6.537736261887937, 8.295205796508064),
    ("alpha", "other"): (25.30320059850428, 23.287696833163306, 27.318704363845253),
    ("beta", "other"): (5.671072495913217, 4.792337728603153, 6.549807263223281),
}
AT_500 = {
    "one": (24.835731165790143, 24.011988493411433, 25.659473838168854),
    "other": (40.60925515738905, 39.785512485010344, 41.43299782976776),
}
HOLD = {
    ("c", "one"): (20.847999999999992, 16.692752211972664, 25.00324778802732),
    ("c", "other"): (37.55999999999999, 33.404752211972664, 41.71524778802731),
}


def test_corrected_p_values_are_holms() -> None:
    assert holm(P) == pytest.approx(HOLM, rel=1e-12)
    assert holm([]) == []


def test_a_difference_of_two_noisy_means_is_welchs() -> None:
    variances = [(float(np.var(runs, ddof=1)) / len(runs), len(runs) - 1) for runs in (LESS, MORE)]
    found = combine(float(np.mean(MORE) - np.mean(LESS)), variances, 0.0)
    assert found.df == pytest.approx(WELCH_DF, rel=1e-9)
    assert found.p == pytest.approx(WELCH_P, rel=1e-9)
    assert found.interval == pytest.approx(WELCH_95, rel=1e-9)
    assert found.value - found.half_width_90 == pytest.approx(WELCH_90[0], rel=1e-9)
    assert found.value + found.half_width_90 == pytest.approx(WELCH_90[1], rel=1e-9)


def test_forms_that_are_linear_are_weighted_least_squares() -> None:
    data = Data(CURVE, COUNT, Y, 1 / VARIANCE)
    fits = {form: scaling.fit(form, data, ["one", "other"]) for form in ("log_linear", "hold")}
    assert (fits["log_linear"].sse, fits["log_linear"].df) == (pytest.approx(SSE, rel=1e-9), DF)
    for form, expected in (("log_linear", LOG_LINEAR), ("hold", HOLD)):
        for (name, curve), numbers in expected.items():
            found = fits[form].parameter(name, curve)
            assert (found.value, found.low, found.high) == pytest.approx(numbers, rel=1e-9)
    for curve, (value, low, high) in AT_500.items():
        at = np.array([500.0])
        assert fits["log_linear"].predict(curve, at)[0] == pytest.approx(value, rel=1e-9)
        assert [end[0] for end in fits["log_linear"].band(curve, at)] == pytest.approx([low, high], rel=1e-9)
