"""What does the T5 encoder-decoder compute, on packed rows or behind what it has read?

After arXiv:1910.10683 (v1.0: ReLU, one table whose logits are divided by √D) and its v1.1 (gated GELU, a head of its
own): pre-norm RMSNorm, a relative position bias per stack and none across, no 1/√K in attention. Positions of packed
rows are not needed: inside a segment the bias depends on differences alone.

Dimensions: B rows, S encoder positions, T decoder positions, D model width, H heads, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flanscale.models.attend import Attend, Reference, prepare
from flanscale.models.attention import Attention, KeysValues, Past
from flanscale.models.layers import FeedForward, Norm, Vocabulary
from flanscale.models.masks import Mask
from flanscale.models.parts import NOTHING, OverParts, Part, Spots, sight
from flanscale.models.positions import RelativeBias
from flanscale.models.stack import Layers, run_layers, stacked_params
from flanscale.schema import ModelConfig


class EncoderBlock(nn.Module):
    config: ModelConfig
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B S D"], attend: Attend, deterministic: bool) -> Float[Array, "B S D"]:
        attention = Attention(self.config, self.dtype, 1.0, name="attention")
        dropout = nn.Dropout(self.config.dropout, broadcast_dims=(-2,), deterministic=deterministic)
        h = Norm(self.config, self.dtype, name="attention_norm")(x)
        x = x + dropout(attention(h, attention.keys_values(h), attend, deterministic=deterministic))
        h = Norm(self.config, self.dtype, name="feed_forward_norm")(x)
        return x + dropout(FeedForward(self.config, self.dtype, name="feed_forward")(h, deterministic))


class DecoderBlock(nn.Module):
    config: ModelConfig
    dtype: str

    def setup(self) -> None:
        c = self.config
        self.attention_norm = Norm(c, self.dtype)
        self.attention = Attention(c, self.dtype, 1.0)
        self.cross_attention_norm = Norm(c, self.dtype)
        self.cross_attention = Attention(c, self.dtype, 1.0)
        self.feed_forward_norm = Norm(c, self.dtype)
        self.feed_forward = FeedForward(c, self.dtype)
        self.dropout = nn.Dropout(c.dropout, broadcast_dims=(-2,))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        attend: Attend,
        encoded: KeysValues | Float[Array, "B S D"],
        cross: Attend,
        past: Past | None,
        deterministic: bool,
    ) -> tuple[Array, KeysValues]:
        """One block on what the encoder gave, or what `encoded_keys_values` made of it.

        With a past, new keys and values are written there first.
        """
        h = self.attention_norm(x)
        keys_values = self.attention.keys_values(h)
        if past is not None:
            keys_values = past.append(keys_values)
        x = x + self.dropout(self.attention(h, keys_values, attend, None, deterministic), deterministic=deterministic)
        seen = encoded if isinstance(encoded, tuple) else self.encoded_keys_values(encoded)
        y = self.cross_attention(self.cross_attention_norm(x), seen, cross, None, deterministic)
        x = x + self.dropout(y, deterministic=deterministic)
        y = self.feed_forward(self.feed_forward_norm(x), deterministic)
        return x + self.dropout(y, deterministic=deterministic), keys_values

    def encoded_keys_values(self, encoded_BxSxD: Float[Array, "B S D"]) -> KeysValues:
        return self.cross_attention.keys_values(encoded_BxSxD)


class Encoder(nn.Module):
    config: ModelConfig
    dtype: str
    implementation: str

    @nn.compact
    def __call__(self, x: Float[Array, "B S D"], segments_BxS: Array, deterministic: bool) -> Float[Array, "B S D"]:
        c = self.config
        s = jnp.arange(x.shape[1])
        bias = RelativeBias(c, bidirectional=True, name="position")((s[None, :] - s[:, None])[None])
        attend = prepare(self.implementation, c, Mask.packed(segments_BxS, segments_BxS), bias)
        dropout = nn.Dropout(c.dropout, broadcast_dims=(-2,), deterministic=deterministic)
        block = EncoderBlock(c, self.dtype, parent=None)
        layers = stacked_params(self, block, c.n_layers, x[:1, :1], Reference(bias[:1, :, :1, :1]), True)
        key = None if deterministic or not c.dropout else self.make_rng("dropout")

        def step(x: Array, own: tuple[Any, ...]) -> tuple[Array, None]:
            number, params = own
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, number)}
            return block.apply({"params": params}, x, attend, key is None, rngs=rngs), None

        x, _ = run_layers(step, dropout(x), (layers,), c)
        return dropout(Norm(c, self.dtype, name="final_norm")(x))


class Decoder(nn.Module):
    config: ModelConfig
    dtype: str

    def setup(self) -> None:
        c = self.config
        self.position = RelativeBias(c, bidirectional=False)
        self.block = DecoderBlock(c, self.dtype, parent=None)
        x, attend = jnp.zeros((1, 1, c.d_model), self.dtype), Reference(jnp.zeros((1, 1, 1, 1)))
        self.layers = stacked_params(self, self.block, c.n_layers, x, attend, x, attend, None, True)
        self.final_norm = Norm(c, self.dtype)
        self.dropout = nn.Dropout(c.dropout, broadcast_dims=(-2,))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        attend: Attend,
        encoded: Float[Array, "B S D"] | Part,
        cross: Attend,
        into: Part | None = None,
        slot: Int[Array, ""] | int = 0,
        deterministic: bool = True,
    ) -> tuple[Array, Layers]:
        """All layers, on what the encoder gave or what was made of it."""
        c = self.config
        x = self.dropout(x, deterministic=deterministic)
        key = None if deterministic or not c.dropout else self.make_rng("dropout")

        def step(x: Array, own: tuple[Any, ...]) -> tuple[Array, KeysValues | None]:
            number, params, write, seen = own
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, number)}
            past = None if write is None else Past(write, slot)
            seen = seen if isinstance(encoded, Part) else encoded
            x, new = self.block.apply({"params": params}, x, attend, seen, cross, past, key is None, rngs=rngs)
            return x, new if isinstance(encoded, Part) else None

        layers = encoded.layers if isinstance(encoded, Part) else None
        x, keys_values = run_layers(step, x, (self.layers, None if into is None else into.layers, layers), c)
        return self.dropout(self.final_norm(x), deterministic=deterministic), keys_values

    def encoded_keys_values(self, encoded_BxSxD: Float[Array, "B S D"]) -> Layers:
        """What every layer's cross-attention makes of the encoder's output."""

        def step(x: Array, own: tuple[Any, ...]) -> tuple[Array, KeysValues]:
            return x, self.block.apply({"params": own[1]}, x, method="encoded_keys_values")

        return run_layers(step, encoded_BxSxD, (self.layers,), self.config)[1]


class T5(nn.Module):
    config: ModelConfig
    vocab_size: int
    dtype: str
    implementation: str  # of attention

    def setup(self) -> None:
        self.vocabulary = Vocabulary(self.config, self.vocab_size, self.dtype)
        self.encoder = Encoder(self.config, self.dtype, self.implementation)
        self.decoder = Decoder(self.config, self.dtype)

    def __call__(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T V"]:
        return self.logits(self.hidden(batch, deterministic))

    def hidden(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T D"]:
        """The decoder's last hidden states of packed rows."""
        sources, targets = batch["encoder_segment_ids"], batch["decoder_segment_ids"]
        x = self.encoder(self.vocabulary.embed(batch["encoder_input_tokens"]), sources, deterministic)
        t = jnp.arange(targets.shape[1])
        bias = self.decoder.position((t[None, :] - t[:, None])[None])
        attend = prepare(self.implementation, self.config, Mask.packed(targets, targets, causal=True), bias)
        cross = prepare(self.implementation, self.config, Mask.packed(targets, sources))
        y = self.vocabulary.embed(batch["decoder_input_tokens"])
        return self.decoder(y, attend, x, cross, deterministic=deterministic)[0]

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        return self.vocabulary.logits(x)

    def encode(self, tokens: Int[Array, "B S"], segments: Int[Array, "B S"]) -> Part:
        """What the decoder sees of prompts, packed or one a row; segment 0 is padding.

        They are laid out as training lays out the encoder's rows: each ends in the vocabulary's EOS.
        """
        x = self.encoder(self.vocabulary.embed(tokens), segments, True)
        positions = jnp.where(segments > 0, jnp.arange(segments.shape[1]), NOTHING)
        return Part(self.decoder.encoded_keys_values(x), Spots(positions, segments, since=jnp.zeros_like(segments)))

    def read(
        self,
        tokens: Int[Array, "B T"],
        spots: Spots,
        encoded: Part,
        into: Part | None = None,
        slot: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, "B T D"], Part]:
        """The decoder's last hidden states of tokens, and what these are to later ones; the first of a row is 0.

        With `into`, a part of B rows, they are written into it from `slot` on, and see what stands there already.
        """
        own = spots if into is None else into.spots.written(spots, slot)
        bias = self.decoder.position(own.positions[:, None, :] - spots.positions[:, :, None])
        attend = OverParts((sight(spots, own) + bias[:, None],), (None,))
        cross = OverParts((sight(spots, encoded.spots),), (None,))
        x, layers = self.decoder(self.vocabulary.embed(tokens), attend, encoded, cross, into, slot)
        return x, Part(layers, own)
