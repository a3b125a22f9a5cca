"""How are scores turned into weighted values? The reference in plain XLA, and the kernels that GPUs and TPUs have.

Each implementation is made once for all layers from a mask and, in T5, a relative bias, and then called with a layer's
queries, keys and values. Which one a model uses is decided when it is built (`choose`) and said in the log.

Dimensions: B rows, T query positions, S key positions, H query heads, N key and value heads, G = H / N query heads to
each, K width of a head, C width of a segment's code.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from flanscale.models.masks import Mask, as_bias
from flanscale.models.products import row_by_row, sum_of_rows, transposed
from flanscale.models.sharding import RULES, divisible
from flanscale.schema import ModelConfig
from flanscale.sizing.architecture import CODE_WIDTH, TPU_LANES, attention_of, check_attention, coded

logger = logging.getLogger(__name__)


class Attend(Protocol):
    """softmax(q kᵀ + bias) v where the mask allows it; query head h attends to key and value head h // G."""

    def __call__(
        self, q: Float[Array, "B H T K"], k: Float[Array, "B N S K"], v: Float[Array, "B N S K"]
    ) -> Float[Array, "B H T K"]: ...


def platform_of(device: jax.Device) -> str:
    """A device's platform, as `attention_of` knows it: GPUs before Ampere have no fused kernel for bfloat16."""
    capability = float(getattr(device, "compute_capability", 8))
    return "old_gpu" if device.platform == "gpu" and capability < 8 else device.platform


def choose(config: ModelConfig, dtype: str, platform: str) -> str:
    """The implementation for a model, and a line in the log where its platform has a faster one that cannot serve it.

    Raises:
        ValueError: `model.attention` names one that cannot.
    """
    check_attention(config, dtype)
    name, reason = attention_of(config, dtype, platform)
    if reason:
        logger.warning("attention: xla, several times slower than the fused kernel here: %s", reason)
    return name


def prepare(
    name: str,
    config: ModelConfig,
    mask: Mask,
    bias: Float[Array, "1 H T S"] | None = None,
) -> Attend:
    """An implementation for a mask; the reference, and a line in the log, where the lengths are not the kernel's."""
    step = positions_step(name)
    odd = bool(mask.queries % step or mask.keys % step)
    if name == "cudnn" and not (odd and (bias is not None or not coded(config))):
        return Cudnn.of(config, mask, bias)
    if name == "splash" and not odd:
        return Splash.of(config, mask)
    if name != "xla" and mask.queries > 1:
        _say_once(f"attention: xla for {mask.queries} × {mask.keys} positions; {name} takes multiples of {step}")
    masked = as_bias(mask.dense())
    return Reference(masked if bias is None else bias + masked, config.attention_cap)


def positions_step(name: str) -> int:
    """Of what an implementation takes multiples of positions."""
    return {"cudnn": 2, "splash": TPU_LANES}.get(name, 1)


@cache
def _say_once(words: str) -> None:
    logger.warning(words)


