"""What must a language model do to be evaluated? It gets text; text and log-probabilities come out. Any would do."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Question:
    """A prompt to be continued in `samples` ways; its key alone decides how they are drawn."""

    key: str
    prompt: str
    samples: int = 1


@dataclass(frozen=True)
class Choice:
    """A prompt and texts that may follow it."""

    prompt: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: the most likely one at temperature 0, else from those of top_k and top_p."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Written:
    """One continuation of a prompt."""

    text: str
    """Without the stop text that ended it."""
    tokens: int
    ended: bool
    """By the end of sequence or a stop text, rather than at the limit."""
    logprob: float
    """The sum over its tokens under the model itself, whatever the temperature; nats."""


@dataclass(frozen=True)
class Scored:
    """What a model thinks of one option behind its prompt."""

    logprobs: tuple[float, ...]
    """Of its tokens, nats."""
    greedy: bool
    """Whether each of them was the most likely one."""


class LanguageModel(Protocol):
    """Answers come batch by batch, in an order that the model chooses, as places in what was asked. An answer depends
    on its own question alone. What is `done` already need not come again, and what comes is the same without it.
    """

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens the model reads of each prompt, with those that it adds itself."""

    def context_limit(self, new_tokens: int) -> int:
        """The most tokens of a prompt that this many can follow."""

    def spelled(self, texts: Sequence[str]) -> list[str]:
        """What is left of each text in the model's vocabulary."""

    def generate(
        self,
        questions: Sequence[Question],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        sampling: Sampling,
        done: Container[int] = (),
    ) -> Iterator[dict[int, list[Written]]]:
        """The continuations of each question, as many as its samples. A prompt that is too long loses its start; who
        asks can see to it that none is.

        Raises:
            NonFiniteLogits: the model gave no token.
        """

    def score(self, choices: Sequence[Choice], done: Container[int] = ()) -> Iterator[dict[int, list[Scored]]]:
        """The log-probabilities of the options of each, NaN where the model gave no finite one. A prompt that is too
        long for its longest option loses its start; options longer than the context are read in pieces.
        """


def ordered(batches: Iterable[Mapping[int, Answer]]) -> list[Answer]:
    """All answers of a model that come batch by batch, in the order of what was asked."""
    found: dict[int, Answer] = {}
    for batch in batches:
        found |= batch
    return [found[place] for place in range(len(found))]
