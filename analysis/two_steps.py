"""From loss to accuracy in two steps: a small model's accuracy is at chance, and its loss is not.

First the loss of a task is predicted from size and data (`surface`), then accuracy from the loss, along a bounded
sigmoid (Bhagia et al. 2024, arXiv 2412.04403):

    accuracy = low + (high − low) / (1 + exp(steepness · (loss − middle)))

`low` is chance and fixed. What the two steps are worth is the error on models that were not fitted, larger ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from analysis.surface import Form, Points, Surface, fit


@dataclass(frozen=True)
class Link:
    """Accuracy as a function of the loss, in the units of the accuracies it was fitted to."""

    low: float
    high: float
    middle: float
    steepness: float
    status: str
    """ok, bound:high, or not settled."""

    def accuracy(self, loss_N: np.ndarray) -> Float[np.ndarray, " N"]:
        """At losses."""
        return np.asarray(
            self.low + (self.high - self.low) * special.expit(-self.steepness * (np.asarray(loss_N) - self.middle))
        )


@dataclass(frozen=True)
class TwoSteps:
    """Both steps, and how far they are off where they were not fitted."""

    loss: Surface
    link: Link

    def predict(self, x_NxK: np.ndarray) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Losses and accuracies at inputs."""
        loss_N = self.loss.predict(x_NxK)
        return loss_N, self.link.accuracy(loss_N)

    def errors(self, x_NxK: np.ndarray, loss_N: np.ndarray, accuracy_N: np.ndarray) -> tuple[float, float]:
        """Mean relative error of the loss, and mean absolute error of the accuracy, at points that were held out."""
        loss, accuracy = self.predict(x_NxK)
        return float(np.mean(np.abs(loss / loss_N - 1))), float(np.mean(np.abs(accuracy - accuracy_N)))


def fit_link(loss_N: np.ndarray, accuracy_N: np.ndarray, low: float, highest: float) -> Link:
    """The sigmoid from losses to accuracies. `low`: chance; `highest`: what no accuracy exceeds, 1 or 100.

    Raises:
        ValueError: fewer than four points, or numbers that are not finite.
    """
    loss, accuracy = np.asarray(loss_N, float), np.asarray(accuracy_N, float)
    if len(loss) < 4 or not (np.isfinite(loss).all() and np.isfinite(accuracy).all()):
        raise ValueError("a link needs four finite points")
    spread = max(float(np.ptp(loss)), 1e-9)

    def residuals(theta: np.ndarray) -> np.ndarray:
        high, middle, steepness = theta
        return np.asarray(low + (high - low) * special.expit(-steepness * (loss - middle)) - accuracy) / (highest - low)

    bounds = ([low, loss.min() - 2 * spread, 0.0], [highest, loss.max() + 2 * spread, 1e3 / spread])
    starts = [
        (low + share * (highest - low), float(np.quantile(loss, place)), steep / spread)
        for share in (0.5, 0.9, 0.999)
        for place in (0.1, 0.5, 0.9)
        for steep in (2.0, 8.0)
    ]
    found = [optimize.least_squares(residuals, start, bounds=bounds, xtol=1e-12, ftol=1e-12) for start in starts]
    best = min(found, key=lambda each: each.cost)
    at_top = best.x[0] >= highest - 1e-6 * (highest - low)
    high, middle, steepness = map(float, best.x)
    status = "not settled" if not best.success else "bound:high" if at_top else "ok"
    return Link(low, high, middle, steepness, status)


def two_steps(
    form: Form, points: Points, accuracy_N: np.ndarray, low: float, highest: float, delta: float | None = None
) -> TwoSteps:
    """Fit both steps to the same points."""
    surface = fit(form, points) if delta is None else fit(form, points, delta)
    return TwoSteps(surface, fit_link(points.y_N, accuracy_N, low, highest))
