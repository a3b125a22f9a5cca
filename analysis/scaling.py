"""How does a score grow with the number of tasks: three forms fitted, compared where it counts, and their limits said.

`hold`        y = c_s                   more tasks change nothing
`log_linear`  y = α_s + β_s·log10 n     every tenfold adds the same
`power_law`   y = c_s − a_s·n^−b        diminishing returns up to a ceiling c_s; one exponent b for all curves s

An untouched checkpoint (n = 0) has no place in these forms and is left out of fits. Intervals are 95 % profile-F, for
the items that were evaluated. What the data cannot tell is a status, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from analysis import profile
from analysis.profile import Data, Profile

FORMS = ("hold", "log_linear", "power_law")
NAMES = {"hold": "no change", "log_linear": "log-linear", "power_law": "power law"}
WORDS = {"hold": "no change", "log_linear": "log-linear growth", "power_law": "the power law"}
PARAMETERS = {"hold": ("c",), "log_linear": ("alpha", "beta"), "power_law": ("c", "a")}
AICC_MINIMUM = 5
"""AICc is given where N − K − 1 is at least this; below, its correction term decides alone."""


@dataclass(frozen=True)
class Parameter:
    """One parameter. `value` is None unless `status` is "ok"; an open end of the interval is None."""

    name: str
    curve: str | None
    value: float | None
    low: float | None
    high: float | None
    status: str = "ok"


@dataclass(frozen=True)
class Fit:
    """One form fitted to one panel. `status`: ok, bound:b, degenerate, nonfinite, too_few_points."""

    form: str
    status: str
    curves: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    n_points: int = 0
    df: int = 0
    sse: float | None = None
    aicc: float | None = None
    solution: Profile | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the fit may be drawn and used to predict."""
        return self.status == "ok"

    def parameter(self, name: str, curve: str | None = None) -> Parameter:
        """The parameter of that name (of that curve); KeyError where the fit has none."""
        for parameter in self.parameters:
            if (parameter.name, parameter.curve) == (name, curve):
                return parameter
        raise KeyError((name, curve))

    def predict(self, curve: str, count: np.ndarray) -> Float[np.ndarray, " N"]:
        """The fitted curve at task counts > 0, in normalised points."""
        solution, s = self._solution(), self.curves.index(curve)
        at = slice(solution.best, solution.best + 1)
        u_N = profile.columns(self.form, count, solution.exponent_B[at], solution.scale)[0]
        return np.asarray(solution.theta_BxSx2[solution.best, s, 0] + solution.theta_BxSx2[solution.best, s, 1] * u_N)

    def band(self, curve: str, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pointwise 95 % profile-F band of the curve at task counts > 0."""
        solution, s = self._solution(), self.curves.index(curve)
        u_BxN = profile.columns(self.form, count, solution.exponent_B, solution.scale)
        ends = [solution.interval(s, np.stack([np.ones_like(u_B), u_B], axis=1), self.df) for u_B in u_BxN.T]
        low_N, high_N = np.array(ends).T
        return low_N, np.minimum(high_N, profile.CEILING) if self.form == "power_law" else high_N

    def _solution(self) -> Profile:
        if self.solution is None or not self.ok:
            raise ValueError(f"the {self.form} fit is {self.status}: it has no curve")
        return self.solution


@dataclass(frozen=True)
class Comparison:
    """The forms against each other: predicting the largest count from the rest, and AICc over all counts."""

    held_out_count: float | None
    error: Mapping[str, float | None]
    """Root mean squared error over curves at the held-out count, in points; None where nothing fits without it."""
    noise: float | None
    """Standard error of the held-out means, root mean square over curves: differences below it mean nothing."""
    aicc_difference: Mapping[str, float | None]
    best: str | None
    verdict: str
    """preferred (then `best` is), tied, or not identifiable."""
    reason: str

    @property
    def sentence(self) -> str:
        """Verdict and reason in words."""
        what = WORDS[self.best] if self.best and self.verdict == "preferred" else "the form of the curve"
        return f"{what[0].upper()}{what[1:]} is {self.verdict}: {self.reason}."


def fit(form: str, data: Data, curves: Sequence[str]) -> Fit:
    """Fit one form to the runs of one panel; anything but a sound fit comes back as a status without numbers."""
    names = tuple(curves)
    per_curve = [len(np.unique(data.count_N[data.curve_N == s])) for s in range(len(names))]
    size = len(data.score_N)
    p = len(names) * len(PARAMETERS[form]) + (form == "power_law")
    df = size - p
    if not all(np.isfinite(values).all() for values in (data.count_N, data.score_N, data.weight_N)):
        return Fit(form, "nonfinite", names, n_points=size)
    short = min(per_curve, default=0) < len(PARAMETERS[form])
    if short or df < 1 or (form == "power_law" and sum(k - 2 for k in per_curve) < 1):
        return Fit(form, "too_few_points", names, n_points=size)
    solution = profile.solve(form, data)
    sse = float(solution.sse_B[solution.best])
    if not np.isfinite(sse):
        return Fit(form, "nonfinite", names, n_points=size)
    status = _status(form, solution)
    parameters = (
        _power_law(solution, data, names, df, status) if form == "power_law" else _linear(form, solution, names, df)
    )
    k = p + 1
    room = size - k - 1
    aicc = size * math.log(sse / size) + 2 * k + 2 * k * (k + 1) / room if room >= AICC_MINIMUM and sse > 0 else None
    return Fit(form, status, names, parameters, size, df, sse, aicc, solution)


def compare(data: Data, curves: Sequence[str], fits: Mapping[str, Fit], seed_variance_N: np.ndarray) -> Comparison:
    """Judge the forms. `seed_variance_N`: between replicates, points²; 0 where unknown, and the weights are used."""
    aicc = {form: fits[form].aicc for form in FORMS}
    known = [value for value in aicc.values() if value is not None]
    least = min(known) if len(known) > 1 else None
    difference = {form: None if value is None or least is None else value - least for form, value in aicc.items()}
    largest = float(data.count_N.max()) if len(data.count_N) else None
    held = data.count_N == largest
    rest = data.select(~held)
    scored = sorted(set(data.curve_N[held].tolist()) & set(rest.curve_N.tolist()))
    if largest is None or not scored:
        reason = "fewer than two task counts were measured"
        return Comparison(largest, dict.fromkeys(FORMS), None, difference, None, "not identifiable", reason)
    target = np.array([data.score_N[held & (data.curve_N == s)].mean() for s in scored])
    variance = np.where(seed_variance_N > 0, seed_variance_N, 1 / data.weight_N)
    own = [variance[held & (data.curve_N == s)] for s in scored]
    noise = float(np.sqrt(np.mean([values.mean() / len(values) for values in own])))
    error = {form: _held_out_error(form, rest, curves, scored, largest, target) for form in FORMS}
    return _judge(largest, error, noise, difference, fits["power_law"])


def hold(rest: Data, curve: int) -> float:
    """What "no change" predicts for a larger count: the mean at the largest count seen."""
    own = rest.curve_N == curve
    return float(rest.score_N[own & (rest.count_N == rest.count_N[own].max())].mean())


def shared_exponent_p(data: Data, curves: Sequence[str], shared: Fit) -> float | None:
    """p of the F-test that all curves have one exponent; None where separate exponents cannot be fitted."""
    alone = []
    for s in range(len(curves)):
        own = data.select(data.curve_N == s)
        alone.append(
            fit("power_law", Data(np.zeros_like(own.curve_N), own.count_N, own.score_N, own.weight_N), [curves[s]])
        )
    df = shared.df - (len(curves) - 1)
    if len(curves) < 2 or df < 1 or shared.sse is None or any(each.sse is None for each in alone):
        return None
    separate = sum(each.sse or 0.0 for each in alone)
    return float(stats.f.sf((shared.sse - separate) / (len(curves) - 1) / (separate / df), len(curves) - 1, df))


def as_json(fits: Mapping[str, Fit], comparison: Comparison) -> dict[str, Any]:
    """Fits and their comparison as plain JSON values."""
    plain = ("form", "status", "curves", "n_points", "df", "sse", "aicc")
    out = {form: {name: getattr(each, name) for name in plain} for form, each in fits.items()}
    for form, each in fits.items():
        out[form]["parameters"] = [asdict(parameter) for parameter in each.parameters]
    return {"fits": out, "comparison": asdict(comparison)}


def _status(form: str, solution: Profile) -> str:
    if form != "power_law":
        return "ok"
    if (solution.theta_BxSx2[solution.best, :, 1] <= 0).all():
        return "degenerate"  # no curve rises: every exponent fits alike
    # Judged without the ceiling: it turns a law that has become log-linear (b → 0, c → ∞) into one with c = 100.
    rising_BxS = solution.free_BxSx2[..., 1] >= 0
    free_B = np.where(rising_BxS, solution.free_sse_BxS, solution.sse_BxS).sum(1)
    edges = (0, len(solution.exponent_B) - 1)
    return "bound:b" if solution.best in edges or int(np.argmin(free_B)) in edges else "ok"


def _power_law(solution: Profile, data: Data, names: tuple[str, ...], df: int, status: str) -> tuple[Parameter, ...]:
    if status == "degenerate":
        return ()
    low, high = profile.exponent_interval(solution, data, df)
    value = float(solution.exponent_B[solution.best])
    out = [Parameter("b", None, value if status == "ok" else None, low, high, status)]
    if status != "ok":
        return tuple(out)
    ones, zeros = np.ones_like(solution.exponent_B), np.zeros_like(solution.exponent_B)
    rescale = solution.scale**solution.exponent_B  # θ₁ belongs to (n/scale)^−b, a to n^−b
    for s, name in enumerate(names):
        c, slope = solution.theta_BxSx2[solution.best, s]
        state = "degenerate" if slope <= 0 else "bound:c" if c >= profile.CEILING else "ok"
        c_low, c_high = solution.interval(s, np.stack([ones, zeros], axis=1), df)
        a_low, a_high = solution.interval(s, np.stack([zeros, rescale], axis=1), df)
        ceiling = c_high if c_high < profile.CEILING else None
        good = state == "ok"
        out.append(
            Parameter("c", name, float(c) if good else None, c_low if state != "degenerate" else None, ceiling, state)
        )
        a = float(slope * rescale[solution.best])
        out.append(
            Parameter(
                "a", name, a if good else None, max(a_low, 0.0) if good else None, a_high if good else None, state
            )
        )
    return tuple(out)


def _linear(form: str, solution: Profile, names: tuple[str, ...], df: int) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(name, curve, float(solution.theta_BxSx2[0, s, i]), *solution.interval(s, np.eye(2)[i : i + 1], df))
        for s, curve in enumerate(names)
        for i, name in enumerate(PARAMETERS[form])
    )


def _held_out_error(
    form: str, rest: Data, curves: Sequence[str], scored: Sequence[int], largest: float, target: np.ndarray
) -> float | None:
    if form == "hold":
        predicted = np.array([hold(rest, s) for s in scored])
    else:
        seen = sorted(set(rest.curve_N.tolist()))
        numbers = np.searchsorted(seen, rest.curve_N)
        trained = fit(form, Data(numbers, rest.count_N, rest.score_N, rest.weight_N), [curves[s] for s in seen])
        if not trained.ok:
            return None
        predicted = np.array([trained.predict(curves[s], np.array([largest]))[0] for s in scored])
    return float(np.sqrt(np.mean((predicted - target) ** 2)))


def _judge(
    largest: float, error: Mapping[str, float | None], noise: float, difference: Mapping[str, float | None], law: Fit
) -> Comparison:
    # A law on a bound, or without a rising curve, has become one of the simpler forms: those are judged without it.
    known = {form: value for form, value in error.items() if value is not None and (form != "power_law" or law.ok)}
    ranked = sorted(known, key=lambda form: known[form])
    best = ranked[0]

    def verdict(word: str, reason: str) -> Comparison:
        return Comparison(largest, error, noise, difference, best, word, reason)

    if law.status in ("too_few_points", "nonfinite"):
        return verdict("not identifiable", f"{law.status.replace('_', ' ')} for the power law")
    if law.ok and error["power_law"] is None:
        return verdict("not identifiable", f"without {largest:,.0f} tasks the power law cannot be fitted")
    if law.ok and law.parameter("b").low is None and law.parameter("b").high is None:
        return verdict("not identifiable", "every exponent of the power law fits")
    if len(ranked) == 1:
        return verdict("not identifiable", f"without {largest:,.0f} tasks only {WORDS[best]} can be fitted")
    rival = ranked[1]
    gap = known[rival] - known[best]
    against = difference[best]
    if gap < noise:
        pair = f"{WORDS[best]} and {WORDS[rival]} predict {largest:,.0f} tasks within {gap:.2f} points of each other"
        return verdict("tied", f"{pair}, less than the noise of {noise:.2f}")
    if against is not None and against > 2:
        return verdict(
            "tied", f"{WORDS[best]} predicts {largest:,.0f} tasks best, but AICc over all counts is against it"
        )
    lead = f"it predicts {largest:,.0f} tasks {gap:.2f} points better than {WORDS[rival]}"
    return verdict("preferred", f"{lead}, more than the noise of {noise:.2f}")
