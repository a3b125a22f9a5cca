"""Growth that bends where nothing is left to gain or to lose: log-linear in the odds, between floor and ceiling.

    y = 100·logistic(α_s + β_s·log10 n)        normalised points; every tenfold adds the same to the log-odds

The form shares no parameter between curves, so each is fitted by itself: least squares in points with the weights of
the other forms, by Levenberg–Marquardt from a line through the log-odds and from steeper and flatter ones. β is free,
as log-linear's is. What the data allow is the region of (α, β) where the sum of squares is below the limit of
profile-F; its edge is traced outwards from the optimum once, and the interval of anything linear in α and β (they
themselves, the log-odds at any count) is the shadow of that edge. (Bates & Watts 1988, chapter 6.)

S curves · C counts of a curve · A directions from the optimum
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import special

from analysis.profile import CEILING, Data, limit

FURTHEST = 7.0
"""Log-odds beyond which a curve lies on a bound: a tenth of a point from it."""
DIRECTIONS = 360
STEPS = 100
SETTLED = 1e-12
"""A relative fall of the sum of squares below this ends a fit."""
REACH = np.geomspace(0.3, 200.0, 40)
"""How far out the edge is looked for, in units of its distance if the log-odds were linear in the score."""


@dataclass(frozen=True)
class Logistic:
    """One curve: its best (α, β), and the means that it was fitted to."""

    theta_2: Float[np.ndarray, " 2"]
    x_C: Float[np.ndarray, " C"]
    """log10 of the counts."""
    mean_C: Float[np.ndarray, " C"]
    weight_C: Float[np.ndarray, " C"]
    within: float
    """Weighted sum of squares of the runs around the mean of their count."""

    @property
    def sse(self) -> float:
        """Weighted sum of squares at the optimum; no unit, as weights are 1/variance."""
        return float(self.within + self._excess(self.theta_2[None])[0])

    @property
    def settled(self) -> bool:
        """Whether the best curve is one that α and β can be told from."""
        return bool(self._told(self.theta_2))

    def shadow(self, functional_Fx2: np.ndarray, slack: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Least and largest `functional · (α, β)` while the sum of squares exceeds its least by up to `slack`.

        Returns [F], [F], and [F 2] whether an end is one: not where the curve there is like all steeper ones.
        """
        angle_A = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
        direction_Ax2 = np.stack([np.cos(angle_A), np.sin(angle_A)], axis=1) @ self._whitening
        edge_Ax2 = self.theta_2 + self._reach(direction_Ax2, slack)[:, None] * direction_Ax2
        value_FxA = functional_Fx2 @ edge_Ax2.T
        ends_Fx2 = np.stack([value_FxA.argmin(axis=1), value_FxA.argmax(axis=1)], axis=1)
        return value_FxA.min(axis=1), value_FxA.max(axis=1), self._told(edge_Ax2)[ends_Fx2]

    def _reach(self, direction_Ax2: np.ndarray, slack: float) -> Float[np.ndarray, " A"]:
        """How far out the slack is used up, as far as it is looked for."""
        base = self.sse - self.within
        radius_R = np.append(REACH, np.inf) * math.sqrt(slack)
        over_RxA = np.ones((len(radius_R), len(direction_Ax2)), bool)
        over_RxA[:-1] = self._excess(self.theta_2 + radius_R[:-1, None, None] * direction_Ax2) - base > slack
        first_A = over_RxA.argmax(axis=0)
        high_A, low_A = radius_R[first_A], np.where(first_A > 0, radius_R[first_A - 1], 0.0)
        high_A = np.minimum(high_A, radius_R[-2])
        for _ in range(30):
            middle_A = (low_A + high_A) / 2
            out_A = self._excess(self.theta_2 + middle_A[:, None] * direction_Ax2) - base > slack
            low_A, high_A = np.where(out_A, low_A, middle_A), np.where(out_A, middle_A, high_A)
        return np.asarray(low_A)

    def _told(self, theta: np.ndarray) -> np.ndarray:
        """Whether two counts lie between the bounds: a curve that lies on one, or jumps, is like all steeper ones."""
        return np.asarray((np.abs(theta[..., :1] + theta[..., 1:] * self.x_C) <= FURTHEST).sum(axis=-1) > 1)

    @property
    def _whitening(self) -> Float[np.ndarray, "2 2"]:
        """Axes of (α, β), as rows, along which the sum of squares would rise by 1 if the curve were linear in them."""
        share_C = special.expit(self.theta_2[0] + self.theta_2[1] * self.x_C)
        slope_C = CEILING * share_C * (1 - share_C)
        jacobian_Cx2 = np.stack([slope_C, slope_C * self.x_C], axis=1)
        value_2, vector_2x2 = np.linalg.eigh((jacobian_Cx2 * self.weight_C[:, None]).T @ jacobian_Cx2)
        return np.asarray((vector_2x2 / np.sqrt(np.maximum(value_2, 1e-12))).T)

    def _excess(self, theta: np.ndarray) -> np.ndarray:
        """Weighted sum of squares of the means around curves, [...] of [..., 2]."""
        share = special.expit(theta[..., :1] + theta[..., 1:] * self.x_C)
        return np.asarray(((self.mean_C - CEILING * share) ** 2) @ self.weight_C)


