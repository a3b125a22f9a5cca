"""How is a trained model asked in text? What evaluation calls a language model, on parameters and a tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flanscale.errors import NonFiniteLogits
from flanscale.inference.decoding import greedy
from flanscale.models import Model
from flanscale.pipeline.tokenizers import Tokenizer

SHOWN_CHARS = 80  # of a prompt in a message

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A model of `flanscale.models` with its parameters and tokenizer; decoding is greedy.

    Prompts are laid out as training lays out its inputs: longer than `input_tokens` they lose their start, and those of
    an encoder end in the vocabulary's EOS, which counts. How many were cut is logged, and so is how many answers had
    not ended at the limit. Of several processes that hold the parameters together, all ask the same.
    """

    model: Model
    params: Any
    tokenizer: Tokenizer
    input_tokens: int
    batch_size: int
    between: Callable[[], None] = lambda: None
    """Called before every batch; what it raises ends the generation."""

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        """The continuation of each prompt.

        Raises:
            NonFiniteLogits: the model has none.
        """
        end = [self.tokenizer.eos_id] if self.model.config.architecture == "encoder_decoder" else []
        room = self.input_tokens - len(end)
        whole = self.tokenizer.encode(prompts)
        try:
            outputs = greedy(
                self.model,
                self.params,
                [[*tokens.tolist(), *end] for tokens in whole.last(room)],
                max_new_tokens=max_new_tokens,
                batch_size=self.batch_size,
                eos_id=self.tokenizer.eos_id,
                between=self.between,
            )
        except NonFiniteLogits as error:
            raise NonFiniteLogits(f"{error}, {prompts[error.prompt][:SHOWN_CHARS]!r}", error.prompt) from error
        lengths = [len(tokens) + len(end) for tokens in whole]
        if cut := sum(length > self.input_tokens for length in lengths):
            log.warning(
                "%d of %d prompts are longer than trainer.input_tokens=%d (up to %d) and lost their start",
                *(cut, len(prompts), self.input_tokens, max(lengths)),
            )
        if unended := sum(len(tokens) == max_new_tokens for tokens in outputs):
            log.warning("%d of %d answers had not ended after %d tokens", unended, len(prompts), max_new_tokens)
        return [self.tokenizer.decode(tokens) for tokens in outputs]
