"""What does the decoder-only model compute, on packed rows or with a cache? Its families differ by configuration alone.

Dimensions: B rows, T positions, P prompt positions, L cache slots, D model width, N key and value heads, K width of a
head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flanscale.models.attend import Attend, Reference, positions_step, prepare
from flanscale.models.attention import Attention, KeysValues, Past
from flanscale.models.layers import FeedForward, Norm, Vocabulary
from flanscale.models.masks import Mask, as_bias
from flanscale.models.positions import Rotation
from flanscale.models.stack import Layers, run_layers, stacked_params
from flanscale.schema import ModelConfig
from flanscale.sizing.architecture import check_row


class View(NamedTuple):
    """What a layer sees: whom each position may attend to, and how positions turn queries and keys."""

    attend: Attend
    rotation: Rotation


class Cache(NamedTuple):
    """What generation remembers. All rows write to the same slot; shorter prompts leave a gap that stays hidden."""

    layers: Layers  # the keys and values of every layer, [B, N, L, K]
    visible: Bool[Array, "B L"]
    slot: Int[Array, ""]
    positions: Int[Array, " B"]


class Block(nn.Module):
    """One layer. `model.block` says where its norms stand and whether its halves read the same input."""

    config: ModelConfig
    dtype: str

    def setup(self) -> None:
        c = self.config
        self.attention = Attention(c, self.dtype, c.head_dim**-0.5)
        self.feed_forward = FeedForward(c, self.dtype)
        self.attention_norm = Norm(c, self.dtype)
        if c.block != "parallel":
            self.feed_forward_norm = Norm(c, self.dtype)
        if c.block == "sandwich":
            self.attention_out_norm, self.feed_forward_out_norm = Norm(c, self.dtype), Norm(c, self.dtype)
        self.dropout = nn.Dropout(c.dropout, broadcast_dims=(-2,))

    def __call__(
        self, x: Float[Array, "B T D"], view: View, past: Past | None, deterministic: bool
    ) -> tuple[Array, KeysValues]:
        """With a cache, new keys and values go to its slot first."""
        block = self.config.block
        h = x if block == "post" else self.attention_norm(x)
        keys_values = self.attention.keys_values(h, view.rotation)
        if past is not None:
            keys_values = past.append(keys_values)
        y = self.attention(h, keys_values, view.attend, view.rotation, deterministic)
        if block.startswith("parallel"):
            g = h if block == "parallel" else self.feed_forward_norm(x)
            z = self.feed_forward(g, deterministic)
            return x + self._drop(y, deterministic) + self._drop(z, deterministic), keys_values
        if block in ("post", "sandwich"):
            y = self.attention_norm(y) if block == "post" else self.attention_out_norm(y)
        x = x + self._drop(y, deterministic)
        y = self.feed_forward(x if block == "post" else self.feed_forward_norm(x), deterministic)
        if block in ("post", "sandwich"):
            y = self.feed_forward_norm(y) if block == "post" else self.feed_forward_out_norm(y)
        return x + self._drop(y, deterministic), keys_values

    def _drop(self, y: Array, deterministic: bool) -> Array:
        return self.dropout(y, deterministic=deterministic)


class Decoder(nn.Module):
    config: ModelConfig
    vocab_size: int
    dtype: str
    implementation: str  # of attention

    def setup(self) -> None:
        c = self.config
        self.vocabulary = Vocabulary(c, self.vocab_size, self.dtype)
        self.block = Block(c, self.dtype, parent=None)
        view = View(Reference(jnp.zeros((1, 1, 1, 1))), Rotation.at(jnp.zeros((1, 1), jnp.int32), 1, c, c.rope_theta))
        example = jnp.zeros((1, 1, c.d_model), self.dtype), view, None, True
        self.layers = stacked_params(self, self.block, c.n_layers, *example)
        self.final_norm = Norm(c, self.dtype)
        self.dropout = nn.Dropout(c.dropout, broadcast_dims=(-2,))

    def __call__(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T V"]:
        return self.logits(self.hidden(batch, deterministic))

    def hidden(self, batch: dict[str, Array], deterministic: bool = True) -> Float[Array, "B T D"]:
        """The last hidden states of packed rows. `decoder_prefix` is 1 where a position reads a token of the inputs.

        Raises:
            ValueError: the row is longer than the model's positions.
        """
        segments = batch["decoder_segment_ids"]
        prefix = batch["decoder_prefix"] if self.config.prefix_lm else None
        check_row(self.config, segments.shape[1])
        mask = Mask.packed(segments, segments, causal=True, prefix=prefix)
        tokens, positions = batch["decoder_input_tokens"], batch["decoder_positions"]
        return self._run(tokens, positions, segments.shape[1], self._sights(mask), None, deterministic)[0]

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        return self.vocabulary.logits(x)

    def prefill(
        self, prompt_BxP: Int[Array, "B P"], lengths_B: Int[Array, " B"], max_new_tokens: int
    ) -> tuple[Float[Array, "B V"], Cache]:
        """Reads prompts behind the start token, where the model has one; without one they must not be empty."""
        bos = self.config.bos_id
        if bos is not None:
            prompt_BxP = jnp.pad(prompt_BxP, ((0, 0), (1, 0)), constant_values=bos)
            lengths_B = lengths_B + 1
        prompt_BxP = jnp.pad(prompt_BxP, ((0, 0), (0, -prompt_BxP.shape[1] % positions_step(self.implementation))))
        rows, width = prompt_BxP.shape
        slots = jnp.arange(width)
        real = slots < lengths_B[:, None]
        prefix = real.astype(jnp.int32) if self.config.prefix_lm else None
        mask = Mask(width, width, causal=True, prefix=prefix)  # padding lies right of all that is read
        positions = jnp.broadcast_to(slots, (rows, width))
        x, layers = self._run(prompt_BxP, positions, width, self._sights(mask))
        free = ((0, 0), (0, max_new_tokens), (0, 0))
        cache = Cache(
            # The heads, or in a stack the layers, stand before the rest.
            layers=jax.tree.map(lambda cached: jnp.pad(cached, ((0, 0),) * (cached.ndim - 3) + free), layers),
            visible=jnp.pad(real, ((0, 0), (0, max_new_tokens))),
            slot=jnp.asarray(width, jnp.int32),
            positions=lengths_B.astype(jnp.int32),
        )
        return self.logits(x[jnp.arange(rows), lengths_B - 1]), cache

    def decode_step(self, cache: Cache, tokens_B: Int[Array, " B"]) -> tuple[Float[Array, "B V"], Cache]:
        visible = cache.visible | (jnp.arange(cache.visible.shape[1]) == cache.slot)
        masks = [visible]
        if self.config.window is not None:
            back = cache.positions[:, None] - (jnp.cumsum(visible, axis=1) - 1)
            masks.append(visible & (back < self.config.window))
        sights = [Reference(as_bias(mask)[:, None, None, :], self.config.attention_cap) for mask in masks]
        length = visible.shape[1]
        x, layers = self._run(tokens_B[:, None], cache.positions[:, None], length, sights, cache)
        return self.logits(x[:, 0]), Cache(layers, visible, cache.slot + 1, cache.positions + 1)

    def _sights(self, mask: Mask) -> list[Attend]:
        """Attention of layers that see everything and, with a window, of those that do not."""
        c = self.config
        masks = [mask] if c.window is None else [mask, replace(mask, window=c.window)]
        return [prepare(self.implementation, c, mask) for mask in masks]

    def _run(
        self,
        tokens: Array,
        positions: Array,
        length: int,
        sights: Sequence[Attend],
        cache: Cache | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, Layers]:
        """All layers, on positions below `length`."""
        c = self.config
        thetas = (c.rope_theta, c.window_rope_theta or c.rope_theta)
        views = [
            View(sight, Rotation.at(positions, length, c, theta)) for sight, theta in zip(sights, thetas, strict=False)
        ]
        x = self.dropout(self.vocabulary.embed(tokens), deterministic=deterministic)
        key = None if deterministic or not c.dropout else self.make_rng("dropout")

        def step(x: Array, own: tuple[Any, ...]) -> tuple[Array, KeysValues]:
            number, params, keys_values = own
            view = views[-1]
            if c.window is not None and c.global_every is not None:
                local = (number + 1) % c.global_every != 0
                view = jax.tree.map(partial(jnp.where, local), views[-1], views[0])
            past = None if cache is None else Past(keys_values, cache.slot)
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, number)}
            return self.block.apply({"params": params}, x, view, past, key is None, rngs=rngs)

        # Without a cache nobody needs the keys and values but prefill, and XLA drops them.
        x, layers = run_layers(step, x, (self.layers, None if cache is None else cache.layers), c)
        return self.dropout(self.final_norm(x), deterministic=deterministic), layers
