"""How far would a score move with another seed: the variance between replicates, pooled over the cells of a curve.

Two or three seeds say next to nothing about the variance of one cell, so cells are pooled. In points they cannot be:
near the floor and the ceiling nothing moves. A share p of n items moves between seeds for two reasons: the log-odds of
being right do, by about as much everywhere, and even with the same log-odds other items come out right:

    variance = scale · (deviation² + 1 / (n p q)) · (100 p q)²   points², q = 1 − p

`deviation` is the excess over the second term, `scale` what is left to explain, so that the whole is as large as the
scatter that was seen: where all seeds get the same items right, smaller than chance. The scatter between seeds holds
the items' luck already; nothing is added to it. Cells where fewer than ten items are right (or wrong) cannot show it
and are left out.

Losses are no shares of items. Seeds move them by about the same part of themselves: variance = (deviation · loss)².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEAST_ITEMS = 10
UNTOLD = 1000
"""Items of a score that does not say how many it is of."""


@dataclass(frozen=True)
class SeedNoise:
    """How runs of a curve scatter between seeds. On 0 degrees of freedom nothing is known; infinite: it was stated."""

    deviation: float
    scale: float
    df: float
    falls: bool = False
    """Whether it is that of losses, and `deviation` a part of them."""

    @property
    def known(self) -> bool:
        """Whether a variance can be told at all."""
        return self.df > 0

    def variance(self, score: float, n: float) -> float:
        """Variance of one run whose cell scores so many percent of n items, in points²; NaN where it is not known.

        Of losses, the square of their unit.
        """
        if not self.known:
            return math.nan
        if self.falls:
            return (self.deviation * score) ** 2
        spread = self.deviation**2 + _chance(score, n)
        return self.scale * spread * slope(score, n) ** 2


UNKNOWN = SeedNoise(0.0, 0.0, 0)


def stated(points: float) -> SeedNoise:
    """Noise that is stated: so many points of standard deviation where half is right, beyond the items' luck."""
    return SeedNoise(points / 25, 1.0, math.inf)


def log_odds(score: float, n: float) -> float:
    """Of a score in percent on n items; all wrong (or right) counts as one item away from it."""
    p = _share(score, n)
    return math.log(p / (1 - p))


def slope(score: float, n: float) -> float:
    """Points of the score per unit of log-odds: 100·p(1 − p)."""
    p = _share(score, n)
    return 100 * p * (1 - p)


def pool(cells: Sequence[tuple[Sequence[float], float]], weights: Sequence[float] | None = None) -> SeedNoise:
    """Pool the variance over cells, each given by the scores of its replicates in percent and its number of items.

    `weights`: what a degree of freedom of a cell counts, by default 1. Where all cells are at the floor or the ceiling,
    or runs agree to the digit, the items' luck is all that is assumed.
    """
    squares, chances, frees, repeated = [], [], [], 0.0
    for (scores, n), weight in zip(cells, weights or [1.0] * len(cells), strict=True):
        repeated += weight * (len(scores) - 1)
        found = _scatter(tuple(scores), n)
        if found is not None:
            square, chance = found
            squares.append(weight * square)
            chances.append(chance)
            frees.append(weight * (len(scores) - 1))
    if not any(squares):
        return SeedNoise(0.0, 1.0, repeated) if repeated > 0 else UNKNOWN
    square_C, chance_C, free_C = np.array(squares), np.array(chances), np.array(frees)
    df = float(free_C.sum())
    excess = max(0.0, float((square_C - free_C * chance_C).sum()) / df)
    return SeedNoise(math.sqrt(excess), float((square_C / (excess + chance_C)).sum()) / df, df)


@lru_cache(maxsize=10_000)  # a panel pools its cells many times, each time without another one
def _scatter(scores: tuple[float, ...], n: float) -> tuple[float, float] | None:
    """Sum of squares of a cell's log-odds, and their variance by the items' luck; None where it cannot show any."""
    mean = sum(scores) / len(scores)
    right = _asked(n) * mean / 100
    if len(scores) < 2 or not LEAST_ITEMS <= right <= _asked(n) - LEAST_ITEMS:
        return None
    odds = [log_odds(score, n) for score in scores]
    middle = sum(odds) / len(odds)
    return sum((each - middle) ** 2 for each in odds), _chance(mean, n)


def pool_losses(cells: Sequence[Sequence[float]], weights: Sequence[float] | None = None) -> SeedNoise:
    """Pool the variance of the logarithm of losses over cells. `weights` as in `pool`."""
    squares, df = 0.0, 0.0
    for losses, weight in zip(cells, weights or [1.0] * len(cells), strict=True):
        if len(losses) > 1 and min(losses) > 0:
            squares += weight * float(np.log(losses).var()) * len(losses)
            df += weight * (len(losses) - 1)
    return SeedNoise(math.sqrt(squares / df), 1.0, df, falls=True) if df > 0 else UNKNOWN


def _chance(score: float, n: float) -> float:
    """Variance of the log-odds of n independent items."""
    p = _share(score, n)
    return 1 / (_asked(n) * p * (1 - p))


def _share(score: float, n: float) -> float:
    return (score / 100 * _asked(n) + 1) / (_asked(n) + 2)


def _asked(n: float) -> float:
    return n if math.isfinite(n) else UNTOLD
