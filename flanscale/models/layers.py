"""What are both architectures made of: norm, attention, feed-forward, embedding and positions?

Kernels are two-dimensional ([in, out], heads joined), as in T5X: Adafactor factors them and importers need no reshape.
Parameters and softmax are float32; products run in `dtype`.

Dimensions: B rows, T query positions, S key positions, D model width, H heads, K width of a head, F feed-forward
width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from flanscale.models.sharding import constrain
from flanscale.schema import ModelConfig

MASKED = -1e9  # finite, so that a row that may attend to nothing averages instead of turning into NaN

KeysValues = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]


class Past(NamedTuple):
    """The keys and values of earlier positions, with free slots behind them."""

    keys_values: KeysValues
    slot: Int[Array, ""]

    def append(self, new: KeysValues) -> KeysValues:
        """The same with one more position of every row."""
        pairs = zip(self.keys_values, new, strict=True)
        k, v = (jax.lax.dynamic_update_slice_in_dim(old, fresh, self.slot, axis=2) for old, fresh in pairs)
        return k, v


class Rotation(NamedTuple):
    """Cosines and sines of a rotary position embedding (arXiv:2104.09864), one pair per position and half head."""

    cos: Float[Array, "B 1 T K/2"]
    sin: Float[Array, "B 1 T K/2"]

    @staticmethod
    def at(positions_BxT: Int[Array, "B T"], length: int, head_dim: int, theta: float) -> Rotation:
        """The rotation of positions below `length`."""
        frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
        angles = jnp.arange(length, dtype=jnp.float32)[:, None] * frequencies
        # Looked up in a table: XLA's CPU backend would compute cosines again wherever they are used.
        return Rotation(*(table[positions_BxT][:, None] for table in (jnp.cos(angles), jnp.sin(angles))))

    def __call__(self, x_BxHxTxK: Float[Array, "B H T K"]) -> Float[Array, "B H T K"]:
        """Rotates the pairs (i, i + K/2), as Llama does."""
        first, second = jnp.split(x_BxHxTxK.astype(jnp.float32), 2, axis=-1)
        rotated = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        return jnp.concatenate(rotated, axis=-1).astype(x_BxHxTxK.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square in float32, times a learned scale; no mean, no bias (arXiv:1910.07467)."""

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        return (x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale).astype(self.dtype)


class Attention(nn.Module):
    """Multi-head attention in two halves, so that keys and values can be cached or come from an encoder."""

    config: ModelConfig
    dtype: str
    scale: float  # of the dot products: 1 in T5, which folds it into the initial query kernel

    def setup(self) -> None:
        c, init = self.config, _fan_in()
        joined = c.n_heads * c.head_dim
        query_init = nn.initializers.variance_scaling(1 / (self.scale**2 * c.head_dim), "fan_in", "normal")
        self.query = self.param("query", query_init, (c.d_model, joined), jnp.float32)
        self.key = self.param("key", init, (c.d_model, joined), jnp.float32)
        self.value = self.param("value", init, (c.d_model, joined), jnp.float32)
        self.out = self.param("out", init, (joined, c.d_model), jnp.float32)
        self.dropout = nn.Dropout(c.dropout, broadcast_dims=(-2,))

    def keys_values(self, x_BxSxD: Float[Array, "B S D"], rotation: Rotation | None = None) -> KeysValues:
        k, v = self._heads(x_BxSxD, self.key), self._heads(x_BxSxD, self.value)
        return (k if rotation is None else rotation(k)), v

    def __call__(
        self,
        x_BxTxD: Float[Array, "B T D"],
        keys_values: KeysValues,
        bias: Float[Array, "#B #H T S"],
        rotation: Rotation | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B T D"]:
        """Attends with an additive bias that holds the mask and, where there is one, the relative position bias."""
        k, v = keys_values
        q = self._heads(x_BxTxD, self.query)
        q = q if rotation is None else rotation(q)
        scores = jnp.einsum("bhtk,bhsk->bhts", q, k, preferred_element_type=jnp.float32)
        probabilities = softmax(scores * self.scale + bias).astype(self.dtype)
        probabilities = self.dropout(probabilities, deterministic=deterministic)
        y = jnp.einsum("bhts,bhsk->bhtk", probabilities, v)
        y = jnp.moveaxis(y, 1, 2).reshape(*x_BxTxD.shape[:2], -1)
        return constrain(project(y, self.out), "batch", None, None)

    def _heads(self, x_BxTxD: Array, kernel: Array) -> Array:
        y = project(x_BxTxD, kernel).reshape(*x_BxTxD.shape[:2], self.config.n_heads, -1)
        return constrain(jnp.moveaxis(y, 2, 1), "batch", "heads", None, None)


class FeedForward(nn.Module):
    """Two kernels around a nonlinearity, or three when it is gated (arXiv:2002.05202)."""

    config: ModelConfig
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], deterministic: bool = True) -> Float[Array, "B T D"]:
        c = self.config

        def dense(name: str, shape: tuple[int, int], y: Array) -> Array:
            return project(y, self.param(name, _fan_in(), shape, jnp.float32))

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
            self.head = self.param("head", _fan_in(), (c.d_model, self.vocab_size), jnp.float32)

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


@jax.custom_vjp
def softmax(x: Float[Array, "*B S"]) -> Float[Array, "*B S"]:
    """Softmax over the last axis. Its own gradient rule keeps the result instead of the exponentials.

    On CPU that makes the gradient of attention up to three times faster than `jax.nn.softmax`.
    """
    e = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def _softmax_forward(x: Array) -> tuple[Array, Array]:
    y = softmax(x)
    return y, y


def _softmax_backward(y: Array, gradient: Array) -> tuple[Array]:
    return (y * (gradient - jnp.sum(y * gradient, axis=-1, keepdims=True)),)


softmax.defvjp(_softmax_forward, _softmax_backward)


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


def segment_mask(
    queries_BxT: Int[Array, "B T"], keys_BxS: Int[Array, "B S"], causal: bool = False
) -> Bool[Array, "B 1 T S"]:
    """Who may see whom in packed rows: the same segment and, if causal, no later position."""
    mask = queries_BxT[:, None, :, None] == keys_BxS[:, None, None, :]
    if causal:
        t = jnp.arange(queries_BxT.shape[1])
        mask &= t[:, None] >= t[None, :]
    return mask


def as_bias(mask: Bool[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(mask, 0.0, MASKED)


def _fan_in() -> jax.nn.initializers.Initializer:
    return nn.initializers.variance_scaling(1.0, "fan_in", "normal")
