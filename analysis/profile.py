"""Which curves fit, at every value of the one nonlinear parameter: variable projection with its exact profile.

A form is linear once its shape (an exponent b, or the count k where a rise ends) is fixed: y = θ₀ + θ₁·u(n). So the
shape is swept over a grid, and inside it the bounded weighted least squares have a closed form: no starts, no
iterations, no premature stop. The sweep *is* the profile likelihood: every parameter and every point of a curve is a
linear functional of θ given the shape, so its 95 % profile-F interval is the union, over the shapes that the data
allow, of an ellipse's shadow. (Golub & Pereyra 1973; Bates & Watts 1988, chapter 6.)

B shapes · S curves · N observations
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

EXPONENTS = np.geomspace(0.02, 3.0, 400)
SHAPED = ("plateau", "power_law")
"""Forms with a shape: they rise, and to no more than `Data.ceiling`."""
CEILING = 100.0  # normalised points: nothing scores above


@dataclass(frozen=True)
class Data:
    """Runs of one panel. `curve_N` indexes the S curves; counts are > 0; weights are 1/variance, in points⁻²."""

    curve_N: Int[np.ndarray, " N"]
    count_N: Float[np.ndarray, " N"]
    score_N: Float[np.ndarray, " N"]
    weight_N: Float[np.ndarray, " N"]
    falls: bool = False
    """Scores are losses, the better the lower and never below 0, in units of their own."""

    @property
    def curves(self) -> int:
        """S."""
        return int(self.curve_N.max()) + 1

    @property
    def smallest(self) -> float:
        """The smallest count in tasks, by which counts are divided before they are raised to −b."""
        return float(self.count_N.min())

    @property
    def ceiling(self) -> float:
        """What no curve that is fitted exceeds: that of losses with their sign turned is 0."""
        return 0.0 if self.falls else CEILING

    def select(self, keep_N: np.ndarray) -> Data:
        """The observations where `keep_N` is true; curves keep their numbers."""
        curve_N, count_N = self.curve_N[keep_N], self.count_N[keep_N]
        return Data(curve_N, count_N, self.score_N[keep_N], self.weight_N[keep_N], self.falls)


@dataclass(frozen=True)
class Profile:
    """The solution at every shape of `shape_B` (a single dummy where the form has none)."""

    form: str
    scale: float
    ceiling: float
    shape_B: Float[np.ndarray, " B"]
    theta_BxSx2: Float[np.ndarray, "B S 2"]  # within bounds
    free_BxSx2: Float[np.ndarray, "B S 2"]  # without bounds
    inverse_BxSx2x2: Float[np.ndarray, "B S 2 2"]  # of the weighted normal matrix
    sse_BxS: Float[np.ndarray, "B S"]
    free_sse_BxS: Float[np.ndarray, "B S"]

    @property
    def sse_B(self) -> Float[np.ndarray, " B"]:
        """Weighted sum of squares over all curves; no unit, as weights are 1/variance."""
        return np.asarray(self.sse_BxS.sum(1))

    @property
    def best(self) -> int:
        """Where the sum of squares is least."""
        return int(np.argmin(self.sse_B))

    @property
    def sse(self) -> float:
        """Weighted sum of squares at the best shape; no unit."""
        return float(self.sse_B[self.best])

    def value(self, curve: int, count: np.ndarray) -> Float[np.ndarray, " N"]:
        """The best curve within bounds at counts above 0, in the unit of the scores: points, or minus losses."""
        at = slice(self.best, self.best + 1)
        level, slope = self.theta_BxSx2[self.best, curve]
        return np.asarray(level + slope * columns(self.form, count, self.shape_B[at], self.scale)[0])

    def band(self, curve: int, count: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray]:
        """Pointwise 95 % profile-F band of a curve at counts above 0, in the unit of `value`."""
        u_BxN = columns(self.form, count, self.shape_B, self.scale)
        ends = [self.interval(curve, np.stack([np.ones_like(u_B), u_B], axis=1), df) for u_B in u_BxN.T]
        low_N, high_N = np.array(ends).T
        return low_N, np.minimum(high_N, self.ceiling) if self.form in SHAPED else high_N

    def interval(self, curve: int, functional_Bx2: np.ndarray, df: int) -> tuple[float, float]:
        """95 % profile-F interval of `functional · θ` of one curve; the bounds of θ are not applied."""
        centre_B = (functional_Bx2 * self.free_BxSx2[:, curve]).sum(1)
        spread_B = np.einsum("bi,bij,bj->b", functional_Bx2, self.inverse_BxSx2x2[:, curve], functional_Bx2)
        slack_B = limit(self.sse, df) - (self.sse_B - self.sse_BxS[:, curve] + self.free_sse_BxS[:, curve])
        allowed = slack_B >= 0
        half_B = np.sqrt(np.where(allowed, slack_B, 0) * spread_B)
        return float((centre_B - half_B)[allowed].min()), float((centre_B + half_B)[allowed].max())


def limit(sse: float, df: int) -> float:
    """The sum of squares up to which data on so many degrees of freedom allow a parameter, at 95 % (profile-F)."""
    return sse * (1 + float(special.fdtri(1, df, 0.95)) / df)


def columns(form: str, count: np.ndarray, shape_B: np.ndarray, scale: float) -> np.ndarray:
    """u(n), shape [B, *count.shape]: none for `hold`, log10 n for `log_linear`, else at every shape.

    `plateau`: log10 n up to log10 k, less log10 k; `power_law`: −(n/scale)^−b.
    """
    n = np.asarray(count, float)[None]
    shape = shape_B.reshape(-1, *[1] * (n.ndim - 1))
    if form == "power_law":
        return np.asarray(-((n / scale) ** -shape))
    if form == "plateau":
        return np.asarray(np.minimum(np.log10(n / shape), 0.0))
    return np.repeat(np.log10(n) if form == "log_linear" else np.zeros_like(n), len(shape_B), axis=0)


def solve(form: str, data: Data) -> Profile:
    """Fit every curve at every shape, then once more at the shape polished between grid points."""
    if form not in SHAPED:
        return _solve_at(form, data, np.ones(1))
    grid = shapes(form, data)
    coarse = _solve_at(form, data, grid)
    low, high = max(coarse.best - 1, 0), min(coarse.best + 1, len(grid) - 1)
    if low == high:
        return coarse
    polished = optimize.minimize_scalar(
        lambda shape: float(_solve_at(form, data, np.array([shape])).sse_B[0]),
        bounds=(grid[low], grid[high]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return _solve_at(form, data, np.sort(np.append(grid, polished.x)))


def shapes(form: str, data: Data) -> Float[np.ndarray, " B"]:
    """The grid of a form's shape: exponents; or where a rise may end, from the second count to the last but one.

    Below, the rise would be a jump of which nothing is seen; above, the plateau would be.
    """
    if form == "power_law":
        return EXPONENTS
    counts = np.unique(data.count_N)
    return np.unique(np.append(np.geomspace(counts[1], counts[-2], 100), counts[1:-1]))


def shape_interval(profile: Profile, data: Data, df: int) -> tuple[float | None, float | None]:
    """95 % profile-F interval of the shape, b or k in tasks; None where the grid's edge is allowed too."""
    most = limit(profile.sse, df)
    allowed = np.flatnonzero(profile.sse_B <= most)
    first, last = int(allowed[0]), int(allowed[-1])

    def excess(log_b: float) -> float:
        return float(_solve_at(profile.form, data, np.exp([log_b])).sse_B[0]) - most

    def crossing(outside: int, inside: int) -> float:
        edges = np.log(profile.shape_B[[outside, inside]])
        return float(np.exp(optimize.brentq(excess, *edges, xtol=1e-6)))

    low = crossing(first - 1, first) if first > 0 else None
    high = crossing(last + 1, last) if last + 1 < len(profile.shape_B) else None
    return low, high


