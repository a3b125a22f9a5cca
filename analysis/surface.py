"""How does a loss fall with several things at once: sums of power laws in parameters, tokens, tasks, fitted robustly.

    y = E + Σ_t A_t · Π_k x_k^−α_tk

Additive, one input a term (Hoffmann et al. 2022, approach 3): E + A·N^−α + B·D^−β. Multiplicative, one term (Zhang et
al. 2024, arXiv 2402.17193, which fits finetuning better): E + A·N^−α·D^−β. A score y in normalised points falls the
other way: fit 100 − y.

Residuals are those of log y under Huber's loss, or in units of a known standard deviation. All starts, or all
resamples, are fitted at once by Levenberg–Marquardt on the reweighted problem, which lowers the objective at every
step; a fit that has not settled is a status, never a number.

B starts or resamples · N points · K inputs · T terms · P parameters
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize

DELTA = 1e-3
"""Hoffmann et al.'s threshold of Huber's loss, in log y. A known deviation asks for 1.345 of it (Huber 1964)."""
STEPS = 2000
SETTLED = 1e-10
"""A relative fall of the objective below this, twenty times in a row, ends a fit."""


@dataclass(frozen=True)
class Points:
    """What was measured: inputs above 0, losses above 0, and the deviation of each where it is known."""

    x_NxK: Float[np.ndarray, "N K"]
    y_N: Float[np.ndarray, " N"]
    deviation_N: Float[np.ndarray, " N"] | None = None
    """None: residuals are those of log y."""


@dataclass(frozen=True)
class Form:
    """Which inputs are in which term."""

    inputs: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> list[str]:
        """Of the parameters, in their order: E, the A of every term, the exponents."""
        exponents = [
            f"alpha_{'_'.join((name, *(term if len(term) > 1 else ())))}" for term in self.terms for name in term
        ]
        return ["E", *(f"A_{'_'.join(term)}" for term in self.terms), *exponents]

    @property
    def mask_TxK(self) -> Bool[np.ndarray, "T K"]:
        """Whether an input is in a term."""
        return np.array([[name in term for name in self.inputs] for term in self.terms])


def additive(*inputs: str) -> Form:
    """E + Σ A_k·x_k^−α_k."""
    return Form(inputs, tuple((name,) for name in inputs))


def multiplicative(*inputs: str) -> Form:
    """E + A·Π x_k^−α_k."""
    return Form(inputs, (inputs,))


@dataclass(frozen=True)
class Surface:
    """A fitted form. `theta_P` is log E, log A of every term, then the exponents."""

    form: Form
    theta_P: Float[np.ndarray, " P"]
    objective: float
    """Mean of Huber's loss over the points."""
    status: str
    """ok, not settled, nonfinite or too_few_points; anything but the first has no parameters worth reading."""

    @property
    def parameters(self) -> dict[str, float]:
        """E, A and the exponents by name, in units of the loss and the inputs."""
        terms = 1 + len(self.form.terms)
        values = [*np.exp(self.theta_P[:terms]), *self.theta_P[terms:]]
        return dict(zip(self.form.names, map(float, values), strict=True))

    def predict(self, x_NxK: np.ndarray) -> Float[np.ndarray, " N"]:
        """The loss at inputs."""
        return np.exp(_log_prediction(self.form, self.theta_P[None], np.log(x_NxK))[0][0])


def fit(form: Form, points: Points, delta: float = DELTA) -> Surface:
    """The best of a grid of starts."""
    thetas, objectives, settled = _solve(form, points, delta, _starts(form, points), None)
    size = thetas.shape[1]
    if len(points.y_N) <= size:
        return Surface(form, np.full(size, np.nan), np.nan, "too_few_points")
    if not np.isfinite(objectives).any():
        return Surface(form, np.full(size, np.nan), np.nan, "nonfinite")
    best = int(np.nanargmin(objectives))
    theta, objective = _polished(form, points, delta, thetas[best])
    return Surface(form, theta, objective, "ok" if settled[best] else "not settled")


def resampled(surface: Surface, points: Points, resamples: int, seed: int = 0, delta: float = DELTA) -> np.ndarray:
    """`theta_P` of the form fitted to as many points drawn with replacement, so many times; [resamples, P]."""
    rng = np.random.default_rng(seed)
    n = len(points.y_N)
    weight_BxN = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    start = np.repeat(surface.theta_P[None], resamples, axis=0)
    return _solve(surface.form, points, delta, start, weight_BxN)[0]


def _polished(form: Form, points: Points, delta: float, theta_P: np.ndarray) -> tuple[np.ndarray, float]:
    """The last digits: near its minimum Huber's loss is as good as |r|, where reweighting crawls."""
    log_x, n = np.log(points.x_NxK), len(points.y_N)
    start = float(_huber(_residuals(form, points, theta_P[None], log_x)[0], delta).mean())

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        residual, jacobian = _residuals(form, points, theta[None], log_x)
        slope = np.clip(residual[0], -delta, delta) @ jacobian[0] / n
        return float(_huber(residual[0], delta).mean()) / start, slope / start

    if start == 0:
        return theta_P, 0.0
    found = optimize.minimize(objective, theta_P, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})
    return (found.x, found.fun * start) if found.fun <= 1 else (theta_P, start)


