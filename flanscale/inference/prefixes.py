"""Which prompts begin alike, so that their beginning is read once? Found on token ids.

Prompts are put into groups of a common prefix where that saves the most tokens, the cost of reading a prefix for itself
included; every prompt keeps at least its last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

CHUNK = 128
"""Tokens of a prefix are read so many at a time, or more: what the last chunk lacks is padding."""
OVERHEAD = 256
"""Tokens that could be read in the time that a prefix of its own costs besides reading it."""


@dataclass(frozen=True)
class Group:
    """Prompts, by their places, that begin with the same `length` tokens."""

    length: int
    members: tuple[int, ...]


def groups(prompts: Sequence[Sequence[int]], overhead: int = OVERHEAD) -> list[Group]:
    """A partition of the prompts, none of which is empty, in an order that their tokens alone decide.

    A prefix that is shared must save `overhead` tokens.

    Of the prompts in the order of their tokens, those with the longest common prefixes are joined first; whether a run
    shares its own prefix or leaves that to its parts is decided by what either saves.
    """
    if not prompts:
        return []
    order = sorted(range(len(prompts)), key=lambda i: (list(prompts[i]), i))
    arrays = [np.asarray(prompts[i], np.int64) for i in order]
    common = np.array([_common(a, b) for a, b in pairwise(arrays)], np.int64)
    best = [0] * len(order)  # what the run that begins here saves
    ends = list(range(1, len(order) + 1))
    starts = list(range(len(order)))  # of the run that ends here, by its last place
    shares: list[list[tuple[int, int, int]]] = [[(i, i + 1, 0)] for i in range(len(order))]
    for cut in np.argsort(-common, kind="stable").tolist():
        length = int(common[cut])
        if length == 0:
            break
        left, right = starts[cut], cut + 1
        end = ends[right]
        apart, together = best[left] + best[right], saved(length, end - left) - overhead
        ends[left], starts[end - 1] = end, left
        best[left] = max(apart, together)
        shares[left] = [(left, end, length)] if together > apart else shares[left] + shares[right]
    found, start = [], 0
    while start < len(order):
        found += [Group(length, tuple(order[a:b])) for a, b, length in shares[start]]
        start = ends[start]
    alone = [group.members[0] for group in found if group.length == 0]
    shared = [group for group in found if group.length]
    return shared + ([Group(0, tuple(alone))] if alone else [])


def saved(length: int, count: int) -> int:
    """How many tokens need not be read where so many prompts share a prefix of that length."""
    return count * length - -(-length // CHUNK) * CHUNK


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """The length of the common prefix, less what leaves neither without a token."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return min(int(differ[0]) if len(differ) else size, size - 1)
