"""How does a curve look on a few lines of text? In block characters, each column the mean of the points in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

EIGHTHS = " ▁▂▃▄▅▆▇█"


def drawn(points: Sequence[tuple[float, float]], *, width: int = 60, height: int = 6) -> list[str]:
    """A curve through (x, y) in order of x, with its range on the left and below; empty without two finite points."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if len(finite) < 2:
        return []
    (first, last), values = (finite[0][0], finite[-1][0]), [y for _, y in finite]
    low, high = min(values), max(values)
    columns = min(width, len(finite))
    inside: list[list[float]] = [[] for _ in range(columns)]
    for x, y in finite:
        share = (x - first) / (last - first) if last > first else 0.0
        inside[min(int(share * columns), columns - 1)].append(y)
    levels = [_level(fmean(here), low, high, 8 * height) if here else 0 for here in inside]
    marks = {height - 1: f"{high:.3g}", 0: f"{low:.3g}"}
    margin = max(map(len, marks.values()))
    lines = []
    for row in reversed(range(height)):
        blocks = "".join(EIGHTHS[min(max(level - 8 * row, 0), 8)] for level in levels)
        lines.append(f"{marks.get(row, ''):>{margin}} ┤{blocks}".rstrip())
    ends = f"{first:,.0f}", f"{last:,.0f}"
    return [*lines, f"{'':>{margin}}  {ends[0]}{ends[1]:>{max(columns - len(ends[0]), len(ends[1]) + 1)}}"]


def _level(value: float, low: float, high: float, most: int) -> int:
    """From 1, so that the lowest value is seen too."""
    return 1 + round((value - low) / (high - low) * (most - 1)) if high > low else most // 2
