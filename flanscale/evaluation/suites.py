"""What is a suite? Lines, each a benchmark in one setting with the items that are asked, and what it is known by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from flanscale.errors import ConfigError, DataError, one_line
from flanscale.evaluation.item import Ask, Asked, Benchmark, Item, Setting
from flanscale.evaluation.protocol import Sampling

LETTERS_PER_TOKEN = 4
"""Of English text in common vocabularies."""


@dataclass(frozen=True)
class Line:
    """One line of a suite, ready to be asked."""

    ask: Ask
    benchmark: Benchmark
    setting: Setting
    asked: Asked

    @property
    def name(self) -> str:
        """Under which its scores are logged: benchmark/setting."""
        return f"{self.benchmark.name}/{self.ask.mode}"

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal characters over all prompts, what is right, and how answers are read."""
        rule = {name: value for name, value in vars(self.setting).items() if name != "extract"}
        digest = hashlib.sha256(json.dumps([self.name, self.benchmark.version, self.ask.samples, rule]).encode())
        for item in self.asked.items:
            digest.update(json.dumps([item.key, prompt_hash(item), item.references, item.gold]).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Suite:
    """Lines that are asked of one model together."""

    name: str
    lines: tuple[Line, ...]
    sampling: Sampling
    """Of lines with several samples; others take the most likely tokens."""
    average: tuple[str, ...]
    """Names of the lines whose mean is the suite's."""
    faults: tuple[str, ...] = ()
    """Why lines cannot be asked here, a sentence each."""

    @property
    def items(self) -> int:
        return sum(len(line.asked.items) for line in self.lines)

    @cached_property
    def tokens(self) -> int:
        """About how many there are, with the longest answers that are allowed; no tokenizer is asked."""
        return sum(
            (len(item.prompt.text()) + sum(map(len, item.options))) // LETTERS_PER_TOKEN
            + line.setting.max_new_tokens * line.ask.samples
            for line in self.lines
            for item in line.asked.items
        )

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal characters over all that decides what an answer is worth."""
        parts = [[line.fingerprint for line in self.lines], asdict(self.sampling), self.average]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def open_suite(
    name: str,
    asks: Sequence[str],
    open_benchmark: Callable[[str], Benchmark],
    *,
    items: int | None,
    average: Sequence[str] | None,
    sampling: Sampling,
) -> Suite:
    """The suite of these lines; what cannot be asked here is a fault, and the other lines stay.

    Args:
        items: the most of each subtask.
        average: of the asks, those whose mean is the suite's; None: all that have a metric.

    Raises:
        ConfigError: a line is not written as one, or names what its benchmark does not have.
    """
    lines, faults = [], []
    opened: dict[str, Line] = {}
    for text in asks:
        ask = Ask.parse(text)
        try:
            benchmark = open_benchmark(ask.benchmark)
            setting = benchmark.setting(ask)
            asked = benchmark.asked(ask)
        except DataError as error:
            faults.append(f"{text}: {one_line(error)}")
            continue
        if items is not None:
            asked = replace(asked, items=subset(asked.items, items, benchmark.in_order))
        if ask.samples > 1 and setting.extract is None:
            raise ConfigError(
                f"{text}: {setting.name} ranks options by their probabilities, of which there are no samples"
            )
        line = Line(replace(ask, setting=setting.name), benchmark, setting, asked)
        if twin := next((other for other in opened if opened[other].name == line.name), None):
            raise ConfigError(f"{text}: the same line as {twin}; each is asked once")
        lines.append(line)
        opened[text] = line
    members = [
        line for text, line in opened.items() if (text in average if average is not None else line.setting.metrics)
    ]
    return Suite(name, tuple(lines), sampling, tuple(line.name for line in members), tuple(faults))


def prompt_hash(item: Item) -> str:
    """Sixteen hexadecimal characters over the whole prompt, all shots included, and the options behind it."""
    return hashlib.sha256("\0".join([item.prompt.text(), *item.options]).encode()).hexdigest()[:16]


def subset(items: Sequence[Item], per_subtask: int, in_order: bool) -> tuple[Item, ...]:
    """As many items of each subtask, where it has them, in their order: a smaller subset is part of a larger one.

    They depend on the items' keys alone, so that every model is asked the same ones: drawn by the keys' SHA-256, or the
    first ones where `in_order`.
    """
    ranks: dict[str, list[str]] = {}
    for item in items:
        ranks.setdefault(item.subtask, []).append(item.key)
    if not in_order:
        ranks = {name: sorted(keys, key=_drawn) for name, keys in ranks.items()}
    kept = {key for keys in ranks.values() for key in keys[:per_subtask]}
    return tuple(item for item in items if item.key in kept)


def _drawn(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
