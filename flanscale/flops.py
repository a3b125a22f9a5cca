"""How many parameters has a model, and how many floating-point operations does it take to train it?

Standard library only: planning counts without loading JAX. A multiply-add is two operations; training is three times
the forward pass (arXiv:2204.02311, Appendix B); embedding lookups, norms and recomputation are not counted.
"""

from __future__ import annotations

from flanscale.schema import ModelConfig


def parameter_count(config: ModelConfig, vocab_size: int) -> int:
    """Parameters of the model, exactly those that its initialisation makes."""
    d, layers = config.d_model, config.n_layers
    table = vocab_size * d
    total = table if config.tie_embeddings else 2 * table
    if config.architecture == "decoder":
        return total + layers * (_attention(config) + _feed_forward(config) + 2 * d) + d
    encoder = layers * (_attention(config) + _feed_forward(config) + 2 * d) + d
    decoder = layers * (2 * _attention(config) + _feed_forward(config) + 3 * d) + d
    return total + encoder + decoder + 2 * config.relative_buckets * config.n_heads


def training_flops(
    config: ModelConfig, vocab_size: int, input_tokens: int, target_tokens: int, segments: float = 1.0
) -> float:
    """Operations of one training step on one packed row.

    `segments` is the number of examples packed into the row: attention is counted inside them only.
    """
    s, t = input_tokens, target_tokens
    joined = config.n_heads * config.head_dim
    pair = 4 * joined  # scores and weighted sum, per query and key
    attention, feed_forward = _attention(config), _feed_forward(config)
    if config.architecture == "decoder":
        t = s + t
        layer = 2 * t * (attention + feed_forward) + pair * t * t / 2 / segments
        return 3 * (config.n_layers * layer + 2 * t * config.d_model * vocab_size)
    encoder = 2 * s * (attention + feed_forward) + pair * s * s / segments
    cross = attention / 2  # queries and outputs of the targets; as much again for keys and values of the inputs
    decoder = 2 * t * (attention + cross + feed_forward) + 2 * s * cross + pair * (t * t / 2 + t * s) / segments
    return 3 * (config.n_layers * (encoder + decoder) + 2 * t * config.d_model * vocab_size)


def _attention(config: ModelConfig) -> int:
    return 4 * config.d_model * config.n_heads * config.head_dim


def _feed_forward(config: ModelConfig) -> int:
    return (3 if config.activation in ("geglu", "swiglu") else 2) * config.d_model * config.d_ff
