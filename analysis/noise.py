"""How far would a score move with another seed: the variance between replicates, pooled over the cells of a curve.

Two or three seeds say next to nothing about the variance of one cell, so cells are pooled. In points they cannot be:
near the floor and the ceiling nothing moves. What moves about equally along a curve is the log-odds of being right, so
its standard deviation is pooled, and 100·p(1 − p) times as many points are the standard deviation of a cell's score.
Cells where fewer than ten items are right (or wrong) cannot show it and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_ITEMS = 10


@dataclass(frozen=True)
class SeedNoise:
    """The standard deviation between replicates, in log-odds; 0 on 0 degrees of freedom where nothing was repeated."""

    deviation: float
    df: int

    def variance(self, score: float, n: float) -> float:
        """Variance of one run whose cell scores so many percent of n items, in points²."""
        return (self.deviation * slope(score, n)) ** 2 if self.df else 0.0


def log_odds(score: float, n: float) -> float:
    """Of a score in percent on n items; all wrong (or right) counts as one item away from it."""
    p = _share(score, n)
    return math.log(p / (1 - p))


def slope(score: float, n: float) -> float:
    """Points of the score per unit of log-odds: 100·p(1 − p)."""
    p = _share(score, n)
    return 100 * p * (1 - p)


def pool(cells: Sequence[tuple[Sequence[float], float]]) -> SeedNoise:
    """Pool the variance over cells, each given by the scores of its replicates in percent and its number of items."""
    squares, df = 0.0, 0
    for scores, n in cells:
        right = n * np.mean(scores) / 100
        if len(scores) > 1 and LEAST_ITEMS <= right <= n - LEAST_ITEMS:
            odds = np.array([log_odds(score, n) for score in scores])
            squares += float(((odds - odds.mean()) ** 2).sum())
            df += len(scores) - 1
    return SeedNoise(math.sqrt(squares / df), df) if df else SeedNoise(0.0, 0)


def _share(score: float, n: float) -> float:
    return (score / 100 * n + 1) / (n + 2)
