"""Which models can be built, and on which meshes? Every refusal is one line that names the key and what to type.

Standard library only: planning checks without loading JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from flanscale.schema import ModelConfig

# What an encoder-decoder has no use for: any value but the default would be ignored in silence.
_DECODER_ONLY = (
    "n_kv_heads", "max_positions", "norm", "norm_bias", "norm_offset", "block", "bias", "qk_norm", "rope_theta",
    "rope_fraction", "rope_scaling", "window", "global_every", "window_rope_theta", "attention_cap", "logit_cap",
    "scale_embeddings", "prefix_lm", "bos_id",
)  # fmt: skip


def check_model(config: ModelConfig) -> None:
    """Raises `ValueError` where two of a model's options exclude each other."""
    for fault in _faults(config):
        raise ValueError(fault)


def _faults(config: ModelConfig) -> Iterator[str]:
    if config.architecture == "encoder_decoder":
        defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
        for name in _DECODER_ONLY:
            if (value := getattr(config, name)) != defaults[name]:
                yield (
                    f"model.{name}={value}: only decoders have it; leave it at {defaults[name]} for an encoder-decoder"
                )
    rotated = int(config.head_dim * config.rope_fraction)
    if config.architecture == "decoder" and (rotated % 2 == 1 or rotated == 0):
        yield (
            f"model.head_dim is {config.head_dim} and model.rope_fraction {config.rope_fraction:g}:"
            f" rotary positions need an even number of dimensions, not {rotated}"
        )
    if config.n_heads % config.kv_heads:
        yield f"model.n_kv_heads={config.n_kv_heads}: must divide model.n_heads={config.n_heads}"
    if config.window is None and (config.global_every is not None or config.window_rope_theta is not None):
        yield "model.global_every and model.window_rope_theta are of layers with a window: give model.window too"
    if config.window is not None and config.prefix_lm:
        yield "model.window and model.prefix_lm exclude each other: a window looks backwards only"


def check_row(config: ModelConfig, tokens: int) -> None:
    """Raises `ValueError` where a packed row has more positions than the model."""
    if config.max_positions is not None and tokens > config.max_positions:
        raise ValueError(
            f"rows of {tokens} tokens are longer than model.max_positions={config.max_positions}:"
            " lower trainer.input_tokens or trainer.target_tokens"
        )


def check_heads(config: ModelConfig, tensor: int) -> None:
    """Raises `ValueError` where the mesh's axis `tensor` does not divide the heads of the model."""
    if config.n_heads % tensor:
        divisors = ", ".join(str(n) for n in range(1, config.n_heads + 1) if config.n_heads % n == 0)
        raise ValueError(
            f"trainer.mesh.tensor={tensor} does not divide model.n_heads={config.n_heads}: give one of {divisors}"
        )