def _solve_at(form: str, data: Data, shape_B: np.ndarray) -> Profile:
    shape = (len(shape_B), data.curves)
    theta, free, inverse = np.zeros((*shape, 2)), np.zeros((*shape, 2)), np.zeros((*shape, 2, 2))
    sse, free_sse = np.zeros(shape), np.zeros(shape)
    for s in range(data.curves):
        own = data.select(data.curve_N == s)
        w, y, u_BxN = own.weight_N, own.score_N, columns(form, own.count_N, shape_B, data.smallest)
        total, mean_u = w.sum(), (u_BxN @ w) / w.sum()
        centred = u_BxN - mean_u[:, None]
        mean_y = float(w @ y) / total
        power = (centred**2) @ w
        flat = power < 1e-12 * total  # one count only, or no slope in the form
        slope = np.where(flat, 0.0, centred @ (w * (y - mean_y)) / np.where(flat, 1.0, power))
        free[:, s] = np.stack([mean_y - slope * mean_u, slope], axis=1)
        per_slope = np.where(flat, 0.0, 1 / np.where(flat, 1.0, power))
        inverse[:, s, 0, 0] = 1 / total + mean_u**2 * per_slope
        inverse[:, s, 0, 1] = inverse[:, s, 1, 0] = -mean_u * per_slope
        inverse[:, s, 1, 1] = per_slope
        theta[:, s] = _within_bounds(free[:, s], u_BxN, y, w, data.ceiling) if form in SHAPED else free[:, s]
        for target, solution in ((sse, theta), (free_sse, free)):
            residual = y - solution[:, s, :1] - solution[:, s, 1:] * u_BxN
            target[:, s] = (residual**2) @ w
    return Profile(form, data.smallest, data.ceiling, shape_B, theta, free, inverse, sse, free_sse)


def _within_bounds(free_Bx2: np.ndarray, u_BxN: np.ndarray, y: np.ndarray, w: np.ndarray, ceiling: float) -> np.ndarray:
    """Least squares with θ₀ ≤ ceiling and θ₁ ≥ 0: where the free solution is out, the best point of the two edges."""
    flat_Bx2 = np.zeros_like(free_Bx2)
    flat_Bx2[:, 0] = min(float(w @ y) / w.sum(), ceiling)
    at_ceiling_Bx2 = np.full_like(free_Bx2, ceiling)
    power = (u_BxN**2) @ w  # none where all counts of a curve lie on a plateau
    at_ceiling_Bx2[:, 1] = np.maximum(0.0, ((u_BxN * (y - ceiling)) @ w) / np.where(power > 0, power, np.inf))
    edges = np.stack([flat_Bx2, at_ceiling_Bx2])
    cost = (((y - edges[..., :1] - edges[..., 1:] * u_BxN) ** 2) * w).sum(-1)
    edge_Bx2 = np.where((cost[0] <= cost[1])[:, None], edges[0], edges[1])
    inside = (free_Bx2[:, 0] <= ceiling) & (free_Bx2[:, 1] >= 0)
    return np.where(inside[:, None], free_Bx2, edge_Bx2)
