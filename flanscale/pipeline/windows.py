"""Which stretch of which text is an example of a cell that learns from text? All of them, once an epoch.

A text longer than a row is cut into windows, each as long as the denoiser that it is laid out for can fit into a row,
so that no token is lost and rows are full; only the last window of a text may be short. Windows and the denoiser of
each follow from the texts' lengths and places alone; a rest so short that every denoiser fits it meets another at each
draw. The spans, or the division into prefix and suffix, are drawn anew each time.

Dimensions: N draws, T tasks, D documents of all tasks, W windows of all documents.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt64

from flanscale.errors import DataError
from flanscale.pipeline.denoising import Corruption
from flanscale.pipeline.objectives import denoisers, find_tokens, longest_text, packing
from flanscale.pipeline.ragged import Ragged, runs
from flanscale.pipeline.sampler import mix
from flanscale.pipeline.source import Source
from flanscale.pipeline.tokenizers import Tokenizer
from flanscale.schema import RunConfig

_READ_AT_ONCE = 4096  # documents
_STEP = np.uint64(0x9E3779B97F4A7C15)


def objective_source(source: Source, config: RunConfig, tokenizer: Tokenizer) -> Source:
    """What a cell learns from a source: its examples as they are, or windows of their texts with noise in them.

    A text is an example's input with its target after it, always in the same wording.

    Raises:
        DataError: rows too short for a denoiser, or a vocabulary without the tokens that it needs.
    """
    return NoisyText(source, open_objective(config, tokenizer)) if config.objective.denoisers else source


def noisy_examples(inputs: Ragged, targets: Ragged, objective: Objective) -> tuple[Ragged, Ragged]:
    """Every window of a fixed set of examples, always with the same noise: for validation."""
    source = NoisyText(_Fixed(inputs, targets), objective)
    numbers = np.arange(source.sizes[0])
    tasks = np.zeros_like(numbers)
    return source.tokens(tasks, numbers, _bits(tasks, numbers))


@dataclass(frozen=True, eq=False)
class Objective:
    """A cell's denoisers with the longest text, in tokens, that each can fit into a row."""

    name: str
    corruption: Corruption
    longest: Int[np.ndarray, " denoisers"]
    keep: bool
    """Texts are tokenised once and kept in memory; otherwise their source has them in its store."""


def open_objective(config: RunConfig, tokenizer: Tokenizer) -> Objective:
    """The objective of a cell that learns from text.

    Raises:
        DataError: as objective_source.
    """
    objective, architecture = config.objective, config.model.architecture
    tokens, used = find_tokens(objective, tokenizer), denoisers(objective)
    trainer = packing(objective, config.model, config.trainer)
    longest = [
        longest_text(
            denoiser,
            trainer,
            architecture=architecture,
            sentinels=len(tokens.sentinels),
            mode=int(denoiser.mode in tokens.modes),
            final=int(objective.final_sentinel),
        )
        for denoiser in used
    ]
    for denoiser, most in zip(used, longest, strict=True):
        if most < 2:
            raise DataError(
                f"objective.denoisers.{denoiser.name}: no text of two tokens fits rows of"
                f" trainer.input_tokens={config.trainer.input_tokens} and"
                f" trainer.target_tokens={config.trainer.target_tokens} with its {len(tokens.sentinels)} sentinels"
            )
    bound = None if architecture == "decoder" else trainer.target_tokens - 1
    corruption = Corruption(used, tokens, bound, objective.final_sentinel)
    return Objective(objective.name, corruption, np.array(longest), keep=config.mixture.renderings == 0)


class NoisyText:
    """A source whose examples are windows of another's texts.

    Attributes:
        sizes: windows of each task, [T].
        tokens_per_draw: mean text tokens of a window of each task, [T].
    """

    def __init__(self, source: Source, objective: Objective) -> None:
        self._objective = objective
        documents, self._first_document, self._source = _read(source, keep=objective.keep)
        tasks = np.repeat(np.arange(len(source.sizes)), source.sizes)
        seeds = _bits(tasks, np.arange(len(tasks)) - self._first_document[tasks])
        self._windows = lay_out(documents, objective, seeds)
        bounds = np.searchsorted(self._windows.document, [*self._first_document, len(documents)])
        self._first_window, sizes = bounds[:-1], np.diff(bounds)
        self.sizes: Sequence[int] = sizes.tolist()
        of_task = np.repeat(np.arange(len(sizes)), sizes)
        self.tokens_per_draw = np.bincount(of_task, self._windows.length, len(sizes)) / np.maximum(sizes, 1)

    def tokens(
        self, tasks: Int[np.ndarray, " N"], examples: Int[np.ndarray, " N"], choices: UInt64[np.ndarray, " N"]
    ) -> tuple[Ragged, Ragged]:
        windows = self._windows.view(self._first_window[tasks] + examples)
        documents = windows.document - self._first_document[tasks]
        inputs, targets = self._source.tokens(tasks, documents, _bits(tasks, documents))
        texts = _stretch(inputs, targets, windows.start, windows.length)
        corruption, least = self._objective.corruption, self._objective.longest.min()
        which = np.where(windows.length < least, corruption.choose(choices), windows.denoiser)
        return corruption(texts, which, choices)

    def log_to(self, log: logging.Logger) -> None:
        """Log one line: how much text there is, in how many windows, and each denoiser's share and longest window."""
        objective, windows = self._objective, self._windows
        longest = ", ".join(
            f"{denoiser.name} {denoiser.share:.1%} up to {most:,} tokens"
            for denoiser, most in zip(objective.corruption.denoisers, objective.longest.tolist(), strict=True)
        )
        texts = len(np.unique(windows.document))
        log.info(
            "objective %s: %s tokens of %s texts in %s windows (%s)",
            *(objective.name, f"{windows.length.sum():,}", f"{texts:,}", f"{len(windows.length):,}", longest),
        )