# --- plain XLA ----------------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reference:
    """With an additive bias that holds the mask and, where there is one, the relative position bias.

    The softmax is in float32. With a cap, scores are cap · tanh(q kᵀ / cap) before the bias (Gemma 2,
    arXiv:2408.00118).
    """

    bias: Float[Array, "#B #H #T S"]
    cap: float | None = field(default=None, metadata={"static": True})

    def __call__(self, q: Array, k: Array, v: Array) -> Array:
        shape, groups, bias = q.shape, q.shape[1] // k.shape[1], self.bias
        if groups > 1:  # the queries of a group stand behind each other, as more positions
            rows, heads, length, width = shape
            bias = jnp.broadcast_to(bias[:, :, None], (*bias.shape[:2], groups, length, bias.shape[-1]))
            bias = bias.reshape(*bias.shape[:2], groups * length, -1)
            q = q.reshape(rows, heads // groups, groups * length, width)
        y = _attend(q, k, v, bias) if self.cap is None else _attend_capped(q, k, v, bias, self.cap)
        return y.reshape(shape)


def _attend_capped(q: Array, k: Array, v: Array, bias: Array, cap: float) -> Array:
    scores = jnp.einsum("bhtk,bhsk->bhts", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(cap * jnp.tanh(scores / cap) + bias, axis=-1)
    return jnp.einsum("bhts,bhsk->bhtk", weights.astype(v.dtype), v, preferred_element_type=jnp.float32).astype(v.dtype)


@jax.custom_vjp
def _attend(
    q: Float[Array, "B N T K"], k: Float[Array, "B N S K"], v: Float[Array, "B N S K"], bias: Float[Array, "#B #N #T S"]
) -> Float[Array, "B N T K"]:
    """The division by the softmax's sum, and in the gradient the sum over keys of weight × gradient, are done on [T, K]
    instead of [T, S], as in arXiv:2205.14135 §3 and Appendix B; a third faster on CPU than autodiff.
    """
    return _attend_forward(q, k, v, bias)[0]


def _attend_forward(q: Array, k: Array, v: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    scores = scores_of(q, k) + bias
    e = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = sum_of_rows(e)
    e = e.astype(v.dtype)
    y = batched(e, v) / total
    return y.astype(v.dtype), (q, k, v, bias, e, total, y.astype(v.dtype))


def _attend_backward(kept: tuple[Array, ...], gradient: Array) -> tuple[Array, ...]:
    q, k, v, bias, e, total, y = kept
    scaled = gradient.astype(jnp.float32) / total
    rounded = scaled.astype(v.dtype)
    dv = _over_queries(e, rounded)
    dweights = batched(rounded, transposed(v))
    dscores = e * (dweights - jnp.sum(scaled * y, axis=-1, keepdims=True))
    shared = tuple(axis for axis in range(4) if bias.shape[axis] == 1 < dscores.shape[axis])
    rounded = dscores.astype(q.dtype)
    return (
        batched(rounded, k).astype(q.dtype),
        _over_queries(rounded, q).astype(k.dtype),
        dv.astype(v.dtype),
        jnp.sum(dscores, axis=shared, keepdims=True),
    )


def scores_of(q: Float[Array, "B N T K"], k: Float[Array, "B N S K"]) -> Float[Array, "B N T S"]:
    """q kᵀ; of few queries as k qᵀ, turned afterwards: XLA's CPU backend would turn all keys for every token that is
    generated.
    """
    if q.shape[2] < 16:
        return jnp.swapaxes(jax.lax.optimization_barrier(batched(k, transposed(q))), -1, -2)
    return batched(q, transposed(k))


def batched(a: Float[Array, "B N T S"], b: Float[Array, "B N S K"]) -> Float[Array, "B N T K"]:
    return jnp.einsum("bhts,bhsk->bhtk", row_by_row(a), row_by_row(b), preferred_element_type=jnp.float32)


def _over_queries(weights: Float[Array, "B N T S"], x: Float[Array, "B N T K"]) -> Float[Array, "B N S K"]:
    """weightsᵀ x, as xᵀ weights turned afterwards: XLA's CPU backend transposes the large operand otherwise."""
    return jnp.swapaxes(jax.lax.optimization_barrier(batched(transposed(x), weights)), -1, -2)


_attend.defvjp(_attend_forward, _attend_backward)


# --- cuDNN, on GPUs -----------------------------------------------------------------------------------------------

CODE_STEP = 32.0  # so that segments one bit apart lie 2 · 32² = 2048 apart in their scores; e⁻¹⁰⁴ is 0 in float32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cudnn:
    """cuDNN's fused attention, which holds no scores in memory.

    It knows causal masks and windows; segments reach it as numbers in binary, written as more columns of the queries
    and keys: equal ones add the same to every score, which a softmax does not see, and others lie so far below that
    their weights are exactly zero. Prefixes, and heads too wide for more columns, take a mask of [B, 1, T, S].
    """

    codes: tuple[Float[Array, "B T 1 C"], Float[Array, "B S 1 C"]] | None
    bias: Float[Array, "1 H T S"] | None
    mask: Bool[Array, "B 1 T S"] | None
    causal: bool = field(metadata={"static": True})
    window: int | None = field(metadata={"static": True})

    @staticmethod
    def of(config: ModelConfig, mask: Mask, bias: Float[Array, "1 H T S"] | None) -> Cudnn:
        if not coded(config):
            return Cudnn(None, bias, mask.dense(), causal=False, window=None)
        codes = None if mask.segments is None else (_codes(mask.segments[0]), _codes(mask.segments[1]))
        return Cudnn(codes, bias, None, mask.causal, mask.window)

    def __call__(self, q: Array, k: Array, v: Array) -> Array:
        width = v.shape[-1]
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
        if self.codes is not None:
            q, k = (_beside(x, codes) for x, codes in zip((q, k), self.codes, strict=True))
            v = jnp.pad(v, ((0, 0),) * 3 + ((0, CODE_WIDTH),))
        y = jax.nn.dot_product_attention(
            q,
            k,
            v,
            bias=None if self.bias is None else self.bias.astype(q.dtype),
            mask=None if self.mask is None else jnp.broadcast_to(self.mask, (len(q), *self.mask.shape[1:])),
            scale=1.0,
            is_causal=self.causal,
            local_window_size=None if self.window is None else (self.window - 1, 0),
            implementation="cudnn",
        )
        return jnp.swapaxes(y[..., :width], 1, 2)


def _codes(segments: Int[Array, "B T"]) -> Float[Array, "B T 1 C"]:
    """The bits of every number, as plus and minus `CODE_STEP`."""
    bits = (segments[..., None] >> jnp.arange(CODE_WIDTH)) & 1
    return (CODE_STEP * (2 * bits - 1))[:, :, None]


def _beside(x: Float[Array, "B T H K"], codes: Float[Array, "B T 1 C"]) -> Float[Array, "B T H K+C"]:
    wide = jnp.broadcast_to(codes.astype(x.dtype), (*x.shape[:-1], CODE_WIDTH))
    return jnp.concatenate([x, wide], axis=-1)


# --- splash attention, on TPUs ------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Splash:
    """JAX's Pallas kernel for TPUs, which skips blocks that a static mask hides and holds no scores in memory."""

    segments: tuple[Int[Array, "B T"], Int[Array, "B S"]] | None
    shape: tuple[int, int] = field(metadata={"static": True})
    causal: bool = field(metadata={"static": True})
    window: int | None = field(metadata={"static": True})
    cap: float | None = field(metadata={"static": True})
    interpret: bool = field(default=False, metadata={"static": True})  # in plain XLA, for tests

    @staticmethod
    def of(config: ModelConfig, mask: Mask) -> Splash:
        shape = (mask.queries, mask.keys)
        return Splash(mask.segments, shape, mask.causal, mask.window, config.attention_cap)

    def __call__(self, q: Array, k: Array, v: Array) -> Array:
        """Over a mesh, every device runs the kernel on its own rows and heads."""
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or mesh.size == 1:
            return self._local(q, k, v, self.segments)
        parts = mesh.shape
        heads, keys = (
            divisible(RULES.spec(("batch", a, None, None)), x.shape, parts) for a, x in (("heads", q), ("kv_heads", k))
        )
        if heads[1] != keys[1]:
            heads = keys = PartitionSpec(heads[0], None, None, None)
        rows = PartitionSpec(heads[0], None)
        specs = (heads, keys, keys, None if self.segments is None else (rows, rows))
        mapped = jax.shard_map(self._local, mesh=mesh, in_specs=specs, out_specs=heads, check_vma=False)
        return mapped(q, k, v, self.segments)

    def _local(self, q: Array, k: Array, v: Array, segments: tuple[Array, Array] | None) -> Array:
        from jax.experimental.pallas.ops.tpu import splash_attention as splash

        shape = self.shape
        if self.window is not None:
            head: Any = splash.LocalMask(shape, (self.window - 1, 0), offset=0)
        else:
            head = splash.CausalMask(shape) if self.causal else splash.FullMask(shape)
        kernel = splash.make_splash_mha(
            splash.MultiHeadMask([head] * q.shape[1]),
            head_shards=1,
            q_seq_shards=1,
            attn_logits_soft_cap=self.cap,
            residual_checkpoint_name="attention",
            interpret=self.interpret,
        )
        if segments is None:
            return jax.vmap(kernel)(q, k, v)
        return jax.vmap(lambda q, k, v, a, b: kernel(q, k, v, splash.SegmentIds(a, b)))(q, k, v, *segments)
