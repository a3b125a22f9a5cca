"""What do positions tell each other: attention of many query heads to as many, fewer or one key and value head.

Dimensions: B rows, T query positions, S key positions, D model width, H query heads, N key and value heads, K width of
a head.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flanscale.models.attend import Attend
from flanscale.models.layers import Norm, fan_in
from flanscale.models.positions import Rotation
from flanscale.models.products import project
from flanscale.models.sharding import constrain
from flanscale.schema import ModelConfig

KeysValues = tuple[Float[Array, "B N S K"], Float[Array, "B N S K"]]


class Attention(nn.Module):
    """Multi-head attention in two halves, so that keys and values can be cached or come from an encoder."""

    config: ModelConfig
    dtype: str
    scale: float  # of the dot products: 1 in T5, which folds it into the initial query kernel

    def setup(self) -> None:
        c, init = self.config, fan_in()
        queries, keys = c.n_heads * c.head_dim, c.kv_heads * c.head_dim
        query_init = nn.initializers.variance_scaling(1 / (self.scale**2 * c.head_dim), "fan_in", "normal")
        self.query = self.param("query", query_init, (c.d_model, queries), jnp.float32)
        self.key = self.param("key", init, (c.d_model, keys), jnp.float32)
        self.value = self.param("value", init, (c.d_model, keys), jnp.float32)
        self.out = self.param("out", init, (queries, c.d_model), jnp.float32)
        zeros = nn.initializers.zeros
        if c.bias != "none":
            self.query_bias = self.param("query_bias", zeros, (queries,), jnp.float32)
            self.key_bias = self.param("key_bias", zeros, (keys,), jnp.float32)
            self.value_bias = self.param("value_bias", zeros, (keys,), jnp.float32)
        if c.bias == "all":
            self.out_bias = self.param("out_bias", zeros, (c.d_model,), jnp.float32)
        if c.qk_norm != "none":
            self.query_norm, self.key_norm = Norm(c, self.dtype), Norm(c, self.dtype)
        self.dropout = nn.Dropout(c.dropout, broadcast_dims=(-1,))

    def keys_values(self, x_BxSxD: Float[Array, "B S D"], rotation: Rotation | None = None) -> KeysValues:
        biased = self.config.bias != "none"
        k = project(x_BxSxD, self.key, bias=self.key_bias if biased else None, name="attention")
        v = project(x_BxSxD, self.value, bias=self.value_bias if biased else None, name="attention")
        norm = self.key_norm if self.config.qk_norm != "none" else None
        return self._heads(k, "kv_heads", norm, rotation), self._heads(v, "kv_heads")

    def __call__(
        self,
        x_BxTxD: Float[Array, "B T D"],
        keys_values: KeysValues,
        attend: Attend,
        rotation: Rotation | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B T D"]:
        c = self.config
        k, v = keys_values
        q = project(x_BxTxD, self.query, bias=self.query_bias if c.bias != "none" else None, name="attention")
        q = self._heads(q, "heads", self.query_norm if c.qk_norm != "none" else None, rotation)
        # T5's dropout of attention weights, one draw per key for all queries: the same as dropping values.
        v = self.dropout(v, deterministic=deterministic)
        y = jnp.moveaxis(attend(q * self.scale, k, v), 1, 2).reshape(*x_BxTxD.shape[:2], -1)
        y = project(y, self.out, bias=self.out_bias if c.bias == "all" else None, name="attention")
        return constrain(y, "batch", None, None)

    def _heads(self, y: Array, axis: str, norm: Norm | None = None, rotation: Rotation | None = None) -> Array:
        """[B, T, H·K] → [B, H, T, K], normalised over all heads or in each, then rotated."""
        if norm is not None and self.config.qk_norm == "projection":
            y = norm(y)
        y = y.reshape(*y.shape[:2], -1, self.config.head_dim)
        if norm is not None and self.config.qk_norm == "head":
            y = norm(y)
        y = constrain(jnp.moveaxis(y, 2, 1), "batch", axis, None, None)
        return y if rotation is None else rotation(y)


class Past(NamedTuple):
    """The keys and values of earlier positions, with free slots behind them."""

    keys_values: KeysValues
    slot: Int[Array, ""] | int

    def append(self, new: KeysValues) -> KeysValues:
        """The same with the new positions of every row."""
        pairs = zip(self.keys_values, new, strict=True)
        k, v = (jax.lax.dynamic_update_slice_in_dim(old, fresh, self.slot, axis=2) for old, fresh in pairs)
        return k, v
