"""Whom may a position see? Masks as data, so that every implementation of attention reads them as it can.

Dimensions: B rows, T query positions, S key positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e9  # finite, so that a row that may attend to nothing averages instead of turning into NaN


@dataclass(frozen=True)
class Mask:
    """Positions of one segment see each other; causal ones no later position, unless it belongs to the prefix."""

    queries: int  # T
    keys: int  # S
    segments: tuple[Int[Array, "B T"], Int[Array, "B S"]] | None = None  # of queries and keys; None: one
    causal: bool = False
    prefix: Int[Array, "B S"] | None = None  # causal: 1 where earlier positions may look too
    window: int | None = None  # causal: the position itself and so many less one before it

    @staticmethod
    def packed(
        queries: Int[Array, "B T"],
        keys: Int[Array, "B S"],
        causal: bool = False,
        prefix: Int[Array, "B S"] | None = None,
    ) -> Mask:
        """That of packed rows with these segment ids."""
        return Mask(queries.shape[1], keys.shape[1], (queries, keys), causal, prefix)

    def dense(self) -> Bool[Array, "#B 1 T S"]:
        """True where the query may see the key."""
        mask = jnp.ones((1, 1, self.queries, self.keys), bool)
        if self.segments is not None:
            queries, keys = self.segments
            mask = queries[:, None, :, None] == keys[:, None, None, :]
        if self.causal:
            back = jnp.arange(self.queries)[:, None] - jnp.arange(self.keys)[None, :]
            seen = back >= 0
            if self.prefix is not None:
                seen = seen | (self.prefix[:, None, None, :] > 0)
            mask = mask & seen
            if self.window is not None:
                mask = mask & (back < self.window)
        return mask


def as_bias(mask: Bool[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(mask, 0.0, MASKED)
