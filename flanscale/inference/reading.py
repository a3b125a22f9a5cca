"""What becomes of tokens that others will look at? They are read a few rows and a chunk at a time, so that little is
padding and a device is busy.

A whole batch of prompts would be as wide as the longest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flanscale.inference import programs
from flanscale.inference.batching import padded, rounded
from flanscale.inference.engine import Engine
from flanscale.models.parts import NOTHING, Part, Spots

Rows = Sequence[Sequence[int]]
"""Token ids."""


def read_prefixes(engine: Engine, prefixes: Rows, capacity: int) -> Part:
    """Prefixes as a part, a row each.

    Args:
        prefixes: a multiple of the mesh's shards, some of them empty, or so many that every device has them all.
        capacity: a multiple of the engine's `chunk`.
    """
    return _read(engine, prefixes, [0] * len(prefixes), capacity, engine.chunk, ())


def step_of(engine: Engine, longest: int) -> int:
    """Of what the widths of prompts are multiples, where none is longer."""
    return min(rounded(longest, engine.step), engine.chunk)


def chunk_of(engine: Engine, width: int, prefixed: bool) -> int:
    """Tokens of prompts that are read at a time: all where a kernel keeps no scores, which knows no prefixes."""
    return step_of(engine, width) if prefixed or engine.model.implementation == "xla" else width


def rows_together(engine: Engine, shape: tuple[int, int], chunk: int) -> int:
    """How many rows of a device are read together: of a slot or two, or all that it has.

    Args:
        shape: slots, whose rows look at a prefix each, and rows of a slot.
    """
    slots, rows = shape
    own = slots * rows // engine.shards
    if slots > 1 and engine.shards > 1:
        return own
    most = max(1, engine.tokens_at_once // chunk)
    return max(
        each
        for each in range(1, min(own, most) + 1)
        if own % each == 0 and (slots == 1 or rows % each == 0 or each % rows == 0)
    )


def read_prompts(
    engine: Engine, prompts: Rows, behind: Sequence[int], shape: tuple[int, int], capacity: int, past: tuple[Part, ...]
) -> Part:
    """Prompts as a part, a row each; every one stands `behind` so many tokens of the past.

    Args:
        shape: slots and rows of a slot.
        capacity: a multiple of `step_of` it.
    """
    chunk = chunk_of(engine, capacity, bool(past))
    (slots, rows), shards = shape, engine.shards
    each = rows_together(engine, shape, chunk)
    pieces = []
    places = np.arange(len(prompts)).reshape(shards, -1, each)
    for number in range(places.shape[1]):
        mine = places[:, number].ravel().tolist()
        seen = past
        if past and slots > 1 and len(mine) < len(prompts):
            first, count = mine[0] // rows, max(1, each // rows)
            seen = tuple(programs.rows_of(engine.model, part, jnp.int32(first), count) for part in past)
        own, before = [prompts[i] for i in mine], [behind[i] for i in mine]
        pieces.append(_read(engine, own, before, capacity, chunk, seen))
    return pieces[0] if len(pieces) == 1 else _joined(engine, pieces)


def _joined(engine: Engine, pieces: list[Part]) -> Part:
    """The pieces one under the other, an array at a time and none of them kept, so that no two copies lie in memory."""
    structure, axes = jax.tree.structure(pieces[0]), jax.tree.leaves(programs.axes_of_rows(engine.model, pieces[0]))
    arrays = list(zip(*map(jax.tree.leaves, pieces), strict=True))
    pieces.clear()
    with engine.in_mesh():
        whole = [programs.joined(arrays.pop(0), axis, engine.shards) for axis in axes]
    return jax.tree.unflatten(structure, whole)


def _read(engine: Engine, rows: Rows, behind: Sequence[int], capacity: int, small: int, past: tuple[Part, ...]) -> Part:
    """Rows of any lengths, `small` tokens of each at a time or as many more as keep a device busy."""
    tokens = padded(rows, capacity)
    places = [range(before, before + len(own)) for own, before in zip(rows, behind, strict=True)]
    positions = padded(places, capacity, fill=NOTHING)
    if small == capacity:
        with engine.in_mesh():
            return programs.read(engine.model, engine.params, *engine.put((tokens, spots_of(positions))), past)
    of_device = -(-len(rows) // engine.shards)
    large = max(small, engine.tokens_at_once // of_device // small * small)
    start, end = 0, rounded(max(map(len, rows)), small)
    with engine.in_mesh():
        part = programs.room(engine.model, engine.put(spots_of(np.full_like(positions, NOTHING))))
        while start < end:
            here = slice(start, start + (large if start + large <= end else small))
            placed = engine.put((tokens[:, here], spots_of(positions[:, here])))
            part = programs.extend(engine.model, engine.params, *placed, past, part, jnp.int32(start))
            start = here.stop
    return part


def spots_of(*arrays: Any) -> Spots:
    """Spots that are not on a device yet."""
    return Spots(*arrays)
