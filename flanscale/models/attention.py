"""Who looks at whom: multi-head attention with masks, rotary positions and cached keys.

Dimensions: B rows, T query positions, S key positions, D model width, H heads, K width of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flanscale.models.layers import fan_in, project
from flanscale.models.sharding import constrain
from flanscale.schema import ModelConfig

MASKED = -1e9  # finite, so that a row that may attend to nothing averages instead of turning into NaN

KeysValues = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]


class Attention(nn.Module):
    """Multi-head attention in two halves, so that keys and values can be cached or come from an encoder."""

    config: ModelConfig
    dtype: str
    scale: float  # of the dot products: 1 in T5, which folds it into the initial query kernel

    def setup(self) -> None:
        c, init = self.config, fan_in()
        joined = c.n_heads * c.head_dim
        query_init = nn.initializers.variance_scaling(1 / (self.scale**2 * c.head_dim), "fan_in", "normal")
        self.query = self.param("query", query_init, (c.d_model, joined), jnp.float32)
        self.key = self.param("key", init, (c.d_model, joined), jnp.float32)
        self.value = self.param("value", init, (c.d_model, joined), jnp.float32)
        self.out = self.param("out", init, (joined, c.d_model), jnp.float32)
        self.dropout = nn.Dropout(c.dropout, broadcast_dims=(-1,))

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
        # T5's dropout of attention weights, one draw per key for all queries: the same as dropping values.
        v = self.dropout(v, deterministic=deterministic)
        y = jnp.moveaxis(attend(q * self.scale, k, v, bias), 1, 2).reshape(*x_BxTxD.shape[:2], -1)
        return constrain(project(y, self.out), "batch", None, None)

    def _heads(self, x_BxTxD: Array, kernel: Array) -> Array:
        y = project(x_BxTxD, kernel).reshape(*x_BxTxD.shape[:2], self.config.n_heads, -1)
        return constrain(jnp.moveaxis(y, 2, 1), "batch", "heads", None, None)


@jax.custom_vjp
def attend(
    q: Float[Array, "B H T K"], k: Float[Array, "B H S K"], v: Float[Array, "B H S K"], bias: Float[Array, "#B #H #T S"]
) -> Float[Array, "B H T K"]:
    """softmax(q kᵀ + bias) v, with the softmax in float32.

    The division by the softmax's sum, and in the gradient the sum over keys of weight × gradient, are done on
    [T, K] instead of [T, S], as in arXiv:2205.14135 §3 and Appendix B; a third faster on CPU than autodiff.
    """
    return _attend_forward(q, k, v, bias)[0]


def _attend_forward(q: Array, k: Array, v: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    scores = jnp.einsum("bhtk,bhsk->bhts", q, k, preferred_element_type=jnp.float32) + bias
    e = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = jnp.sum(e, axis=-1, keepdims=True)
    e = e.astype(v.dtype)
    y = jnp.einsum("bhts,bhsk->bhtk", e, v, preferred_element_type=jnp.float32) / total
    return y.astype(v.dtype), (q, k, v, bias, e, total, y)


def _attend_backward(kept: tuple[Array, ...], gradient: Array) -> tuple[Array, ...]:
    q, k, v, bias, e, total, y = kept
    scaled = gradient.astype(jnp.float32) / total
    dv = _over_queries(e, scaled.astype(v.dtype))
    dweights = jnp.einsum("bhtk,bhsk->bhts", scaled.astype(v.dtype), v, preferred_element_type=jnp.float32)
    dscores = e * (dweights - jnp.sum(scaled * y, axis=-1, keepdims=True))
    shared = tuple(axis for axis in range(4) if bias.shape[axis] == 1 < dscores.shape[axis])
    rounded = dscores.astype(q.dtype)
    return (
        jnp.einsum("bhts,bhsk->bhtk", rounded, k),
        _over_queries(rounded, q),
        dv,
        jnp.sum(dscores, axis=shared, keepdims=True),
    )


def _over_queries(weights: Float[Array, "B H T S"], x: Float[Array, "B H T K"]) -> Float[Array, "B H S K"]:
    """weightsᵀ x, as xᵀ weights turned afterwards: XLA's CPU backend transposes the large operand otherwise."""
    return jnp.swapaxes(jax.lax.optimization_barrier(jnp.einsum("bhtk,bhts->bhks", x, weights)), -1, -2)


attend.defvjp(_attend_forward, _attend_backward)


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