# --- windows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows in the order of their documents and of their places in them."""

    document: Int[np.ndarray, " W"]
    start: Int[np.ndarray, " W"]
    length: Int[np.ndarray, " W"]
    denoiser: Int[np.ndarray, " W"]
    """What a window is laid out for."""

    def view(self, windows: np.ndarray) -> Windows:
        """Windows by number."""
        return Windows(self.document[windows], self.start[windows], self.length[windows], self.denoiser[windows])


def lay_out(lengths: Int[np.ndarray, " D"], objective: Objective, seeds: UInt64[np.ndarray, " D"]) -> Windows:
    """The windows of documents; together they hold every token once.

    Args:
        lengths: tokens of each document.
        seeds: random bits of each document, which choose the denoiser of each of its windows.
    """
    found: list[tuple[np.ndarray, ...]] = []
    start = np.zeros_like(lengths)
    open_ = np.flatnonzero(lengths)
    for number in range(int(lengths.max(initial=0))):
        if not len(open_):
            break
        denoiser = objective.corruption.choose(mix(seeds[open_] + np.uint64(number)))
        length = np.minimum(objective.longest[denoiser], lengths[open_] - start[open_])
        found.append((open_, start[open_], length, denoiser))
        start[open_] += length
        open_ = open_[start[open_] < lengths[open_]]
    columns = [np.concatenate(column) for column in zip(*found, strict=True)] or [np.zeros(0, np.int64)] * 4
    order = np.lexsort((columns[1], columns[0]))
    return Windows(*(column[order] for column in columns))


def _stretch(inputs: Ragged, targets: Ragged, start: Int[np.ndarray, " N"], length: Int[np.ndarray, " N"]) -> Ragged:
    """From `start` on, `length` tokens of each input with its target after it."""
    of_input = np.clip(inputs.lengths - start, 0, length)
    head = Ragged(inputs.tokens, inputs.starts + np.minimum(start, inputs.lengths), of_input)
    tail = Ragged(targets.tokens, targets.starts + np.maximum(start - inputs.lengths, 0), length - of_input)
    if not tail.lengths.any():
        return head
    whole = Ragged.consecutive(np.empty(int(length.sum()), np.int32), length)
    whole.tokens[runs(whole.starts, of_input)] = head.tokens[runs(head.starts, of_input)]
    whole.tokens[runs(whole.starts + of_input, tail.lengths)] = tail.tokens[runs(tail.starts, tail.lengths)]
    return whole


# --- the texts -------------------------------------------------------------------------------------------------------


def _bits(tasks: Int[np.ndarray, " N"], numbers: Int[np.ndarray, " N"]) -> UInt64[np.ndarray, " N"]:
    """63 random bits of each task's examples, always the same."""
    return mix(mix(tasks.astype(np.uint64) + _STEP) + numbers.astype(np.uint64)) >> np.uint64(1)


def _read(source: Source, *, keep: bool) -> tuple[Int[np.ndarray, " D"], Int[np.ndarray, " T"], Source]:
    """(tokens of each document, number of each task's first, the source to draw from): everything is read once."""
    sizes = np.array(source.sizes, np.int64)
    lengths, parts = [np.zeros(0, np.int64)], [np.zeros(0, np.uint16)]
    for task, size in enumerate(sizes.tolist()):
        for start in range(0, size, _READ_AT_ONCE):
            documents = np.arange(start, min(start + _READ_AT_ONCE, size))
            tasks = np.full(len(documents), task)
            inputs, targets = source.tokens(tasks, documents, _bits(tasks, documents))
            lengths.append(inputs.lengths + targets.lengths)
            if keep:
                tokens = _stretch(inputs, targets, np.zeros_like(documents), lengths[-1]).take(slice(None)).tokens
                small = tokens.max(initial=0) <= np.iinfo(np.uint16).max
                parts.append(tokens.astype(np.uint16 if small else np.uint32, copy=False))
    of_document, first = np.concatenate(lengths), np.cumsum(sizes) - sizes
    if keep:
        source = _Kept(Ragged.consecutive(np.concatenate(parts), of_document), first, source.sizes)
    return of_document, first, source


@dataclass(frozen=True, eq=False)
class _Kept:
    """Texts in memory."""

    texts: Ragged
    first: Int[np.ndarray, " T"]
    sizes: Sequence[int]

    def tokens(self, tasks: np.ndarray, examples: np.ndarray, choices: np.ndarray) -> tuple[Ragged, Ragged]:
        texts = self.texts.view(self.first[tasks] + examples)
        return texts, texts.first(0)


@dataclass(frozen=True, eq=False)
class _Fixed:
    """Examples of one task, in one wording."""

    inputs: Ragged
    targets: Ragged

    @property
    def sizes(self) -> Sequence[int]:
        return [len(self.inputs)]

    def tokens(self, tasks: np.ndarray, examples: np.ndarray, choices: np.ndarray) -> tuple[Ragged, Ragged]:
        return self.inputs.view(examples), self.targets.view(examples)
