"""What was read before, and who may look at it? Keys and values in parts, so that what rows share is kept once.

A part has r rows where a batch has B, and r divides B: the first B/r rows of the batch look at the part's first row,
and so on. A prefix of all is one row, prompts that are answered k times each are B/k, what every row wrote itself is B.

Dimensions: B rows of queries, T their positions, r rows of a part, S its positions, H query heads, N key and value
heads, G = H / N, K width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from flanscale.models.attend import batched, scores_of
from flanscale.models.attention import KeysValues
from flanscale.models.masks import as_bias
from flanscale.models.products import sum_of_rows
from flanscale.models.stack import Layers

NOTHING = -1  # the position of what is not there
BLOCK = 256
"""Slots of a part that many queries look at together."""
MANY = 64
"""Queries: fewer take longer for a block at a time than for all slots."""


class Spots(NamedTuple):
    """Where each token stands. A token is seen from its own position on, or from `since` where that is given.

    Tokens of a segment are seen in that segment alone, and those of a branch in that branch of their segment; what has
    the number 0, or none, is seen by all.
    """

    positions: Int[Array, "r S"]
    segments: Int[Array, "r S"] | None = None
    branches: Int[Array, "r S"] | None = None
    since: Int[Array, "r S"] | None = None

    def written(self, new: Spots, slot: Int[Array, ""] | int) -> Spots:
        """With the new ones, which have the same fields, from `slot` on."""
        return jax.tree.map(lambda old, fresh: lax.dynamic_update_slice_in_dim(old, fresh, slot, axis=1), self, new)


class Part(NamedTuple):
    """Keys and values of every layer, [r, N, S, K], and where their tokens stand."""

    layers: Layers
    spots: Spots


def visible(queries: Spots, keys: Spots, window: int | None = None) -> Bool[Array, "r B/r T S"]:
    """Which keys each query sees; with a window, those less than so many positions before it."""
    rows = len(keys.positions)

    def pair(of_queries: Array, of_keys: Array) -> tuple[Array, Array]:
        return of_queries.reshape(rows, -1, of_queries.shape[1])[..., None], of_keys[:, None, None, :]

    q, k = pair(queries.positions, keys.positions)
    seen = (k != NOTHING) & (q >= (k if keys.since is None else pair(queries.positions, keys.since)[1]))
    if window is not None:
        seen = seen & (q - k < window)
    for own, theirs in ((queries.segments, keys.segments), (queries.branches, keys.branches)):
        if theirs is not None:
            q, k = pair(jnp.zeros_like(queries.positions) if own is None else own, theirs)
            seen = seen & ((k == 0) | (q == k))
    return seen


class _Sums(NamedTuple):
    """What a softmax over some keys comes to, as far as other keys can be joined to it."""

    top: Float[Array, "B N G T"]  # the largest score
    total: Float[Array, "B N G T"]  # Σ exp(score - top)
    weighted: Float[Array, "B N G T K"]  # Σ exp(score - top) v

    def joined(self, other: _Sums) -> _Sums:
        top = jnp.maximum(self.top, other.top)
        own, theirs = jnp.exp(self.top - top), jnp.exp(other.top - top)
        weighted = self.weighted * own[..., None] + other.weighted * theirs[..., None]
        return _Sums(top, self.total * own + other.total * theirs, weighted)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OverParts:
    """softmax(q kᵀ + bias) v over the keys of several parts together, in float32; the call gives those of the last.

    Where many queries look at a part with room for more than it holds, they look at the slots in use, a block at a
    time.
    """

    biases: tuple[Float[Array, "r B/r #H T S"], ...]
    used: tuple[Int[Array, ""] | None, ...]
    """How many slots of each part are; None: all of them, at once."""
    past: tuple[KeysValues, ...] = ()
    cap: float | None = field(default=None, metadata={"static": True})

    def __call__(
        self, q: Float[Array, "B H T K"], k: Float[Array, "r N S K"], v: Float[Array, "r N S K"]
    ) -> Float[Array, "B H T K"]:
        rows, heads, length, width = q.shape
        q = q.reshape(rows, k.shape[1], heads // k.shape[1], length, width)
        sums: _Sums | None = None
        for keys_values, bias, used in zip((*self.past, (k, v)), self.biases, self.used, strict=True):
            own = self._sums(q, *keys_values, bias) if used is None else self._blocks(q, *keys_values, bias, used)
            sums = own if sums is None else sums.joined(own)
        assert sums
        return (sums.weighted / sums.total[..., None]).astype(v.dtype).reshape(rows, heads, length, width)

    def _blocks(self, q: Float[Array, "B N G T K"], k: Array, v: Array, bias: Array, used: Int[Array, ""]) -> _Sums:
        def block(number: Array | int, size: int = BLOCK) -> _Sums:
            def of(x: Array, axis: int) -> Array:
                return lax.dynamic_slice_in_dim(x, number * BLOCK, size, axis)

            return self._sums(q, of(k, 2), of(v, 2), of(bias, 4))

        whole, rest = divmod(k.shape[2], BLOCK)
        filled = jnp.minimum(-(-used // BLOCK), whole)
        sums = lax.fori_loop(1, filled, lambda number, sums: sums.joined(block(number)), block(0))
        return sums.joined(block(whole, rest)) if rest else sums

    def _sums(
        self, q: Float[Array, "B N G T K"], k: Float[Array, "r N S K"], v: Float[Array, "r N S K"], bias: Array
    ) -> _Sums:
        split = _split(q, len(k))
        (r, n), groups = split.shape[:2], split.shape[3]
        scores = scores_of(split.reshape(r, n, -1, q.shape[-1]), k).reshape(*split.shape[:-1], k.shape[2])
        if self.cap is not None:
            scores = self.cap * jnp.tanh(scores / self.cap)
        of_heads = (n, groups) if bias.shape[2] > 1 else (1, 1)
        scores += jnp.moveaxis(bias.reshape(*bias.shape[:2], *of_heads, *bias.shape[3:]), 1, 2)
        top = jnp.max(scores, axis=-1)
        e = jnp.exp(scores - top[..., None])
        flat = e.reshape(r, n, -1, e.shape[-1])
        total, weighted = sum_of_rows(flat).reshape(top.shape), batched(flat.astype(v.dtype), v).reshape(split.shape)
        return _Sums(*(_whole(each, q.shape[:4]) for each in (top, total, weighted)))


def sight(queries: Spots, keys: Spots, window: int | None = None) -> Float[Array, "r B/r 1 T S"]:
    """`visible` as what is added to the scores of every head."""
    return as_bias(visible(queries, keys, window))[:, :, None]


def slots_used(queries: Spots, keys: Spots) -> Int[Array, ""] | None:
    """Up to where a part is filled, in every row, if it has blocks and there are queries enough to go through them."""
    slots = keys.positions.shape[1]
    if queries.positions.shape[1] < MANY or slots < 2 * BLOCK:
        return None
    return jnp.max(jnp.where(keys.positions == NOTHING, 0, 1 + jnp.arange(slots)))


def positions_of(length: int, parts: Sequence[Part]) -> int:
    """More than any position can be, where that many tokens are read behind the parts."""
    return length + sum(part.spots.positions.shape[1] for part in parts)


def _split(x: Float[Array, "B N G T *K"], rows: int) -> Float[Array, "r N B/r G T *K"]:
    return jnp.moveaxis(x.reshape(rows, -1, *x.shape[1:]), 1, 2)


def _whole(x: Float[Array, "r N B/r G T *K"], shape: tuple[int, ...]) -> Float[Array, "B N G T *K"]:
    return jnp.moveaxis(x, 2, 1).reshape(*shape, *x.shape[5:])