@dataclass(frozen=True)
class Bounded:
    """The curves of a panel."""

    curves: tuple[Logistic, ...]

    @cached_property
    def sse(self) -> float:
        """Weighted sum of squares over all curves; no unit."""
        return sum(curve.sse for curve in self.curves)

    def value(self, curve: int, count: np.ndarray) -> Float[np.ndarray, " N"]:
        """The best curve at counts above 0, in normalised points."""
        alpha, beta = self.curves[curve].theta_2
        return np.asarray(CEILING * special.expit(alpha + beta * np.log10(count)))

    def band(self, curve: int, count: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray]:
        """Pointwise 95 % profile-F band of a curve at counts above 0, in normalised points."""
        functional_Nx2 = np.stack([np.ones(len(count)), np.log10(count)], axis=1)
        low, high, _ = self.curves[curve].shadow(functional_Nx2, limit(self.sse, df) - self.sse)
        return CEILING * special.expit(low), CEILING * special.expit(high)

    def intervals(self, curve: int, df: int) -> list[tuple[float | None, float | None]]:
        """95 % profile-F intervals of α and β; None where the data allow every value."""
        low, high, told = self.curves[curve].shadow(np.eye(2), limit(self.sse, df) - self.sse)
        return [
            (float(low[i]) if told[i, 0] else None, float(high[i]) if told[i, 1] else None) for i in range(len(told))
        ]


def solve(data: Data) -> Bounded:
    """The best curves of all runs of a panel, each by itself."""
    return Bounded(tuple(_curve(data.select(data.curve_N == s)) for s in range(data.curves)))


def _curve(own: Data) -> Logistic:
    """Runs of one count count as their mean: around it they are scattered whatever the curve."""
    count_C, place_N = np.unique(own.count_N, return_inverse=True)
    weight_C = np.bincount(place_N, own.weight_N)
    mean_C = np.bincount(place_N, own.weight_N * own.score_N) / weight_C
    within = float(own.weight_N @ (own.score_N - mean_C[place_N]) ** 2)
    x_C = np.log10(count_C)
    starts = _starts(x_C, mean_C, weight_C)
    return Logistic(_least_squares(x_C, mean_C, weight_C, starts), x_C, mean_C, weight_C, within)


def _starts(x_C: np.ndarray, mean_C: np.ndarray, weight_C: np.ndarray) -> Float[np.ndarray, "B 2"]:
    """A line through the log-odds, weighted as these move with the score; as steep again, half as steep, and flat."""
    share_C = np.clip(mean_C / CEILING, 0.005, 0.995)
    odds_C, weight = special.logit(share_C), weight_C * (share_C * (1 - share_C)) ** 2
    middle_x, middle_y = (weight @ x_C) / weight.sum(), (weight @ odds_C) / weight.sum()
    slope = (weight @ ((x_C - middle_x) * (odds_C - middle_y))) / (weight @ (x_C - middle_x) ** 2)
    beta_B = slope * np.array([1.0, 2.0, 0.5, 0.0])
    return np.stack([middle_y - beta_B * middle_x, beta_B], axis=1)


def _least_squares(
    x_C: np.ndarray, mean_C: np.ndarray, weight_C: np.ndarray, theta_Bx2: np.ndarray
) -> Float[np.ndarray, " 2"]:
    """Levenberg–Marquardt from every start at once; the best of what they end at."""
    design_Cx2 = np.stack([np.ones_like(x_C), x_C], axis=1)
    damping_B = np.full(len(theta_Bx2), 1e-3)

    def at(theta_Bx2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        share = special.expit(theta_Bx2 @ design_Cx2.T)
        residual = mean_C - CEILING * share
        return (residual**2) @ weight_C, residual, CEILING * share * (1 - share)

    sse_B, residual, slope = at(theta_Bx2)
    for _ in range(STEPS):
        jacobian = slope[..., None] * design_Cx2
        weighted = jacobian * weight_C[:, None]
        normal = np.einsum("bcp,bcq->bpq", weighted, jacobian)
        gradient = np.einsum("bcp,bc->bp", weighted, residual)
        scale = np.maximum(np.einsum("bpp->bp", normal), 1e-9)  # on a bound nothing moves
        normal[:, [0, 1], [0, 1]] += damping_B[:, None] * scale
        step = np.clip(np.linalg.solve(normal, gradient[..., None])[..., 0], -3.0, 3.0)
        trial_B, *trial = at(theta_Bx2 + step)
        better = trial_B < sse_B
        fall = np.where(better, sse_B - trial_B, 0.0)
        theta_Bx2 = np.where(better[:, None], theta_Bx2 + step, theta_Bx2)
        residual, slope = (
            np.where(better[:, None], new, old) for new, old in zip(trial, (residual, slope), strict=True)
        )
        done = (damping_B > 1e8) | (better & (fall <= SETTLED * np.maximum(sse_B, 1e-300)))
        sse_B, damping_B = (
            np.where(better, trial_B, sse_B),
            np.where(better, np.maximum(damping_B / 5, 1e-9), damping_B * 5),
        )
        if done.all():
            break
    return np.asarray(theta_Bx2[int(np.argmin(sse_B))])
