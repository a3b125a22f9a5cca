"""Does a curve rise at all, whatever its form: the distance from the best curve that never falls.

The statistic is the weighted sum of squares between the means and their isotonic regression; its p-value is that of
studies drawn from a constant with the noise of the means, the least favourable of the curves that never fall.
(Robertson, Wright & Dykstra 1988, chapter 2.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize

DRAWS = 1000


@dataclass(frozen=True)
class Trend:
    """How far means are from never falling."""

    isotonic_N: Float[np.ndarray, " N"]
    """The closest curve that never falls, in points."""
    statistic: float
    p: float
    """Of falls as large as these where there are none."""
    worst_dip: float
    """The deepest fall between neighbours, in points; 0 where there is none."""


def trend(mean_N: np.ndarray, se_N: np.ndarray, seed: int = 0) -> Trend:
    """Of the means of one curve in the order of their counts, with standard errors above 0, in points."""
    weight_N = 1 / np.asarray(se_N, float) ** 2
    isotonic = _isotonic(mean_N, weight_N)
    statistic = float(weight_N @ (mean_N - isotonic) ** 2)
    p = 1.0
    if statistic > 0:
        drawn = np.random.default_rng(seed).normal(size=(DRAWS, len(mean_N))) * se_N
        as_far = [weight_N @ (each - _isotonic(each, weight_N)) ** 2 >= statistic for each in drawn]
        p = (1 + sum(as_far)) / (1 + DRAWS)
    return Trend(isotonic, statistic, float(p), float(max(0.0, *-np.diff(mean_N))) if len(mean_N) > 1 else 0.0)


def _isotonic(value_N: np.ndarray, weight_N: np.ndarray) -> Float[np.ndarray, " N"]:
    return np.asarray(optimize.isotonic_regression(value_N, weights=weight_N).x)
