"""Which row does each example go to? As few rows as possible, whose two features end full together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

_CLASSES = 8  # of like ratio; more of them: a little fuller rows, a little slower
_DIRECTIONS = 32  # steps into which the ratio that is wanted is rounded
_LOOK = 2  # how many larger examples are tried beyond those that surely fit


def assign_rows(lengths: Sequence[Int[np.ndarray, " N"]], widths: Sequence[int]) -> Int[np.ndarray, " N"]:
    """The row of each example, for one feature or two; a row's lengths sum to no more than its width in each.

    An example takes a share a of a row's width in the first feature and a share b in the second. Its size is a + b, its
    ratio b / (a + b).

    Rows are filled one after the other. Each begins with the largest example left; every further one is to bring both
    features of the row to their end together. For that the examples lie in classes of like ratio. The room left in the
    row has a ratio too, and the class nearest to it that has an example that fits gives its largest. The row is done
    when no class has one.

    Over all rows, however, one feature runs out first, and the other has room to spare in each of them. That much does
    not count as room left.

    With one feature all ratios are 0 and there is one class: this is then first-fit decreasing.
    """
    a, b = lengths if len(lengths) == 2 else (lengths[0], np.zeros_like(lengths[0]))
    a_width, b_width = widths if len(widths) == 2 else (widths[0], 1)
    if not len(a):
        return np.zeros(0, np.int64)
    nearest = _classes_by_direction(a / a_width, b / b_width)
    a_share, b_share = (a / a_width).tolist(), (b / b_width).tolist()
    # Rows that the examples left would fill, by each feature alone. Sums are of integers and the rest goes in a fixed
    # order, so that every machine finds the same rows.
    a_need, b_need = int(a.sum()) / a_width, int(b.sum()) / b_width
    row_of_example = [0] * len(a)
    row = 0
    while (example := _take_largest(nearest[0])) is not None:
        need = max(a_need, b_need)
        a_spare, b_spare = 1 - a_need / need, 1 - b_need / need
        a_room = b_room = 1 + 1e-9  # far less than one token, far more than the rounding of the sums
        while example is not None:
            row_of_example[example] = row
            a_used, b_used = a_share[example], b_share[example]
            a_need -= a_used
            b_need -= b_used
            a_room -= a_used
            b_room -= b_used
            wanted = _direction(a_room - a_spare, b_room - b_spare)
            example = _take_largest_that_fits(nearest[wanted], a_share, b_share, a_room, b_room)
        row += 1
    return np.array(row_of_example, np.int64)


class _Class(NamedTuple):
    """Examples of like ratio that have no row yet, smallest first."""

    sizes: list[float]
    examples: list[int]
    """Their numbers."""
    per_a: float
    """Every example of a size up to `per_a` × the first feature's room fits into it, whatever its ratio."""
    per_b: float
    """Likewise of the second feature."""


def _take_largest(classes: list[_Class]) -> int | None:
    """The largest example that has no row yet; it gets one now."""
    sizes, examples, _, _ = max(classes, key=_largest_size)
    if not sizes:
        return None
    sizes.pop()
    return examples.pop()


def _largest_size(members: _Class) -> float:
    sizes = members.sizes
    return sizes[-1] if sizes else 0.0


def _take_largest_that_fits(
    classes: list[_Class], a_share: list[float], b_share: list[float], a_room: float, b_room: float
) -> int | None:
    """The largest example that fits, out of the first class that has any; it gets a row now."""
    for sizes, examples, per_a, per_b in classes:
        if not sizes:
            continue
        a_most, b_most = a_room * per_a, b_room * per_b
        most = a_most if a_most < b_most else b_most  # min() would make packing a tenth slower
        surely = bisect_right(sizes, most)  # so many fit, whatever their ratios; a few larger ones may
        at = surely + _LOOK - 1
        if at >= len(sizes):
            at = len(sizes) - 1
        while at >= surely:
            example = examples[at]
            if a_share[example] <= a_room and b_share[example] <= b_room:
                break
            at -= 1
        if at >= 0:
            del sizes[at]
            return examples.pop(at)
    return None


def _direction(a: float, b: float) -> int:
    """The ratio of what is wanted of the two features, in steps; where one is wanted no more, all is the other's."""
    if b <= 0:
        return 0
    if a <= 0:
        return _DIRECTIONS
    return int(b / (a + b) * _DIRECTIONS + 0.5)


def _classes_by_direction(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> list[list[_Class]]:
    """The examples by ratio in classes of equal number; for every direction all classes, nearest first."""
    size = a + b
    ratio = b / size
    classes = _CLASSES if b.any() else 1
    bounds = -(-np.arange(1, classes) * len(a) // classes)
    found: list[tuple[float, _Class]] = []
    for by_ratio in np.split(np.argsort(ratio, kind="stable"), bounds):
        if not len(by_ratio):
            continue
        low, middle, high = ratio[by_ratio[[0, len(by_ratio) // 2, -1]]].tolist()
        # size · (1 - ratio) fits in a's room for every member if it does for the lowest ratio; b likewise.
        per_a, per_b = 1 / max(1 - low, 1e-9), 1 / max(high, 1e-9)
        members = np.sort(by_ratio)
        members = members[np.argsort(size[members], kind="stable")]
        found.append((middle, _Class(size[members].tolist(), members.tolist(), per_a, per_b)))
    directions = [step / _DIRECTIONS for step in range(_DIRECTIONS + 1)]
    return [[c for _, c in sorted(found, key=lambda f: abs(f[0] - wanted))] for wanted in directions]
