"""What else are both architectures made of: norm, feed-forward and vocabulary?

Kernels are two-dimensional ([in, out], heads joined), as in T5X: Adafactor factors them and importers need no reshape.
Parameters and norms are float32; products run in `dtype`.

Dimensions: B rows, T positions, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flanscale.models.loss import Head
from flanscale.models.products import project
from flanscale.models.sharding import constrain
from flanscale.schema import ModelConfig

GATES: dict[str, Callable[[Array], Array]] = {"geglu": jax.nn.gelu, "swiglu": jax.nn.silu}
NONLINEARITIES: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "gelu_exact": partial(jax.nn.gelu, approximate=False),
}


class Norm(nn.Module):
    """Division by the root mean square in float32, times a learned scale (arXiv:1910.07467).

    `norm=layer` takes the mean away first (arXiv:1607.06450); `norm_bias` adds a learned vector afterwards.
    """

    config: ModelConfig
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        c, zeros = self.config, nn.initializers.zeros
        scale = self.param("scale", zeros if c.norm_offset else nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", zeros, (x.shape[-1],), jnp.float32) if c.norm_bias else None

        @kept_inputs
        def normalise(x: Array, scale: Array, bias: Array | None) -> Array:
            x = x.astype(jnp.float32)
            if c.norm == "layer":
                x = x - jnp.mean(x, axis=-1, keepdims=True)
            factor = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + c.norm_eps)
            y = x * factor * (1 + scale if c.norm_offset else scale)
            return (y if bias is None else y + bias).astype(self.dtype)

        return normalise(x, scale, bias)


class FeedForward(nn.Module):
    """Two kernels around a nonlinearity, or three when it is gated (arXiv:2002.05202)."""

    config: ModelConfig
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], deterministic: bool = True) -> Float[Array, "B T D"]:
        c = self.config

        def parameters(name: str, shape: tuple[int, int]) -> tuple[Array, Array | None]:
            kernel = self.param(name, fan_in(), shape, jnp.float32)
            biased = c.bias == "all"
            return kernel, self.param(f"{name}_bias", nn.initializers.zeros, shape[1:], jnp.float32) if biased else None

        def product(x: Array, kernel: Array, bias: Array | None) -> Array:
            return project(x, kernel, bias=bias, name="feed_forward")

        up = constrain(product(x, *parameters("up", (c.d_model, c.d_ff))), "batch", None, "ff")
        gate = product(x, *parameters("gate", (c.d_model, c.d_ff))) if c.activation in GATES else None
        ones = jnp.ones((x.shape[0], 1, c.d_ff), up.dtype)  # dropout draws one mask for all positions, as T5X
        kept = None if deterministic or not c.dropout else nn.Dropout(c.dropout)(ones, deterministic=False) > 0

        @kept_inputs
        def close(up: Array, gate: Array | None, kept: Array | None, kernel: Array, bias: Array | None) -> Array:
            y = NONLINEARITIES[c.activation](up) if gate is None else GATES[c.activation](gate) * up
            return product(y if kept is None else jnp.where(kept, y / (1 - c.dropout), 0), kernel, bias)

        return constrain(close(up, gate, kept, *parameters("down", (c.d_ff, c.d_model))), "batch", None, None)


class Vocabulary(nn.Module):
    """Token ids to vectors and vectors to logits, with one table or two.

    A tied table divides the logits by √D under `scale_logits`, as T5X and PaLM (arXiv:2204.02311) do.
    """

    config: ModelConfig
    vocab_size: int
    dtype: str

    def setup(self) -> None:
        c = self.config
        # Logits begin with a variance of one: the table that makes them is small, or they are divided.
        spread = 1 / math.sqrt(c.d_model) if c.scale_embeddings or (c.tie_embeddings and not c.scale_logits) else 1.0
        shape = (self.vocab_size, c.d_model)
        self.embedding = self.param("embedding", nn.initializers.normal(spread), shape, jnp.float32)
        if not c.tie_embeddings:
            self.head = self.param("head", fan_in(), (c.d_model, self.vocab_size), jnp.float32)

    def embed(self, ids: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        x = self.embedding[ids].astype(self.dtype)
        if self.config.scale_embeddings:
            x = x * jnp.asarray(math.sqrt(self.config.d_model), x.dtype)
        return constrain(x, "batch", None, None)

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        table = self.embedding.T if self.config.tie_embeddings else self.head
        return head_of(self.config).logits(project(x, table, dtype=jnp.float32))


def head_of(config: ModelConfig) -> Head:
    """How the vocabulary's table makes logits."""
    scale = 1 / math.sqrt(config.d_model) if config.tie_embeddings and config.scale_logits else 1.0
    return Head(config.tie_embeddings, scale, config.logit_cap)


def kept_inputs(function: Callable[..., Array]) -> Callable[..., Array]:
    """The function, of which the backward pass keeps the arguments and computes the rest again.

    Differentiation of a scan would stack every intermediate value, in float32 where the function works in it.
    """
    return jax.checkpoint(function, prevent_cse=False)


def fan_in() -> jax.nn.initializers.Initializer:
    return nn.initializers.variance_scaling(1.0, "fan_in", "normal")
