"""How is work of many lengths laid out in few shapes? Every shape is compiled, and padding is work for nothing."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def rounded(count: float, step: int) -> int:
    """The least multiple of `step` that is no less."""
    return -(-math.ceil(count) // step) * step


def padded(rows: Sequence[Sequence[int]], width: int, fill: int = 0) -> Int[np.ndarray, "rows width"]:
    """Rows of any lengths, none longer than the width, as one array."""
    laid = np.full((len(rows), width), fill, np.int32)
    for number, row in enumerate(rows):
        laid[number, : len(row)] = row
    return laid


def widths(lengths: Sequence[int], most: int, step: int = 16, each: int = 0) -> list[int]:
    """At most so many widths, multiples of `step` and ascending, that pad these lengths least where each goes into the
    narrowest that holds it; one more width must save at least `each` tokens.

    By dynamic programming over the distinct rounded lengths.
    """
    sizes, counts = np.unique(-(-np.asarray(lengths) // step) * step, return_counts=True)
    total = np.concatenate([[0], np.cumsum(counts)])
    n = len(sizes)
    cost = np.full(n + 1, np.inf)
    cost[0] = 0
    chosen: list[np.ndarray] = []
    padded: list[float] = []
    for _ in range(min(most, n)):
        # The widest of the first j sizes holds those from i on.
        options = cost[:-1, None] + np.where(
            np.arange(n)[:, None] <= np.arange(n)[None, :],
            sizes[None, :] * (total[None, 1:] - total[:-1, None]).astype(float),
            np.inf,
        )
        came_from = options.argmin(axis=0)
        chosen.append(came_from)
        cost = np.concatenate([[np.inf], options[came_from, np.arange(n)]])
        padded.append(float(cost[n]))
    best = min(range(len(padded)), key=lambda count: padded[count] + each * count)
    found, end = [], n
    for came_from in reversed(chosen[: best + 1]):
        found.append(int(sizes[end - 1]))
        end = int(came_from[end - 1])
        if end == 0:
            break
    return sorted(found)


def narrowest(length: int, wide: Sequence[int]) -> int:
    """The narrowest of ascending widths that holds this length."""
    return wide[bisect_left(wide, length)]


def fill(sizes: Sequence[Sequence[int]], room: Sequence[int]) -> list[list[int]]:
    """Bins of things, by their places, none above `room` in any of the measures that each thing has.

    The largest first, each into the fullest bin that it fits; a thing alone may exceed no room.
    """
    rank = sorted(range(len(sizes)), key=lambda i: (-sizes[i][0], i))
    bins: list[list[int]] = []
    left: list[list[int]] = []
    by_room: list[tuple[int, int]] = []  # (left of the first measure, bin), ascending
    for thing in rank:
        size = sizes[thing]
        for at in range(bisect_left(by_room, (size[0], -1)), len(by_room)):
            place = by_room[at][1]
            if all(a <= b for a, b in zip(size, left[place], strict=True)):
                del by_room[at]
                break
        else:
            place = len(bins)
            bins.append([])
            left.append(list(room))
        bins[place].append(thing)
        left[place] = [b - a for a, b in zip(size, left[place], strict=True)]
        insort(by_room, (left[place][0], place))
    return bins
