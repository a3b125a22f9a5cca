"""How does a score grow with the number of tasks: five forms fitted to the runs of a panel, with their limits.

`hold`        y = c_s                                 constant: more tasks change nothing
`plateau`     y = c_s − β_s·max(0, log10 k − log10 n) rises up to k tasks, then stays; one k for all curves s
`log_linear`  y = α_s + β_s·log10 n                   every tenfold adds the same
`logistic`    y = 100·logistic(α_s + β_s·log10 n)     the same in log-odds: it bends near floor and ceiling (`bounded`)
`power_law`   y = c_s − a_s·n^−b                      diminishing returns up to a ceiling c_s; one exponent b for all

Losses, the better the lower, fall to a floor c_s ≥ 0: y = c_s + β_s·max(0, …), y = c_s + a_s·n^−b. Their sign is turned
before a fit, and that of levels, slopes and curves is turned back. They have no odds.

An untouched checkpoint (n = 0) has no place in these forms and is left out of fits. Intervals are 95 % profile-F, for
the items that were evaluated. What the data cannot tell is a status, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from scipy import special

from analysis import bounded, profile
from analysis.bounded import Bounded
from analysis.profile import Data, Profile

FORMS = ("hold", "plateau", "log_linear", "logistic", "power_law")
NAMES = {
    "hold": "constant",
    "plateau": "plateau",
    "log_linear": "log-linear",
    "logistic": "log-linear in the odds",
    "power_law": "power law",
}
PARAMETERS = {
    "hold": ("c",),
    "plateau": ("c", "beta"),
    "log_linear": ("alpha", "beta"),
    "logistic": ("alpha", "beta"),
    "power_law": ("c", "a"),
}
SHAPES = {"plateau": "k", "power_law": "b"}
"""The parameter that all curves share."""
AICC_MINIMUM = 5
"""AICc (Hurvich & Tsai 1989) is given where N − K − 1 is at least this; below, its correction decides alone."""


@dataclass(frozen=True)
class Parameter:
    """One parameter. `value` is None unless `status` is "ok"; an open end of the interval is None.

    Another status says why there is no number: bound:b and bound:c are limits of the form, degenerate is a curve that
    has no such parameter, and not bounded a shape of which the data allow all values that were tried.
    """

    name: str
    curve: str | None
    value: float | None
    low: float | None
    high: float | None
    status: str = "ok"


@dataclass(frozen=True)
class Fit:
    """One form fitted to one panel. `status`: ok, bound:b, degenerate, nonfinite, too_few_points, unbounded scale.

    A plateau whose k is at an end of the counts where it may lie is sound: its interval is open there. Where it is open
    at both, the rise has ended somewhere between, and k is no number.
    """

    form: str
    status: str
    curves: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    n_points: int = 0
    df: int = 0
    sse: float | None = None
    aicc: float | None = None
    falls: bool = False
    """Whether losses were fitted."""
    solution: Profile | Bounded | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the fit may be drawn and its parameters read."""
        return self.status == "ok"

    @property
    def located(self) -> bool:
        """Whether the shape that all curves share is a number; forms without one are always located."""
        return self.form not in SHAPES or any(each.curve is None and each.status == "ok" for each in self.parameters)

    def parameter(self, name: str, curve: str | None = None) -> Parameter:
        """The parameter of that name (of that curve); KeyError where the fit has none."""
        for parameter in self.parameters:
            if (parameter.name, parameter.curve) == (name, curve):
                return parameter
        raise KeyError((name, curve))

    def predict(self, curve: str, count: np.ndarray) -> Float[np.ndarray, " N"]:
        """The best curve within bounds at task counts > 0, in normalised points; also where no parameter is sound.

        Raises:
            ValueError: there was nothing to fit, or nothing finite.
        """
        value_N = self._solution().value(self.curves.index(curve), np.asarray(count, float))
        return -value_N if self.falls else value_N

    def band(self, curve: str, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pointwise 95 % profile-F band of the curve at task counts > 0. Raises as `predict`."""
        low_N, high_N = self._solution().band(self.curves.index(curve), np.asarray(count, float), self.df)
        return (-high_N, -low_N) if self.falls else (low_N, high_N)

    def _solution(self) -> Profile | Bounded:
        if self.solution is None:
            raise ValueError(f"the {self.form} fit has no curve: {self.status}")
        return self.solution


def fit(form: str, data: Data, curves: Sequence[str]) -> Fit:
    """Fit one form to the runs of one panel; anything but a sound fit comes back as a status without numbers."""
    names = tuple(curves)
    if form == "logistic" and data.falls:
        return Fit(form, "unbounded scale", names, n_points=len(data.score_N), falls=True)
    per_curve = [len(np.unique(data.count_N[data.curve_N == s])) for s in range(len(names))]
    size = len(data.score_N)
    p = len(names) * len(PARAMETERS[form]) + (form in SHAPES)
    df = size - p
    if not all(np.isfinite(values).all() for values in (data.count_N, data.score_N, data.weight_N)):
        return Fit(form, "nonfinite", names, n_points=size, falls=data.falls)
    short = min(per_curve, default=0) < len(PARAMETERS[form])
    if short or df < 1 or (form in SHAPES and sum(k - 2 for k in per_curve) < 1):
        return Fit(form, "too_few_points", names, n_points=size, falls=data.falls)
    if data.falls:
        data = replace(data, score_N=-data.score_N)
    solution = bounded.solve(data) if form == "logistic" else profile.solve(form, data)
    sse = solution.sse
    if not np.isfinite(sse):
        return Fit(form, "nonfinite", names, n_points=size, falls=data.falls)
    if isinstance(solution, Bounded):
        status, parameters = _bounded(solution, names, df)
    elif form in SHAPES:
        status = _status(form, solution)
        parameters = _shaped(solution, data, names, df, status)
    else:
        status, parameters = "ok", _linear(form, solution, names, df)
    if data.falls:
        parameters = tuple(_turned(each, form) for each in parameters)
    k = p + 1
    room = size - k - 1
    aicc = size * math.log(sse / size) + 2 * k + 2 * k * (k + 1) / room if room >= AICC_MINIMUM and sse > 0 else None
    return Fit(form, status, names, parameters, size, df, sse, aicc, data.falls, solution)


def shared_exponent_p(data: Data, curves: Sequence[str], shared: Fit) -> float | None:
    """p of the F-test that all curves have one exponent; None where separate exponents cannot be fitted."""
    alone = []
    for s in range(len(curves)):
        own = data.select(data.curve_N == s)
        alone.append(fit("power_law", replace(own, curve_N=np.zeros_like(own.curve_N)), [curves[s]]))
    df = shared.df - (len(curves) - 1)
    if len(curves) < 2 or df < 1 or shared.sse is None or any(each.sse is None for each in alone):
        return None
    separate = sum(each.sse or 0.0 for each in alone)
    return float(special.fdtrc(len(curves) - 1, df, (shared.sse - separate) / (len(curves) - 1) / (separate / df)))


def _status(form: str, solution: Profile) -> str:
    if (solution.theta_BxSx2[solution.best, :, 1] <= 0).all():
        return "degenerate"  # no curve rises: every shape fits alike
    if form == "plateau":
        return "ok"
    # Judged without the ceiling: it turns a law that has become log-linear (b → 0, c → ∞) into one with c = 100.
    rising_BxS = solution.free_BxSx2[..., 1] >= 0
    free_B = np.where(rising_BxS, solution.free_sse_BxS, solution.sse_BxS).sum(1)
    edges = (0, len(solution.shape_B) - 1)
    return "bound:b" if solution.best in edges or int(np.argmin(free_B)) in edges else "ok"


def _shaped(solution: Profile, data: Data, names: tuple[str, ...], df: int, status: str) -> tuple[Parameter, ...]:
    if status == "degenerate":
        return ()
    level, rise = PARAMETERS[solution.form]
    shape = float(solution.shape_B[solution.best])
    ends = profile.shape_interval(solution, data, df)
    bounded_by_data = "not bounded" if status == "ok" and ends == (None, None) else status
    shared = _parameter(SHAPES[solution.form], None, shape, *ends, bounded_by_data)
    if status != "ok":
        return (shared,)
    out = [shared]
    ones, zeros = np.ones_like(solution.shape_B), np.zeros_like(solution.shape_B)
    # θ₁ of a power law belongs to (n/scale)^−b, a to n^−b.
    rescale = solution.scale**solution.shape_B if solution.form == "power_law" else ones
    for s, name in enumerate(names):
        c, slope = solution.theta_BxSx2[solution.best, s]
        state = "degenerate" if slope <= 0 else "bound:c" if c >= solution.ceiling else "ok"
        low, high = solution.interval(s, np.stack([ones, zeros], axis=1), df)
        out.append(_parameter(level, name, float(c), low, high if high < solution.ceiling else None, state))
        low, high = solution.interval(s, np.stack([zeros, rescale], axis=1), df)
        out.append(_parameter(rise, name, float(slope * rescale[solution.best]), max(low, 0.0), high, state))
    return tuple(out)


def _parameter(
    name: str, curve: str | None, value: float, low: float | None, high: float | None, status: str
) -> Parameter:
    """A parameter on its bound keeps its interval, a degenerate one nothing."""
    if status == "degenerate":
        return Parameter(name, curve, None, None, None, status)
    return Parameter(name, curve, value if status == "ok" else None, low, high, status)


def _turned(parameter: Parameter, form: str) -> Parameter:
    """That of losses: a and β of a form with a shape are how much a curve falls, and stay."""
    if parameter.name in SHAPES.values() or (form in SHAPES and parameter.name != PARAMETERS[form][0]):
        return parameter
    value, low, high = (None if end is None else -end for end in (parameter.value, parameter.high, parameter.low))
    return replace(parameter, value=value, low=low, high=high)


def _linear(form: str, solution: Profile, names: tuple[str, ...], df: int) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(name, curve, float(solution.theta_BxSx2[0, s, i]), *solution.interval(s, np.eye(2)[i : i + 1], df))
        for s, curve in enumerate(names)
        for i, name in enumerate(PARAMETERS[form])
    )


def _bounded(solution: Bounded, names: tuple[str, ...], df: int) -> tuple[str, tuple[Parameter, ...]]:
    """A curve that lies on a bound, or jumps from one to the other, has no parameters; sound as long as one has."""
    if not any(curve.settled for curve in solution.curves):
        return "degenerate", ()
    out = []
    for s, (name, curve) in enumerate(zip(names, solution.curves, strict=True)):
        status = "ok" if curve.settled else "degenerate"
        for i, (low, high) in enumerate(solution.intervals(s, df)):
            out.append(_parameter(PARAMETERS["logistic"][i], name, float(curve.theta_2[i]), low, high, status))
    return "ok", tuple(out)
