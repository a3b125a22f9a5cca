"""How fast does text become span-corrupted examples, beside doing it a text at a time?

One command, about half a minute: `python benchmarks/denoising.py`, in the project's own environment, in one thread,
whose own time it counts. The other side is NumPy too, as pretraining scripts have it: two shuffles for the borders, a
mask and sentinels for each text.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flanscale.config.compose import Composer
from flanscale.pipeline.denoising import corrupt_spans
from flanscale.pipeline.packing import pack
from flanscale.pipeline.ragged import Ragged
from flanscale.pipeline.windows import objective_source

TEXTS, LENGTH, ROUNDS = 2048, 568, 9  # a block of draws; T5's rows of 512 + 114
SENTINELS = np.arange(32_099, 31_999, -1).astype(np.int32)


def at_once(texts: Ragged, choices: np.ndarray) -> tuple[Ragged, Ragged]:
    n = len(texts)
    return corrupt_spans(texts, np.full(n, 0.15), np.full(n, 3.0), choices, SENTINELS)


def one_by_one(texts: Ragged, choices: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [_corrupted(text, np.random.default_rng(choice)) for text, choice in zip(texts, choices, strict=True)]


def _corrupted(text: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    noise = round(len(text) * 0.15)
    spans = round(noise / 3)
    lengths = np.stack([_segments(len(text) - noise, spans, rng), _segments(noise, spans, rng)], axis=1).ravel()
    is_noise = np.repeat(np.tile([False, True], spans), lengths)
    return _with_sentinels(text, is_noise), _with_sentinels(text, ~is_noise)


def _segments(items: int, count: int, rng: np.random.Generator) -> np.ndarray:
    first = rng.permutation(np.arange(items - 1) < count - 1)
    return np.bincount(np.cumsum(np.concatenate([[0], first])))


def _with_sentinels(text: np.ndarray, gone: np.ndarray) -> np.ndarray:
    starts = gone & ~np.concatenate([[False], gone[:-1]])
    return np.where(starts, SENTINELS[np.cumsum(starts) - 1], text)[~gone | starts]


class Corpus:
    """Texts in memory, as a source of one task."""

    def __init__(self, texts: Ragged) -> None:
        self.texts, self.sizes = texts, [len(texts)]

    def tokens(self, tasks: np.ndarray, examples: np.ndarray, choices: np.ndarray) -> tuple[Ragged, Ragged]:
        drawn = self.texts.view(examples)
        return drawn, drawn.first(0)


def mixture(objective: str, texts: Ragged) -> tuple[Callable[[], Any], int]:
    """(draws a block of windows under a whole objective and lays its rows out, text tokens of such a block)."""
    base = ["collection=text", "data.text=.", "evaluation=none", "tokenizer=bytes", "model=micro", "mixture=text"]
    config = Composer().compose(
        [*base, f"objective={objective}", "trainer.input_tokens=1024", "trainer.target_tokens=1024"]
    )
    source = objective_source(Corpus(texts), config, Spare())  # type: ignore[arg-type]  # of a tokenizer, its ids only
    rng = np.random.default_rng(1)
    examples = rng.integers(0, source.sizes[0], TEXTS)
    draw = np.zeros(TEXTS, int), examples, rng.integers(0, 1 << 63, TEXTS, dtype=np.uint64)

    def block() -> Any:
        rows = pack(*source.tokens(*draw), architecture="decoder", input_tokens=0, target_tokens=2048)
        return rows.rows

    return block, int(source.tokens_per_draw[0] * TEXTS)  # type: ignore[attr-defined]


class Spare:
    """A vocabulary of T5's hundred extra ids and nothing else."""

    def token_id(self, token: str) -> int | None:
        number = token.removeprefix("<extra_id_").removesuffix(">")
        return 32_099 - int(number) if number.isdecimal() and int(number) < 100 else None


def rate(make: Callable[[], Any], tokens: int) -> float:
    """Median of millions of text tokens in a second of one thread's time."""
    make()
    seconds = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        make()
        seconds.append(time.thread_time() - started)
    return tokens / statistics.median(seconds) / 1e6


def compare(name: str, lengths: np.ndarray, rng: np.random.Generator) -> None:
    texts = Ragged.consecutive(rng.integers(3, 32_000, lengths.sum()).astype(np.uint16), lengths)
    choices = rng.integers(0, 1 << 63, TEXTS, dtype=np.uint64)
    block = rate(lambda: at_once(texts, choices), int(lengths.sum()))
    single = rate(lambda: one_by_one(texts, choices), int(lengths.sum()))
    print(f"span corruption, {name}: {block:.1f} M tokens/s at once, {single:.1f} one by one: {block / single:.1f} x")


def main() -> None:
    rng = np.random.default_rng(0)
    compare("texts of 568 tokens", np.full(TEXTS, LENGTH), rng)
    compare("texts of 20 to 568 tokens", rng.integers(20, LENGTH, TEXTS), rng)
    lengths = np.maximum(rng.lognormal(6.5, 1.0, 8000), 5).astype(np.int64)  # documents of about 1,100 tokens
    texts = Ragged.consecutive(rng.integers(3, 32_000, lengths.sum()).astype(np.uint16), lengths)
    for objective in ("span_corruption", "ul2r", "ul2", "prefix_lm", "lm"):
        make, tokens = mixture(objective, texts)
        filled, speed = (make()["decoder_segment_ids"] > 0).mean(), rate(make, tokens)
        print(f"{objective}, drawn and packed into rows of 2,048: {speed:.1f} M tokens/s, rows {filled:.1%} full")


if __name__ == "__main__":
    main()
