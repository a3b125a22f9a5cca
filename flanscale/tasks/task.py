"""What is a task? A named set of examples with its instruction, where it comes from and how it may be shown."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
class Made(Sequence[Example]):
    """So many examples, each made of its number whenever it is asked for."""

    size: int
    make: Callable[[int], Example]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices: nobody asks for them
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self.make(index)


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
        """Tasks that no mixture ever contains, with data here: what is asked."""

    @property
    def reserved(self) -> Mapping[str, str]:
        """Tasks of the paper's catalogue that no mixture contains, their data here or not → why."""

    @property
    def missing(self) -> Mapping[str, str]:
        """Training tasks of the collection whose data is not here → why, and what to do about it."""

    @property
    def uncatalogued(self) -> Mapping[str, str]:
        """What is here of a collection of the catalogue's tasks and means none of them, so in no mixture → why."""

    @property
    def fixed_rationales(self) -> bool:
        """Whether the texts of its group of chain of thought hold their rationales for good."""

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


class Ordinary:
    """What is so of most collections; the others say otherwise."""

    @property
    def reserved(self) -> Mapping[str, str]:
        return {}

    @property
    def uncatalogued(self) -> Mapping[str, str]:
        return {}

    @property
    def fixed_rationales(self) -> bool:
        return False


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
        self.add({why: 1}, {why: f"{path}:{place}" if place else f"{path}"})

    def add(self, counts: Mapping[str, int], first: Mapping[str, str]) -> None:
        """Count what an earlier reading of the same files left out, its kinds in the order in which they were found.

        Raises:
            DataError: going on is not allowed.
        """
        for why, where in first.items():
            if not self.allowed:
                raise DataError(f"{where}: {why}; mixture.skip_bad=true leaves bad records out and counts them")
            self.first.setdefault(why, where)
        self.counts.update(counts)

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
