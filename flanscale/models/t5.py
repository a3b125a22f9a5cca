"""What does the T5 v1.1 encoder-decoder compute, on packed rows or with a cache?

After arXiv:1910.10683 and the v1.1 changes (gated GELU, untied head): pre-norm RMSNorm, a relative position bias
per stack and none across, no 1/√K in attention. Positions of packed rows are not needed: inside a segment the bias
depends on differences alone.

Dimensions: B rows, S encoder positions, T decoder positions, P prompt positions, L cache slots, D model width,
H heads, K width of a head, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flanscale.models.attention import Attention, KeysValues, Past, as_bias, segment_mask
from flanscale.models.layers import FeedForward, RelativeBias, RMSNorm, Vocabulary
from flanscale.schema import ModelConfig

EOS = 1


class Cache(NamedTuple):
    """What generation remembers: the decoder's own past, and the encoded prompt as every layer sees it."""

    own: tuple[KeysValues, ...]  # of [B, H, L, K]
    encoded: tuple[KeysValues, ...]  # of [B, H, S, K]
    encoded_bias: Float[Array, "B 1 1 S"]
    slot: Int[Array, ""]


class EncoderBlock(nn.Module):
    config: ModelConfig
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B S D"], bias: Array, deterministic: bool) -> Float[Array, "B S D"]:
        attention = Attention(self.config, self.dtype, 1.0, name="attention")
        dropout = nn.Dropout(self.config.dropout, broadcast_dims=(-2,), deterministic=deterministic)
        h = RMSNorm(self.dtype, name="attention_norm")(x)
        x = x + dropout(attention(h, attention.keys_values(h), bias, deterministic=deterministic))
        h = RMSNorm(self.dtype, name="feed_forward_norm")(x)
        return x + dropout(FeedForward(self.config, self.dtype, name="feed_forward")(h, deterministic))


class DecoderBlock(nn.Module):
    config: ModelConfig
    dtype: str

    def setup(self) -> None:
        self.attention_norm = RMSNorm(self.dtype)
        self.attention = Attention(self.config, self.dtype, 1.0)
        self.cross_attention_norm = RMSNorm(self.dtype)
        self.cross_attention = Attention(self.config, self.dtype, 1.0)
        self.feed_forward_norm = RMSNorm(self.dtype)
        self.feed_forward = FeedForward(self.config, self.dtype)
        self.dropout = nn.Dropout(self.config.dropout, broadcast_dims=(-2,))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        bias: Array,
        encoded: KeysValues,
        encoded_bias: Array,
        past: Past | None,
        deterministic: bool,
    ) -> tuple[Array, KeysValues]:
        """One block; `encoded` is what `encoded_keys_values` gave. With a cache, new keys and values go to its slot."""
        h = self.attention_norm(x)
        keys_values = self.attention.keys_values(h)
        if past is not None:
            keys_values = past.append(keys_values)
        x = x + self.dropout(self.attention(h, keys_values, bias, None, deterministic), deterministic=deterministic)
        y = self.cross_attention(self.cross_attention_norm(x), encoded, encoded_bias, None, deterministic)
        x = x + self.dropout(y, deterministic=deterministic)
        y = self.feed_forward(self.feed_forward_norm(x), deterministic)
        return x + self.dropout(y, deterministic=deterministic), keys_values

    def encoded_keys_values(self, encoded_BxSxD: Float[Array, "B S D"]) -> KeysValues:
        return self.cross_attention.keys_values(encoded_BxSxD)


class Encoder(nn.Module):
    config: ModelConfig
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B S D"], segments_BxS: Array, deterministic: bool) -> Float[Array, "B S D"]:
        s = jnp.arange(x.shape[1])
        bias = RelativeBias(self.config, bidirectional=True, name="position")(s[None, :] - s[:, None])
        bias = bias + as_bias(segment_mask(segments_BxS, segments_BxS))
        dropout = nn.Dropout(self.config.dropout, broadcast_dims=(-2,), deterministic=deterministic)
        x = dropout(x)
        for i in range(self.config.n_layers):
            x = EncoderBlock(self.config, self.dtype, name=f"layer_{i}")(x, bias, deterministic)
        return dropout(RMSNorm(self.dtype, name="final_norm")(x))


