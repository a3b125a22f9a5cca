"""What does the decoder-only model compute, on packed rows or behind what it has read? Its families differ by
configuration alone.

Dimensions: B rows, T positions, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flanscale.models.attend import Attend, Reference, prepare
from flanscale.models.attention import Attention, KeysValues, Past
from flanscale.models.layers import FeedForward, Norm, Vocabulary
from flanscale.models.masks import Mask
from flanscale.models.parts import OverParts, Part, Spots, positions_of, sight, slots_used
from flanscale.models.positions import Rotation
from flanscale.models.stack import Layers, run_layers, stacked_params
from flanscale.schema import ModelConfig
from flanscale.sizing.architecture import check_row


class View(NamedTuple):
    """What a layer sees: whom each position may attend to, and how positions turn queries and keys."""

    attend: Attend
    rotation: Rotation


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
        return self._run(tokens, positions, segments.shape[1], self._sights(mask), deterministic=deterministic)[0]

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        return self.vocabulary.logits(x)

    def read(
        self,
        tokens: Int[Array, "B T"],
        spots: Spots,
        past: tuple[Part, ...] = (),
        into: Part | None = None,
        slot: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, "B T D"], Part]:
        """The last hidden states of tokens behind parts that were read before, and what these tokens are to later ones.

        With `into`, a part of B rows, they are written into it from `slot` on, and see what stands there already.
        """
        own = spots if into is None else into.spots.written(spots, slot)
        length = positions_of(own.positions.shape[1], past)
        if into is None and not past and spots.branches is None and self.implementation != "xla":
            sights = self._sights(_plain(spots))
        else:
            keys = [*(part.spots for part in past), own]
            used = tuple(slots_used(spots, theirs) for theirs in keys)
            sights = [
                OverParts(tuple(sight(spots, theirs, window) for theirs in keys), used, cap=self.config.attention_cap)
                for window in ((None,) if self.config.window is None else (None, self.config.window))
            ]
        layers = None if into is None else into.layers
        x, layers = self._run(tokens, spots.positions, length, sights, (layers, *(part.layers for part in past)), slot)
        return x, Part(layers, own)

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
        read: tuple[Layers, ...] = (None,),
        slot: Array | int = 0,
        deterministic: bool = True,
    ) -> tuple[Array, Layers]:
        """All layers, on positions below `length`; `read`: where they write keys and values, and then earlier parts."""
        c = self.config
        thetas = (c.rope_theta, c.window_rope_theta or c.rope_theta)
        views = [
            View(sight, Rotation.at(positions, length, c, theta)) for sight, theta in zip(sights, thetas, strict=False)
        ]
        x = self.dropout(self.vocabulary.embed(tokens), deterministic=deterministic)
        key = None if deterministic or not c.dropout else self.make_rng("dropout")

        def step(x: Array, own: tuple[Any, ...]) -> tuple[Array, KeysValues]:
            number, params, into, *past = own
            view = views[-1]
            if c.window is not None and c.global_every is not None:
                local = (number + 1) % c.global_every != 0
                view = jax.tree.map(partial(jnp.where, local), views[-1], views[0])
            if isinstance(view.attend, OverParts):
                view = view._replace(attend=replace(view.attend, past=tuple(past)))
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, number)}
            write = None if into is None else Past(into, slot)
            return self.block.apply({"params": params}, x, view, write, key is None, rngs=rngs)

        # In training nobody needs the keys and values, and XLA drops them.
        x, layers = run_layers(step, x, (self.layers, *read), c)
        return self.dropout(self.final_norm(x), deterministic=deterministic), layers


def _plain(spots: Spots) -> Mask:
    """The mask of tokens that stand in the order of their positions, without branches."""
    length = spots.positions.shape[1]
    segments = None if spots.segments is None else (spots.segments, spots.segments)
    prefix = None if spots.since is None else (spots.since < spots.positions).astype(jnp.int32)
    return Mask(length, length, segments, causal=True, prefix=prefix)
