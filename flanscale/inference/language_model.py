"""How is a trained model asked in text? The protocol of evaluation, on a model with its tokenizer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt

from flanscale.errors import NonFiniteLogits
from flanscale.evaluation.extraction import before
from flanscale.evaluation.protocol import Choice, Question, Sampling, Scored, Written
from flanscale.inference.engine import Engine
from flanscale.inference.programs import Drawing
from flanscale.inference.scoring import Continuations, Scores, score
from flanscale.inference.windows import behind_encoder, end_of, within
from flanscale.inference.writing import Answer, Ended, Limits, write
from flanscale.pipeline.tokenizers import Tokenizer

SHOWN_CHARS = 80  # of a prompt in a message


@dataclass(frozen=True)
class TrainedModel:
    """A model of `flanscale.models` with its tokenizer, asked as it was trained.

    A decoder's prompts begin with its BOS, once, where it has one; an encoder's end in the vocabulary's EOS. Of several
    processes that hold the parameters together, all ask the same.
    """

    engine: Engine
    tokenizer: Tokenizer
    context: int
    """Positions: an encoder's for prompts, a decoder's for prompts and answers together."""
    end_ids: tuple[int, ...] = ()
    """What ends an answer beside the vocabulary's EOS."""

    def tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(prompt) for prompt in self._prompts(texts)]

    def context_limit(self, new_tokens: int) -> int:
        return self.context if self._encodes else self.context - new_tokens

    def spelled(self, texts: Sequence[str]) -> list[str]:
        return [self.tokenizer.decode(tokens) for tokens in self.tokenizer.encode(texts)]

    def generate(
        self,
        questions: Sequence[Question],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        sampling: Sampling,
        done: Container[int] = (),
    ) -> Iterator[dict[int, list[Written]]]:
        """
        Raises:
            NonFiniteLogits: the model has none.
        """
        room = self.context_limit(max_new_tokens)
        prompts = [
            end_of(prompt, room, self._start) for prompt in self._prompts([question.prompt for question in questions])
        ]
        drawing = Drawing(sampling.temperature, sampling.top_k, sampling.top_p)
        limits = Limits(max_new_tokens, (self.tokenizer.eos_id, *self.end_ids), self._ended(stop) if stop else None)
        for samples in sorted({question.samples for question in questions}):
            mine = [i for i, question in enumerate(questions) if question.samples == samples]
            keys = np.stack([_keys(questions[i].key, samples, sampling.seed) for i in mine])
            known = {place for place, i in enumerate(mine) if i in done}
            try:
                for batch in write(self.engine, [prompts[i] for i in mine], limits, drawing, keys, known):
                    yield {mine[place]: [self._text(one, stop) for one in theirs] for place, theirs in batch.items()}
            except NonFiniteLogits as error:
                shown = questions[mine[error.prompt]].prompt[:SHOWN_CHARS]
                raise NonFiniteLogits(f"{error}, {shown!r}", mine[error.prompt]) from error

    def score(self, choices: Sequence[Choice], done: Container[int] = ()) -> Iterator[dict[int, list[Scored]]]:
        pieces = [
            (place, first, piece)
            for place, asked in enumerate(self._continuations(choices))
            for first, piece in self._within(asked)
        ]
        known = {number for number, (place, _, _) in enumerate(pieces) if place in done}
        waiting = Counter(place for place, _, _ in pieces)
        scored: dict[int, dict[int, Scores]] = {}
        for batch in score(self.engine, [piece for _, _, piece in pieces], known):
            whole = {}
            for number, scores in batch.items():
                place = pieces[number][0]
                scored.setdefault(place, {})[number] = scores
                if len(scored[place]) == waiting[place]:
                    parts = [(pieces[number][1], scored[place][number]) for number in sorted(scored[place])]
                    whole[place] = _joined(parts, len(choices[place].options))
                    del scored[place]
            yield whole

    @property
    def _encodes(self) -> bool:
        return self.engine.model.config.architecture == "encoder_decoder"

    @property
    def _start(self) -> list[int]:
        """What stands before every prompt."""
        bos = None if self._encodes else self.engine.model.config.bos_id
        return [] if bos is None else [bos]

    def _within(self, asked: Continuations) -> list[tuple[int, Continuations]]:
        return behind_encoder(asked, self.context) if self._encodes else within(asked, self.context, self._start)

    def _prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """As the model reads them."""
        ids = [tokens.tolist() for tokens in self.tokenizer.encode(texts)]
        if self._encodes:
            return [[*tokens, self.tokenizer.eos_id] for tokens in ids]
        if start := self._start:
            return [tokens if tokens[:1] == start else [*start, *tokens] for tokens in ids]
        # Something must stand before the first token: in training, an end.
        return [tokens or [self.tokenizer.eos_id] for tokens in ids]

    def _continuations(self, choices: Sequence[Choice]) -> list[Continuations]:
        """Behind an encoder, options are tokenised as targets are. Behind a decoder's prompt, each option is tokenised
        together with it, and what is scored begins where the tokens of any two part, at the latest behind the prompt.
        """
        contexts = self._prompts([choice.prompt for choice in choices])
        if self._encodes:
            options = self._flat([choice.options for choice in choices])
            return [Continuations(context, own) for context, own in zip(contexts, options, strict=True)]
        whole = self._flat([[choice.prompt + option for option in choice.options] for choice in choices])
        return [self._parted(context, texts) for context, texts in zip(contexts, whole, strict=True)]

    def _parted(self, context: list[int], texts: Sequence[list[int]]) -> Continuations:
        trunk = min([len(context), *(min(_common(context, text), len(text) - 1) for text in texts)])
        before = context[:trunk] or [self.tokenizer.eos_id]  # as before a first token in training
        return Continuations(before, [text[trunk:] for text in texts])

    def _flat(self, groups: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """The ids of grouped texts, a decoder's as the prompts that they begin with."""
        texts = [text for group in groups for text in group]
        ids = iter(
            [tokens.tolist() for tokens in self.tokenizer.encode(texts)] if self._encodes else self._prompts(texts)
        )
        return [[next(ids) for _ in group] for group in groups]

    def _ended(self, stop: Sequence[str]) -> Ended:
        def stopped(tokens: Sequence[int]) -> bool:
            text = self.tokenizer.decode(tokens)
            return any(one in text for one in stop)

        def needed(tokens: Sequence[int]) -> int | None:
            if not stopped(tokens):
                return None
            low, high = 1, len(tokens)
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if stopped(tokens[:middle]) else (middle + 1, high)
            return low

        return needed

    def _text(self, answer: Answer, stop: Sequence[str]) -> Written:
        text = before(self.tokenizer.decode(answer.tokens), stop)
        return Written(text, len(answer.tokens), answer.ended, float(answer.logprobs.sum()))


def _joined(parts: Sequence[tuple[int, Scores]], options: int) -> list[Scored]:
    """Of each option, from pieces in order, each with the place of the first option that it has scores of."""
    of_option: list[Scores] = [[] for _ in range(options)]
    for first, scores in parts:
        for place, one in enumerate(scores, start=first):
            of_option[place].append(one)
    return [
        Scored(tuple(float(x) for logprobs, _ in own for x in logprobs), all(greedy for _, greedy in own))
        for own in of_option
    ]


def _keys(key: str, samples: int, seed: int) -> UInt[np.ndarray, "k 2"]:
    """Two numbers for every sample of a question, whatever else is asked."""
    digests = [hashlib.sha256(f"{seed}/{sample}/{key}".encode()).digest() for sample in range(samples)]
    return np.stack([np.frombuffer(digest[:8], np.uint32) for digest in digests])


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