class Decoder(nn.Module):
    config: ModelConfig
    dtype: str

    def setup(self) -> None:
        self.position = RelativeBias(self.config, bidirectional=False)
        self.layers = [DecoderBlock(self.config, self.dtype, name=f"layer_{i}") for i in range(self.config.n_layers)]
        self.final_norm = RMSNorm(self.dtype)
        self.dropout = nn.Dropout(self.config.dropout, broadcast_dims=(-2,))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        bias: Array,
        encoded: tuple[KeysValues, ...],
        encoded_bias: Array,
        cache: Cache | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, tuple[KeysValues, ...]]:
        x = self.dropout(x, deterministic=deterministic)
        keys_values = []
        for i, layer in enumerate(self.layers):
            past = None if cache is None else Past(cache.own[i], cache.slot)
            x, new = layer(x, bias, encoded[i], encoded_bias, past, deterministic)
            keys_values.append(new)
        return self.dropout(self.final_norm(x), deterministic=deterministic), tuple(keys_values)

    def encoded_keys_values(self, encoded_BxSxD: Float[Array, "B S D"]) -> tuple[KeysValues, ...]:
        return tuple(layer.encoded_keys_values(encoded_BxSxD) for layer in self.layers)


class T5(nn.Module):
    config: ModelConfig
    vocab_size: int
    dtype: str

    def setup(self) -> None:
        self.vocabulary = Vocabulary(self.config, self.vocab_size, self.dtype)
        self.encoder = Encoder(self.config, self.dtype)
        self.decoder = Decoder(self.config, self.dtype)

    def __call__(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T V"]:
        return self.logits(self.hidden(batch, deterministic))

    def hidden(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T D"]:
        """The decoder's last hidden states of packed rows."""
        sources, targets = batch["encoder_segment_ids"], batch["decoder_segment_ids"]
        x = self.encoder(self.vocabulary.embed(batch["encoder_input_tokens"]), sources, deterministic)
        t = jnp.arange(targets.shape[1])
        bias = self.decoder.position(t[None, :] - t[:, None]) + as_bias(segment_mask(targets, targets, causal=True))
        encoded_bias = as_bias(segment_mask(targets, sources))
        encoded = self.decoder.encoded_keys_values(x)
        y = self.vocabulary.embed(batch["decoder_input_tokens"])
        return self.decoder(y, bias, encoded, encoded_bias, deterministic=deterministic)[0]

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        return self.vocabulary.logits(x)

    def prefill(
        self, prompt_BxP: Int[Array, "B P"], lengths_B: Int[Array, " B"], max_new_tokens: int
    ) -> tuple[Float[Array, "B V"], Cache]:
        c = self.config
        rows, width = prompt_BxP.shape[0], prompt_BxP.shape[1] + 1
        s = jnp.arange(width)
        tokens = jnp.pad(prompt_BxP, ((0, 0), (0, 1)))
        tokens = jnp.where(s == lengths_B[:, None], EOS, tokens)
        segments = (s <= lengths_B[:, None]).astype(jnp.int32)
        x = self.encoder(self.vocabulary.embed(tokens), segments, True)
        empty = jnp.zeros((rows, c.n_heads, max_new_tokens + 1, c.head_dim), self.dtype)
        cache = Cache(
            own=((empty, empty),) * c.n_layers,
            encoded=self.decoder.encoded_keys_values(x),
            encoded_bias=as_bias(segments == 1)[:, None, None, :],
            slot=jnp.zeros((), jnp.int32),
        )
        return self.decode_step(cache, jnp.zeros(rows, jnp.int32))

    def decode_step(self, cache: Cache, tokens_B: Int[Array, " B"]) -> tuple[Float[Array, "B V"], Cache]:
        slots = jnp.arange(cache.own[0][0].shape[2])
        bias = self.decoder.position((slots - cache.slot)[None, :]) + as_bias(slots <= cache.slot)
        x = self.vocabulary.embed(tokens_B[:, None])
        x, own = self.decoder(x, bias, cache.encoded, cache.encoded_bias, cache)
        return self.logits(x[:, 0]), cache._replace(own=own, slot=cache.slot + 1)
