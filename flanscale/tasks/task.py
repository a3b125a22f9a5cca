"""What is a task? A named set of examples with its instruction, where it comes from and how it may be shown."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flanscale.errors import DataError


@dataclass(frozen=True)
class Example:
    """One input with its acceptable answers, and the reasoning that leads to the first of them where there is any."""

    id: str
    input: str
    references: tuple[str, ...]
    rationale: str | None = None
    options: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    """The source's own fields, under the names that third-party templates use (premise, hypothesis, …)."""

    @property
    def target(self) -> str:
        return self.references[0]


@dataclass(frozen=True)
class Task:
    """One task. `examples` may make its items on demand; its length and its items never change."""

    name: str
    collection: str
    category: str
    instruction: str
    examples: Sequence[Example]
    exemplars: tuple[Example, ...] = ()
    """Worked examples that are no training examples; where there are none, other training examples serve."""
    licence: str = "unknown"
    dataset: str = ""
    style: str = "instruction"
    """Which wordings fit: procedural, instruction, question, classification, generation, rendered or text."""


class Collection(Protocol):
    """Where tasks come from: names are cheap, a task is loaded when asked for."""

    @property
    def name(self) -> str:
        """What data fingerprints, catalogues and benchmarks call it."""

    @property
    def groups(self) -> dict[str, list[str]]:
        """Training tasks by group, in the order in which a growing study adds them."""

    @property
    def held_out(self) -> list[str]:
        """Tasks that no mixture ever contains."""

    @property
    def missing(self) -> Mapping[str, str]:
        """Training tasks of the collection whose data is not here → why, and what to do about it."""

    @property
    def skips(self) -> Skips:
        """Malformed records that have been left out so far."""

    def category(self, name: str) -> str:
        """A training task's category, without loading the task."""

    def fingerprint(self, name: str) -> str:
        """Sixteen hexadecimal characters over the content of one task's source."""

    def task(self, name: str) -> Task:
        """Load one task.

        Raises:
            DataError: its data is missing or malformed.
        """


class Skips:
    """What was left out: the first bad record is an error, unless going on is allowed; then they are counted."""

    def __init__(self, allowed: bool = False) -> None:
        self.allowed = allowed
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def bad(self, path: Path, place: int | str | None, why: str) -> None:
        """Count one bad record; `place` is its line number, or "record 7" where records are no lines.

        Raises:
            DataError: going on is not allowed.
        """
        where = f"{path}:{place}" if place else f"{path}"
        if not self.allowed:
            raise DataError(f"{where}: {why}; mixture.skip_bad=true leaves bad records out and counts them")
        self.counts[why] += 1
        self.first.setdefault(why, where)

    def add(self, counts: Mapping[str, int], first: Mapping[str, str]) -> None:
        """Count what an earlier reading of the same files left out."""
        self.counts.update(counts)
        self.first = {**first, **self.first}

    def forget(self) -> None:
        """Begin to count anew."""
        self.counts.clear()
        self.first.clear()

    def lines(self) -> list[str]:
        """One for each kind: where its first was, what is wrong, and how often."""
        return [f"{self.first[why]}: {why}{f' ({n} such)' if n > 1 else ''}" for why, n in self.counts.items()]

    @property
    def total(self) -> int:
        return self.counts.total()

    def log_to(self, log: logging.Logger) -> None:
        """One warning with the number of each kind and where its first was; silent where nothing was left out."""
        if self.counts:
            kinds = "; ".join(f"{n} × {why} (first {self.first[why]})" for why, n in self.counts.most_common())
            log.warning("left out %d bad records: %s", self.total, kinds)
