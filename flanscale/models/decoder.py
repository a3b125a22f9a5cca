"""What does the decoder-only model compute: pre-norm blocks with rotary positions, on packed rows or with a cache?

Dimensions: B rows, T positions, P prompt positions, L cache slots, D model width, H heads, K width of a head,
V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flanscale.models.attention import Attention, KeysValues, Past, Rotation, as_bias, segment_mask
from flanscale.models.layers import FeedForward, RMSNorm, Vocabulary
from flanscale.schema import ModelConfig


class Cache(NamedTuple):
    """What generation remembers. All rows write to the same slot; shorter prompts leave a gap that stays hidden."""

    layers: tuple[KeysValues, ...]  # of [B, H, L, K]
    visible: Bool[Array, "B L"]
    slot: Int[Array, ""]
    positions: Int[Array, " B"]


class Block(nn.Module):
    config: ModelConfig
    dtype: str

    def setup(self) -> None:
        self.attention_norm = RMSNorm(self.dtype)
        self.attention = Attention(self.config, self.dtype, self.config.head_dim**-0.5)
        self.feed_forward_norm = RMSNorm(self.dtype)
        self.feed_forward = FeedForward(self.config, self.dtype)
        self.dropout = nn.Dropout(self.config.dropout, broadcast_dims=(-2,))

    def __call__(
        self,
        x: Array,
        bias: Array,
        rotation: Rotation,
        past: Past | None,
        deterministic: bool,
    ) -> tuple[Array, KeysValues]:
        """One block on [B, T, D]; with a cache, new keys and values go to its slot first."""
        h = self.attention_norm(x)
        keys_values = self.attention.keys_values(h, rotation)
        if past is not None:
            keys_values = past.append(keys_values)
        y = self.attention(h, keys_values, bias, rotation, deterministic)
        x = x + self.dropout(y, deterministic=deterministic)
        y = self.feed_forward(self.feed_forward_norm(x), deterministic)
        return x + self.dropout(y, deterministic=deterministic), keys_values


class Decoder(nn.Module):
    config: ModelConfig
    vocab_size: int
    dtype: str

    def setup(self) -> None:
        self.vocabulary = Vocabulary(self.config, self.vocab_size, self.dtype)
        self.layers = [Block(self.config, self.dtype, name=f"layer_{i}") for i in range(self.config.n_layers)]
        self.final_norm = RMSNorm(self.dtype)
        self.dropout = nn.Dropout(self.config.dropout, broadcast_dims=(-2,))

    def __call__(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T V"]:
        return self.logits(self.hidden(batch, deterministic))

    def hidden(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T D"]:
        """The last hidden states of packed rows."""
        segments = batch["decoder_segment_ids"]
        bias = as_bias(segment_mask(segments, segments, causal=True))
        return self._stack(
            batch["decoder_input_tokens"], batch["decoder_positions"], bias, deterministic=deterministic
        )[0]

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        return self.vocabulary.logits(x)

    def prefill(
        self, prompt_BxP: Int[Array, "B P"], lengths_B: Int[Array, " B"], max_new_tokens: int
    ) -> tuple[Float[Array, "B V"], Cache]:
        rows, width = prompt_BxP.shape[0], prompt_BxP.shape[1] + 1
        tokens = jnp.pad(prompt_BxP, ((0, 0), (1, 0)))  # the model learned each segment shifted right behind a 0
        slots = jnp.arange(width)
        positions = jnp.broadcast_to(slots, (rows, width))
        causal = (slots[:, None] >= slots[None, :])[None, None]  # padding lies right of all that is read
        x, layers = self._stack(tokens, positions, as_bias(causal))
        free = ((0, 0), (0, 0), (0, max_new_tokens), (0, 0))
        cache = Cache(
            layers=jax.tree.map(lambda cached: jnp.pad(cached, free), layers),
            visible=jnp.pad(slots <= lengths_B[:, None], ((0, 0), (0, max_new_tokens))),
            slot=jnp.asarray(width, jnp.int32),
            positions=(lengths_B + 1).astype(jnp.int32),
        )
        return self.logits(x[jnp.arange(rows), lengths_B]), cache

    def decode_step(self, cache: Cache, tokens_B: Int[Array, " B"]) -> tuple[Float[Array, "B V"], Cache]:
        visible = cache.visible | (jnp.arange(cache.visible.shape[1]) == cache.slot)
        bias = as_bias(visible)[:, None, None, :]
        x, layers = self._stack(tokens_B[:, None], cache.positions[:, None], bias, cache)
        return self.logits(x[:, 0]), Cache(layers, visible, cache.slot + 1, cache.positions + 1)

    def _stack(
        self, tokens: Array, positions: Array, bias: Array, cache: Cache | None = None, deterministic: bool = True
    ) -> tuple[Array, tuple[KeysValues, ...]]:
        length = tokens.shape[1] if cache is None else cache.visible.shape[1]
        rotation = Rotation.at(positions, length, self.config.head_dim, self.config.rope_theta)
        x = self.dropout(self.vocabulary.embed(tokens), deterministic=deterministic)
        keys_values = []
        for i, layer in enumerate(self.layers):
            past = None if cache is None else Past(cache.layers[i], cache.slot)
            x, new = layer(x, bias, rotation, past, deterministic)
            keys_values.append(new)
        return self.dropout(self.final_norm(x), deterministic=deterministic), tuple(keys_values)
