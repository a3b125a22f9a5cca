"""What will a cell cost? Parameters and operations from its configuration, seconds from cells already measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import median

from flanscale.flops import parameter_count, training_flops
from flanscale.schema import RunConfig, TokenizerConfig


@dataclass(frozen=True)
class Cost:
    """Counted, not measured."""

    steps: int
    tokens: int  # positions of all packed rows, padding included
    parameters: int
    flops: float  # of training


def cost_of(config: RunConfig) -> Cost:
    """The cost of one cell."""
    trainer = config.trainer
    rows = trainer.steps * trainer.batch_rows
    tokens = rows * (trainer.input_tokens + trainer.target_tokens)
    vocabulary = vocabulary_size(config.tokenizer.name, config.tokenizer.vocabulary)
    row = training_flops(config.model, vocabulary, trainer.input_tokens, trainer.target_tokens)
    return Cost(trainer.steps, tokens, parameter_count(config.model, vocabulary), rows * row)


@cache
def vocabulary_size(name: str, vocabulary: str | None) -> int:
    """Rows of the embedding table that a tokenizer asks for."""
    from flanscale.pipeline.tokenizers import load_tokenizer, padded_vocab_size

    return padded_vocab_size(load_tokenizer(TokenizerConfig(name, vocabulary)))


def estimated_seconds(weights: Mapping[str, float], measured: Mapping[str, float]) -> dict[str, float] | None:
    """Seconds of every cell that is not measured, in proportion to its weight; None before anything is measured.

    Args:
        weights: relative work of each cell, by cell id.
        measured: seconds of the finished cells, by cell id.

    A cell of weight 0 is only evaluated and is taken to last as long as the shortest measured one.
    """
    rates = [measured[cell] / weights[cell] for cell in measured if weights[cell] > 0]
    if not measured:
        return None
    rate, shortest = (median(rates) if rates else 0.0), min(measured.values())
    return {cell: max(weight * rate, shortest) for cell, weight in weights.items() if cell not in measured}
