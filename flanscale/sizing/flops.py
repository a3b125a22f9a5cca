"""Which parameters has a model, how are they split over a mesh, and what does it take to train them?

Standard library only: planning counts without loading JAX; tests hold the parameters against what `flanscale.models`
makes. A multiply-add is two operations; training is three times the forward pass (arXiv:2204.02311, Appendix B);
embedding lookups, norms and recomputation are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from flanscale.schema import MeshConfig, ModelConfig

FLOAT32 = 4
NORMS = {"pre": 2, "parallel": 1, "parallel_two_norms": 2, "post": 2, "sandwich": 4}  # of a decoder's layer


# --- parameters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """One parameter: its shape in one layer, the logical axis of each side, and how many layers have it (0: none)."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    layers: int = 0


def parameters(model: ModelConfig, vocab_size: int) -> Iterator[Tensor]:
    """Every parameter that the model's initialisation makes, as `flanscale.models` names and splits them."""
    d, n = model.d_model, model.n_layers
    yield Tensor((vocab_size, d), ("vocab", "embed"))
    if not model.tie_embeddings:
        yield Tensor((d, vocab_size), ("embed", "vocab"))
    # Blocks of attention and norms in a layer; of the encoder first.
    stacks = [(1, NORMS[model.block])] if model.architecture == "decoder" else [(1, 2), (2, 3)]
    for attentions, norms in stacks:
        for _ in range(attentions):
            yield from _attention(model)
        yield from _feed_forward(model)
        for _ in range(norms):
            yield from _norm(model, d, n)
        yield from _norm(model, d, 0)
        if model.architecture == "encoder_decoder":
            yield Tensor((model.relative_buckets, model.n_heads), (None, "heads"))


def _attention(model: ModelConfig) -> Iterator[Tensor]:
    d, n, queries, keys = model.d_model, model.n_layers, model.n_heads * model.head_dim, model.kv_heads * model.head_dim
    yield Tensor((d, queries), ("embed", "heads"), n)
    yield Tensor((queries, d), ("heads", "embed"), n)
    for _ in "kv":
        yield Tensor((d, keys), ("embed", "kv_heads"), n)
    if model.bias != "none":
        yield Tensor((queries,), ("heads",), n)
        yield Tensor((keys,), ("kv_heads",), n)
        yield Tensor((keys,), ("kv_heads",), n)
    if model.bias == "all":
        yield Tensor((d,), (None,), n)
    if model.qk_norm != "none":
        whole = model.qk_norm == "projection"
        yield from _norm(model, queries if whole else model.head_dim, n)
        yield from _norm(model, keys if whole else model.head_dim, n)


def _feed_forward(model: ModelConfig) -> Iterator[Tensor]:
    d, f, n = model.d_model, model.d_ff, model.n_layers
    for _ in range(2 if gated(model) else 1):
        yield Tensor((d, f), ("embed", "ff"), n)
        if model.bias == "all":
            yield Tensor((f,), ("ff",), n)
    yield Tensor((f, d), ("ff", "embed"), n)
    if model.bias == "all":
        yield Tensor((d,), (None,), n)


def _norm(model: ModelConfig, width: int, layers: int) -> Iterator[Tensor]:
    for _ in range(2 if model.norm_bias else 1):
        yield Tensor((width,), (None,), layers)


def gated(model: ModelConfig) -> bool:
    return model.activation in ("geglu", "swiglu")


def parameter_count(model: ModelConfig, vocab_size: int) -> int:
    """Parameters of the model, exactly those that its initialisation makes.

    `vocab_size` is what the tokenizer needs; the model's own, where it has one, goes before it.
    """
    tensors = parameters(model, model.vocab_size or vocab_size)
    return sum(math.prod(tensor.shape) * max(tensor.layers, 1) for tensor in tensors)


def bytes_on_device(tensor: Tensor, mesh: MeshConfig, model: ModelConfig) -> float:
    """Of the float32 parameter on each device; a side that does not divide is whole."""
    axes = {"embed": mesh.fsdp, "heads": mesh.tensor, "ff": mesh.tensor, "vocab": mesh.tensor}
    axes["kv_heads"] = split_in(model.kv_heads, mesh.tensor)
    split = [
        size // split_in(size, axes.get(axis or "", 1)) for size, axis in zip(tensor.shape, tensor.axes, strict=True)
    ]
    return FLOAT32 * math.prod(split) * max(tensor.layers, 1)


def split_in(size: int, ways: int) -> int:
    """Into how many parts a side is split: all, or it stays whole."""
    return ways if size % ways == 0 else 1


# --- operations ---------------------------------------------------------------------------------------------------


def training_flops(
    config: ModelConfig, vocab_size: int, input_tokens: int, target_tokens: int, segments: float = 1.0
) -> float:
    """Operations of one training step on one packed row.

    `segments` is the number of examples packed into the row: attention is counted inside them only, and of a causal
    mask only the half that is seen.
    """
    pair = 4 * config.n_heads * config.head_dim  # scores and weighted sum, per query and key
    layer = 2 * sum(tokens * math.prod(kernel.shape) for tokens, kernel in kernels(config, input_tokens, target_tokens))
    head = 2 * predicted(config, input_tokens, target_tokens) * config.d_model * (config.vocab_size or vocab_size)
    attention = pair * seen_pairs(config, input_tokens, target_tokens, segments)
    return 3 * (config.n_layers * layer + attention + head)


def kernels(config: ModelConfig, input_tokens: int, target_tokens: int) -> Iterator[tuple[int, Tensor]]:
    """The kernels of one layer, of an encoder also, each with the tokens of a row that are multiplied with it."""
    s, t = input_tokens, target_tokens
    if config.architecture == "decoder":
        rows = [(s + t, kernel) for kernel in (*_attention(config), *_feed_forward(config))]
    else:
        layer = [*_attention(config), *_feed_forward(config)]
        query, out, key, value = (kernel for kernel in _attention(config) if len(kernel.shape) == 2)
        cross = [(t, query), (s, key), (s, value), (t, out)]
        rows = [*((s, kernel) for kernel in layer), *((t, kernel) for kernel in layer), *cross]
    return ((tokens, kernel) for tokens, kernel in rows if len(kernel.shape) == 2)


def predicted(config: ModelConfig, input_tokens: int, target_tokens: int) -> int:
    """Positions of a row that have logits."""
    return target_tokens + (input_tokens if config.architecture == "decoder" else 0)


def seen_pairs(config: ModelConfig, s: int, t: int, segments: float = 1.0) -> float:
    """Pairs of a query and a key that it sees, in all layers, of a row of so many equal examples."""
    if config.architecture == "decoder":
        return segments * _pairs(config, s / segments, t / segments)
    return config.n_layers * (s * s + t * t / 2 + t * s) / segments


def _pairs(config: ModelConfig, s: float, t: float) -> float:
    """Pairs of a query and a key that it sees, in all layers of a decoder, of one example."""
    tokens = s + t
    whole = tokens * tokens / 2 + (s * s / 2 if config.prefix_lm else 0)
    window = min(config.window or tokens, tokens)
    local = window * window / 2 + (tokens - window) * window
    everywhere = 0 if config.global_every is None else config.n_layers // config.global_every
    return everywhere * whole + (config.n_layers - everywhere) * (local if config.window else whole)
