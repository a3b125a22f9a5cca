"""What is a suite? Lines, each a benchmark in one setting with the items that are asked, and what it is known by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from flanscale.errors import DataError, one_line
from flanscale.evaluation.item import Ask, Asked, Benchmark, Item, Setting
from flanscale.evaluation.paired import subset
from flanscale.evaluation.protocol import Sampling


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
        lines.append(Line(replace(ask, setting=setting.name), benchmark, setting, asked))
        opened[text] = lines[-1]
    members = [
        line for text, line in opened.items() if (text in average if average is not None else line.setting.metrics)
    ]
    return Suite(name, tuple(lines), sampling, tuple(line.name for line in members), tuple(faults))


def prompt_hash(item: Item) -> str:
    """Sixteen hexadecimal characters over the whole prompt, all shots included, and the options behind it."""
    return hashlib.sha256("\0".join([item.prompt.text(), *item.options]).encode()).hexdigest()[:16]
