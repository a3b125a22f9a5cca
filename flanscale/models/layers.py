"""What else are both architectures made of: norm, feed-forward, vocabulary and relative positions?

Kernels are two-dimensional ([in, out], heads joined), as in T5X: Adafactor factors them and importers need no reshape.
Parameters and norms are float32; products run in `dtype`.

Dimensions: B rows, T query positions, S key positions, D model width, H heads, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flanscale.models.sharding import constrain
from flanscale.schema import ModelConfig


class RMSNorm(nn.Module):
    """Division by the root mean square in float32, times a learned scale; no mean, no bias (arXiv:1910.07467)."""

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        return (x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale).astype(self.dtype)


class FeedForward(nn.Module):
    """Two kernels around a nonlinearity, or three when it is gated (arXiv:2002.05202)."""

    config: ModelConfig
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], deterministic: bool = True) -> Float[Array, "B T D"]:
        c = self.config

        def dense(name: str, shape: tuple[int, int], y: Array) -> Array:
            return project(y, self.param(name, fan_in(), shape, jnp.float32))

        y = constrain(dense("up", (c.d_model, c.d_ff), x), "batch", None, "ff")
        if c.activation in GATES:
            y = GATES[c.activation](dense("gate", (c.d_model, c.d_ff), x)) * y
        else:
            y = jax.nn.relu(y) if c.activation == "relu" else jax.nn.gelu(y)
        y = nn.Dropout(c.dropout, broadcast_dims=(-2,))(y, deterministic=deterministic)
        return constrain(dense("down", (c.d_ff, c.d_model), y), "batch", None, None)


GATES = {"geglu": jax.nn.gelu, "swiglu": jax.nn.silu}  # jax.nn.gelu is the tanh approximation, T5 v1.1's own


class Vocabulary(nn.Module):
    """Token ids to vectors and vectors to logits, with one table or two.

    A tied table divides the logits by √D, as T5X and PaLM (arXiv:2204.02311) do.
    """

    config: ModelConfig
    vocab_size: int
    dtype: str

    def setup(self) -> None:
        c = self.config
        self.embedding = self.param("embedding", nn.initializers.normal(1.0), (self.vocab_size, c.d_model), jnp.float32)
        if not c.tie_embeddings:
            self.head = self.param("head", fan_in(), (c.d_model, self.vocab_size), jnp.float32)

    def embed(self, ids: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        return constrain(self.embedding.astype(self.dtype)[ids], "batch", None, None)

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        tied = self.config.tie_embeddings
        kernel = self.embedding.T / math.sqrt(self.config.d_model) if tied else self.head
        return project(x, kernel, jnp.float32)


class RelativeBias(nn.Module):
    """T5's bucketed relative position bias, one table for all layers of a stack (arXiv:1910.10683 §2.1)."""

    config: ModelConfig
    bidirectional: bool

    @nn.compact
    def __call__(self, offsets: Int[Array, "T S"]) -> Float[Array, "1 H T S"]:
        """The bias of each pair, given the key's position minus the query's."""
        c = self.config
        init = nn.initializers.normal(c.d_model**-0.5)
        table = self.param("relative_bias", init, (c.relative_buckets, c.n_heads), jnp.float32)
        buckets = relative_bucket(offsets, self.bidirectional, c.relative_buckets, c.relative_max_distance)
        return jnp.moveaxis(table[buckets], -1, 0)[None]


def project(x: Float[Array, "*B I"], kernel: Float[Array, "I O"], dtype: Any = None) -> Float[Array, "*B O"]:
    """The product in the precision of `x`, accumulated into `dtype`.

    Leading axes are joined first: the kernel's gradient then contracts one axis, which XLA's CPU backend runs three
    times faster than two.
    """
    flat = x.reshape(-1, x.shape[-1])
    y = jnp.matmul(flat, kernel.astype(x.dtype), preferred_element_type=dtype or x.dtype)
    return y.reshape(*x.shape[:-1], -1)


def relative_bucket(
    offsets: Int[Array, "T S"], bidirectional: bool, buckets: int, max_distance: int
) -> Int[Array, "T S"]:
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
    growth = np.log(np.maximum(distance, exact) / exact) / np.log(max_distance / exact)
    far = exact + (growth * (buckets - exact) + 1e-9).astype(np.int32)
    return jnp.asarray(np.where(distance < exact, distance, np.minimum(far, buckets - 1)), jnp.int32)


def fan_in() -> jax.nn.initializers.Initializer:
    return nn.initializers.variance_scaling(1.0, "fan_in", "normal")
