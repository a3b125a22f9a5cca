"""How is a trained model asked in text? What evaluation calls a language model, on parameters and a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flanscale.inference.decoding import greedy
from flanscale.models import Model
from flanscale.pipeline.tokenizers import Tokenizer


@dataclass(frozen=True)
class TrainedModel:
    """A model of `flanscale.models` with its parameters and tokenizer; decoding is greedy.

    Prompts longer than `input_tokens` lose their start, as in training. Of several processes that hold the parameters
    together, all ask the same.
    """

    model: Model
    params: Any
    tokenizer: Tokenizer
    input_tokens: int
    batch_size: int
    between: Callable[[], None] = lambda: None
    """Called before every batch; what it raises ends the generation."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        ids = [tokens[-self.input_tokens :].tolist() for tokens in self.tokenizer.encode(prompts)]
        outputs = greedy(
            self.model,
            self.params,
            ids,
            max_new_tokens=max_new_tokens,
            batch_size=self.batch_size,
            eos_id=self.tokenizer.eos_id,
            between=self.between,
        )
        return [self.tokenizer.decode(tokens) for tokens in outputs]
