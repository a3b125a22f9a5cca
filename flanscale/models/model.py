"""What does the rest of the house see of a model: parameters in, logits out?"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flanscale.models.attend import choose, platform_of
from flanscale.models.decoder import Decoder
from flanscale.models.layers import head_of
from flanscale.models.loss import cross_entropy
from flanscale.models.parts import Part, Spots
from flanscale.models.sharding import constrain
from flanscale.models.stack import Apart, params_apart
from flanscale.models.t5 import T5
from flanscale.schema import ModelConfig
from flanscale.sizing.architecture import check_model
from flanscale.sizing.memory import logit_chunks

Batch = dict[str, Array]
Params = dict[str, Any]

ARCHITECTURES = {"decoder": Decoder, "encoder_decoder": T5}

_taken_apart = jax.jit(params_apart, static_argnums=1)


@dataclasses.dataclass(frozen=True)
class Model:
    """An architecture of one size over one vocabulary. Hashable: a static argument of jitted functions.

    Batches hold packed rows under seqio's field names; segment 0 is padding. `hidden` followed by `logits` is `apply`,
    for losses that do not want all logits at once.
    """

    config: ModelConfig
    vocab_size: int
    dtype: str = "float32"
    implementation: str = "xla"  # of attention

    def __hash__(self) -> int:
        return hash((dataclasses.astuple(self.config), self.vocab_size, self.dtype, self.implementation))

    @cached_property
    def _module(self) -> Any:
        return ARCHITECTURES[self.config.architecture](self.config, self.vocab_size, self.dtype, self.implementation)

    def init(self, key: Array) -> Params:
        """Fresh float32 parameters."""
        row = jnp.zeros((1, 1), jnp.int32)
        names = ("input_tokens", "segment_ids", "positions", "prefix")
        batch = {f"{stack}_{name}": row for stack in ("encoder", "decoder") for name in names}
        return self._module.init(key, batch)["params"]

    def apply(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Float[Array, "B T V"]:
        """Float32 logits of every target position; dropout is off without a key."""
        return self.logits(params, self.hidden(params, batch, dropout_key))

    def hidden(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Float[Array, "B T D"]:
        rngs = {} if dropout_key is None else {"dropout": dropout_key}
        return self._call(params, "hidden", batch, dropout_key is None, rngs=rngs)

    def logits(self, params: Params, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        return self._call(params, "logits", x)

    def loss(
        self, params: Params, x: Float[Array, "B T D"], targets: Int[Array, "B T"], weights: Array, z_loss: float
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """`cross_entropy` of hidden states, in as many stretches as keep the logits small."""
        head, mesh = head_of(self.config), jax.sharding.get_abstract_mesh().shape
        table = params["vocabulary"]["embedding" if head.tied else "head"]
        stretches = logit_chunks(math.ceil(len(x) / math.prod(mesh.values())), x.shape[1], self.vocab_size)
        return cross_entropy(x, table, targets, weights, head, z_loss, stretches)

    def for_decoding(self, params: Params) -> Params:
        """The parameters as a loop over `read` takes them fastest; it takes either."""
        return params if self.config.scan else _taken_apart(params, self.config.n_layers)

    def encode(self, params: Params, tokens: Int[Array, "B S"], segments: Int[Array, "B S"]) -> Part:
        """What an encoder-decoder makes of prompts, for `read`; each ends in EOS, as in training, and 0 is padding."""
        return self._call(params, "encode", tokens, segments)

    def read(
        self,
        params: Params,
        tokens: Int[Array, "B T"],
        spots: Spots,
        past: tuple[Part, ...] = (),
        into: Part | None = None,
        slot: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, "B T D"], Part]:
        """Hidden states of tokens behind what was read before (for an encoder-decoder: one part that `encode` gave),
        and what they are to later ones: a part of their own, or `into` with them from `slot` on.
        """
        if self.config.architecture == "encoder_decoder":
            return self._call(params, "read", tokens, spots, *past, into, slot)
        return self._call(params, "read", tokens, spots, past, into, slot)

    def empty(self, spots: Spots) -> Part:
        """Room to read into, for a token at each of the spots."""
        c, (rows, length) = self.config, spots.positions.shape
        shape = (rows, c.kv_heads, length, c.head_dim)

        def room(*layers: int) -> Array:
            axes = (*(None for _ in layers), "batch", "kv_heads", None, None)
            return constrain(jnp.zeros((*layers, *shape), self.dtype), *axes)

        if c.scan:
            return Part((room(c.n_layers), room(c.n_layers)), spots)
        return Part(Apart(tuple((room(), room()) for _ in range(c.n_layers))), spots)

    def _call(self, params: Params, method: str, *args: Any, rngs: dict[str, Array] | None = None) -> Any:
        return self._module.apply({"params": params}, *args, method=method, rngs=rngs)


def build_model(config: ModelConfig, vocab_size: int, dtype: str = "float32", platform: str | None = None) -> Model:
    """The model of a configuration; `dtype` is that of activations and matrix products.

    Args:
        vocab_size: rows of the table where the configuration does not say.
        platform: for which it will be compiled; None: that of this process.

    Raises:
        ValueError: options that exclude each other, or `model.attention` names a kernel that cannot serve the model.
    """
    check_model(config)
    implementation = choose(config, dtype, platform or platform_of(jax.devices()[0]))
    return Model(dataclasses.replace(config), config.vocab_size or vocab_size, dtype, implementation)
