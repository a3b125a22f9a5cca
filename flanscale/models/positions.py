"""Where is a token? Rotary positions and T5's relative bias.

Dimensions: B rows, T query positions, S key positions, H heads, K width of a head, R its rotated part.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flanscale.schema import ModelConfig

# --- rotary -----------------------------------------------------------------------------------------------------


class Rotation(NamedTuple):
    """Cosines and sines of a rotary position embedding (arXiv:2104.09864), one pair per position and half of R."""

    cos: Float[Array, "B 1 T R/2"]
    sin: Float[Array, "B 1 T R/2"]

    @staticmethod
    def at(positions_BxT: Int[Array, "B T"], length: int, config: ModelConfig, theta: float) -> Rotation:
        """The rotation of positions below `length`."""
        angles = np.arange(length)[:, None] * frequencies(config, theta)
        # Looked up in a table: XLA's CPU backend would compute cosines again wherever they are used.
        tables = [jnp.asarray(table, jnp.float32) for table in (np.cos(angles), np.sin(angles))]
        return Rotation(*(table[positions_BxT][:, None] for table in tables))

    def __call__(self, x_BxHxTxK: Float[Array, "B H T K"]) -> Float[Array, "B H T K"]:
        """Rotates the pairs (i, i + R/2) of the first R dimensions, as Llama and GPT-NeoX do."""
        half = self.cos.shape[-1]
        x = x_BxHxTxK.astype(jnp.float32)
        first, second, rest = jnp.split(x, (half, 2 * half), axis=-1)
        turned = [first * self.cos - second * self.sin, second * self.cos + first * self.sin]
        if rest.size:
            turned.append(rest)
        return jnp.concatenate(turned, axis=-1).astype(x_BxHxTxK.dtype)


def rotated_dimensions(config: ModelConfig) -> int:
    return int(config.head_dim * config.rope_fraction)


def frequencies(config: ModelConfig, theta: float) -> Float[np.ndarray, " R/2"]:
    """Radians per position of every pair.

    With `rope_scaling`, Llama 3's: waves longer than 8192 positions turn that many times slower, those shorter than a
    quarter of it as before, and between the two the change is gradual.
    """
    rotated = rotated_dimensions(config)
    plain = theta ** (-np.arange(0, rotated, 2) / rotated)
    if config.rope_scaling == 1:
        return plain
    turns = 8192 * plain / (2 * np.pi)  # within the positions of the first pretraining
    kept = np.clip((turns - 1) / (4 - 1), 0, 1)
    return plain * (kept + (1 - kept) / config.rope_scaling)


# --- relative ---------------------------------------------------------------------------------------------------


class RelativeBias(nn.Module):
    """T5's bucketed relative position bias, one table for all layers of a stack (arXiv:1910.10683 §2.1)."""

    config: ModelConfig
    bidirectional: bool

    @nn.compact
    def __call__(self, offsets: Int[Array, "*B T S"]) -> Float[Array, "*B H T S"]:
        """The bias of each pair, given the key's position minus the query's."""
        c = self.config
        init = nn.initializers.normal(c.d_model**-0.5)
        table = self.param("relative_bias", init, (c.relative_buckets, c.n_heads), jnp.float32)
        buckets = relative_bucket(offsets, self.bidirectional, c.relative_buckets, c.relative_max_distance)
        return jnp.moveaxis(table[buckets], -1, -3)


def relative_bucket(
    offsets: Int[Array, "*B T S"], bidirectional: bool, buckets: int, max_distance: int
) -> Int[Array, "*B T S"]:
    """The bucket of a key-minus-query offset: exact when near, logarithmic until `max_distance`, one beyond it.

    Bidirectional: half of the buckets for each side. Otherwise later keys share bucket 0.
    """
    side = jnp.where(offsets > 0, buckets // 2, 0) if bidirectional else 0
    distance = jnp.abs(offsets) if bidirectional else jnp.maximum(-offsets, 0)
    table = _distance_buckets(buckets // 2 if bidirectional else buckets, max_distance)
    return side + table[jnp.minimum(distance, max_distance)]


def _distance_buckets(buckets: int, max_distance: int) -> Int[Array, " distance"]:
    """The bucket of every distance up to `max_distance`, in float64: single precision misses exact powers of two."""
    distance, exact = np.arange(max_distance + 1), buckets // 2
    growth = np.log(np.maximum(distance, exact) / exact) / math.log(max_distance / exact)
    far = exact + (growth * (buckets - exact) + 1e-9).astype(np.int32)
    return jnp.asarray(np.where(distance < exact, distance, np.minimum(far, buckets - 1)), jnp.int32)
