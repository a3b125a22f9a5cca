"""How far would a score move with another seed: the pooled variance between replicates of a cell.

Two or three seeds say next to nothing about the variance of one cell, so replicates are pooled over all cells of one
benchmark and setting. A cell at the floor has hardly any variance, and pooled as an equal it would make every other
cell look more exact than it is. So the variance is modelled as that of a proportion, φ·p(1 − p), with one dispersion φ:
a cell enters by the variance that it can show, and so do its degrees of freedom (Satterthwaite).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SeedNoise:
    """The variance between replicates of a cell: `dispersion`·p(1 − p), with p the raw score as a share."""

    dispersion: float
    df: float
    """Degrees of freedom of the dispersion; 0 where no cell has two replicates, and then the dispersion is 0 too."""

    def variance(self, score: float, n: float) -> float:
        """Variance of one run at a raw score in percent over n items, in points²."""
        return self.dispersion * spread(score, n)


def spread(score: float, n: float) -> float:
    """p(1 − p) in points², p drawn towards the middle by one item a side: a score of exactly 0 keeps some variance."""
    p = (score / 100 * n + 1) / (n + 2)
    return 1e4 * p * (1 - p)


def pool(cells: Sequence[tuple[Sequence[float], float]]) -> SeedNoise:
    """Estimate φ from each cell's raw scores in percent and its number of items.

    φ = Σ squares / Σ (k − 1)·v and df = (Σ (k − 1)·v)² / Σ (k − 1)·v², where v = p(1 − p) of a cell with k replicates.
    """
    repeated = [(np.asarray(scores, float), n) for scores, n in cells if len(scores) > 1]
    if not repeated:
        return SeedNoise(0.0, 0.0)
    v = np.array([spread(scores.mean(), n) for scores, n in repeated])
    free = np.array([len(scores) - 1 for scores, _ in repeated])
    squares = sum(((scores - scores.mean()) ** 2).sum() for scores, _ in repeated)
    expected = (free * v).sum()
    return SeedNoise(float(squares / expected), float(expected**2 / (free * v**2).sum()))
