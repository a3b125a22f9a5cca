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


CODE_WIDTH = 16  # columns that tell cuDNN the segments of packed rows (`flanscale.models.attend`)
TPU_LANES = 128  # to which a TPU pads the width of a head, and whose multiples splash attention's rows are
WIDEST_HEAD = 128  # of cuDNN's attention on every GPU since Ampere
FUSED = {"gpu": "cudnn", "cuda": "cudnn", "tpu": "splash"}  # of a platform; elsewhere XLA alone


def attention_of(config: ModelConfig, precision: str, platform: str) -> tuple[str, str | None]:
    """Who computes attention: what `model.attention` names, or the platform's fused kernel where it can.

    Gives "xla", "cudnn" or "splash", and why the fused kernel that was asked for cannot serve.
    """
    wanted = FUSED.get(platform, "xla") if config.attention == "auto" else config.attention
    reason = next(_refusals(wanted, config, precision), None)
    return ("xla" if reason else wanted), reason


def check_attention(config: ModelConfig, precision: str) -> None:
    """Raises `ValueError` where `model.attention` names a kernel that cannot serve the model."""
    reason = attention_of(config, precision, "cpu")[1]
    if reason:
        raise ValueError(f"model.attention={config.attention}: {reason}; take auto or xla")


def coded(config: ModelConfig) -> bool:
    """Whether cuDNN is told segments by more columns of the heads; by a mask of [B, 1, T, S] otherwise."""
    mixed = config.window is not None and config.global_every is not None  # layers choose between two masks
    return not config.prefix_lm and not mixed and config.head_dim + CODE_WIDTH <= WIDEST_HEAD


def code_width(config: ModelConfig, attention: str) -> int:
    """The columns that the heads of a model get to tell segments by."""
    return CODE_WIDTH if attention == "cudnn" and coded(config) else 0


def _refusals(name: str, config: ModelConfig, precision: str) -> Iterator[str]:
    if name == "cudnn":
        if precision != "bfloat16":
            yield f"cuDNN takes bfloat16, not trainer.precision={precision}"
        most = WIDEST_HEAD - (CODE_WIDTH if config.architecture == "encoder_decoder" else 0)
        if config.head_dim % 8 or config.head_dim > most:
            yield f"cuDNN takes model.head_dim in multiples of 8 up to {most} here, not {config.head_dim}"
        if config.attention_cap is not None:
            yield "cuDNN has no model.attention_cap"
    if name == "splash":
        if config.architecture == "encoder_decoder":
            yield "splash attention has no relative bias"
        if config.prefix_lm:
            yield "splash attention has no model.prefix_lm"
        if config.global_every is not None:
            yield "splash attention has one window for all layers, not model.global_every"


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