def _starts(form: Form, points: Points) -> Float[np.ndarray, "B P"]:
    """A grid: E as a share of the smallest loss, terms of equal parts of the rest in the middle, exponents spread."""
    y, middle_K = points.y_N, np.log(points.x_NxK).mean(axis=0)
    exponents = form.mask_TxK.sum()
    out = []
    for share, *alpha in itertools.product((0.1, 0.5, 0.9), *[(0.05, 0.2, 0.5, 1.0)] * exponents):
        floor = share * y.min()
        level = np.log(max(float(np.median(y)) - floor, 1e-3 * float(y.min())) / len(form.terms))
        by_term_TxK = np.zeros(form.mask_TxK.shape)
        by_term_TxK[form.mask_TxK] = alpha
        out.append([np.log(floor), *(level + by_term_TxK @ middle_K), *alpha])
    return np.array(out)


def _log_prediction(
    form: Form, theta_BxP: np.ndarray, log_x_NxK: np.ndarray
) -> tuple[Float[np.ndarray, "B N"], Float[np.ndarray, "B N P"]]:
    """log of the prediction, and its derivatives."""
    mask, (b, p) = form.mask_TxK, theta_BxP.shape
    terms = len(form.terms)
    exponent_BxTxK = np.zeros((b, *mask.shape))
    exponent_BxTxK[:, mask] = theta_BxP[:, 1 + terms :]
    log_term = np.empty((b, len(log_x_NxK), 1 + terms))
    log_term[..., 0] = theta_BxP[:, :1]
    log_term[..., 1:] = theta_BxP[:, None, 1 : 1 + terms] - np.einsum("nk,btk->bnt", log_x_NxK, exponent_BxTxK)
    top = log_term.max(axis=-1, keepdims=True)
    share = np.exp(log_term - top)
    total = share.sum(axis=-1, keepdims=True)
    share /= total
    jacobian = np.empty((b, len(log_x_NxK), p))
    jacobian[..., : 1 + terms] = share
    term_of, input_of = np.nonzero(mask)
    jacobian[..., 1 + terms :] = -share[..., 1 + term_of] * log_x_NxK[None, :, input_of]
    return (top + np.log(total))[..., 0], jacobian


def _residuals(
    form: Form, points: Points, theta_BxP: np.ndarray, log_x_NxK: np.ndarray
) -> tuple[Float[np.ndarray, "B N"], Float[np.ndarray, "B N P"]]:
    log_prediction, jacobian = _log_prediction(form, theta_BxP, log_x_NxK)
    if points.deviation_N is None:
        return log_prediction - np.log(points.y_N), jacobian
    prediction = np.exp(log_prediction)
    return (prediction - points.y_N) / points.deviation_N, jacobian * (prediction / points.deviation_N)[..., None]


def _huber(residual: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def _solve(
    form: Form, points: Points, delta: float, theta_BxP: np.ndarray, weight_BxN: np.ndarray | None
) -> tuple[Float[np.ndarray, "B P"], Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
    """Parameters, objectives, and which have settled."""
    log_x, theta = np.log(points.x_NxK), theta_BxP.copy()
    weight = np.ones((len(theta), len(points.y_N))) if weight_BxN is None else weight_BxN
    b, p = theta.shape
    damping, quiet = np.full(b, 1e-3), np.zeros(b, dtype=int)
    residual, jacobian = _residuals(form, points, theta, log_x)
    objective = (weight * _huber(residual, delta)).mean(axis=1)
    live = np.flatnonzero(np.isfinite(objective))
    eye = np.eye(p)
    for _ in range(STEPS):
        if not len(live):
            break
        r, j = residual[live], jacobian[live]
        influence = weight[live] * np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300))
        weighted = j * influence[..., None]
        normal = np.einsum("bnp,bnq->bpq", weighted, j, optimize=True)
        gradient = np.einsum("bnp,bn->bp", weighted, r, optimize=True)
        scale = np.einsum("bpp->bp", normal) + 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None] + 1e-300
        step = np.linalg.solve(normal + (damping[live, None] * scale)[..., None] * eye, -gradient[..., None])[..., 0]
        trial = theta[live] + np.clip(step, -2.0, 2.0)
        trial_residual, trial_jacobian = _residuals(form, points, trial, log_x)
        found = (weight[live] * _huber(trial_residual, delta)).mean(axis=1)
        better = found < objective[live]
        won = live[better]
        small = (objective[live] - found)[better] <= SETTLED * objective[won]
        quiet[live[~better]] += 1
        quiet[won] = np.where(small, quiet[won] + 1, 0)
        theta[won], residual[won], jacobian[won] = trial[better], trial_residual[better], trial_jacobian[better]
        objective[won] = found[better]
        damping[live] = np.clip(np.where(better, damping[live] / 3, damping[live] * 4), 1e-12, 1e12)
        live = live[quiet[live] < 20]
    settled = np.isfinite(objective)
    settled[live] = False
    return theta, np.where(np.isfinite(objective), objective, np.nan), settled


def named(form: Form, theta_BxP: Sequence[np.ndarray] | np.ndarray) -> dict[str, Float[np.ndarray, " B"]]:
    """Resampled parameters by name, in units of the loss and the inputs."""
    values = np.array(theta_BxP)
    values[:, : 1 + len(form.terms)] = np.exp(values[:, : 1 + len(form.terms)])
    return dict(zip(form.names, values.T, strict=True))
