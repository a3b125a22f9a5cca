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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OverParts:
    """softmax(q kᵀ + bias) v over the keys of several parts together, in float32; the call gives those of the last."""

    biases: tuple[Float[Array, "r B/r #H T S"], ...]
    past: tuple[KeysValues, ...] = ()
    cap: float | None = field(default=None, metadata={"static": True})

    def __call__(
        self, q: Float[Array, "B H T K"], k: Float[Array, "r N S K"], v: Float[Array, "r N S K"]
    ) -> Float[Array, "B H T K"]:
        rows, heads, length, width = q.shape
        shape = rows, k.shape[1], heads // k.shape[1], length  # B N G T
        q = q.reshape(*shape, width)
        parts = list(zip((*self.past, (k, v)), self.biases, strict=True))
        scores = [self._scores(q, keys, bias) for (keys, _), bias in parts]
        top = jnp.stack([_whole(jnp.max(part, axis=-1), shape) for part in scores]).max(axis=0)
        total, y = jnp.zeros(()), jnp.zeros(())
        for part, ((_, values), _) in zip(scores, parts, strict=True):
            e = jnp.exp(part - _split(top, len(values))[..., None])
            flat = e.reshape(*e.shape[:2], -1, e.shape[-1])
            total += _whole(sum_of_rows(flat).reshape(e.shape[:-1]), shape)
            y += _whole(batched(flat.astype(values.dtype), values).reshape(*e.shape[:-1], width), shape)
        return (y / total[..., None]).astype(v.dtype).reshape(rows, heads, length, width)

    def _scores(self, q: Float[Array, "B N G T K"], k: Float[Array, "r N S K"], bias: Array) -> Array:
        """[r, N, B/r, G, T, S]"""
        split = _split(q, len(k))
        (r, n), groups = split.shape[:2], split.shape[3]
        scores = scores_of(split.reshape(r, n, -1, q.shape[-1]), k).reshape(*split.shape[:-1], k.shape[2])
        if self.cap is not None:
            scores = self.cap * jnp.tanh(scores / self.cap)
        of_heads = (n, groups) if bias.shape[2] > 1 else (1, 1)
        return scores + jnp.moveaxis(bias.reshape(*bias.shape[:2], *of_heads, *bias.shape[3:]), 1, 2)


def sight(queries: Spots, keys: Spots, window: int | None = None) -> Float[Array, "r B/r 1 T S"]:
    """`visible` as what is added to the scores of every head."""
    return as_bias(visible(queries, keys, window))[:, :, None]


def positions_of(length: int, parts: Sequence[Part]) -> int:
    """More than any position can be, where that many tokens are read behind the parts."""
    return length + sum(part.spots.positions.shape[1] for part in parts)


def _split(x: Float[Array, "B N G T *K"], rows: int) -> Float[Array, "r N B/r G T *K"]:
    return jnp.moveaxis(x.reshape(rows, -1, *x.shape[1:]), 1, 2)


def _whole(x: Float[Array, "r N B/r G T *K"], shape: tuple[int, ...]) -> Float[Array, "B N G T *K"]:
    return jnp.moveaxis(x, 2, 1).reshape(*shape, *x.shape[5:])
