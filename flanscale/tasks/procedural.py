"""The embedded collection: which tasks can be learned here without any download, and what are their examples?

A task applies one to three primitives in turn to a short sequence (`flanscale.tasks.primitives`), and its rationale
is the sequence of intermediate results. There are 1,836 training tasks and 48 held out, no two of which compute the
same function (`procedural.csv`, made by `make_procedural`).

Groups have the sizes of the paper's four sources, in its order of adding them (Chung et al. 2022, §3 and appendix F):
CoT 9, Muffin 80, T0-SF 193, NIV2 1,554. In the paper the first group alone bears rationales. Here every task does,
the first group like the rest: what group a task is in says when a growing study adds it and nothing else, so that the
effect of the number of tasks is not that of a change of source.

Held out means held out three times: as a composition, as a function, and by input. One input in ten is asked at
evaluation only and is the input of no training example. Every example is a function of (task, index).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from itertools import islice
from math import gcd
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.tasks.primitives import DOMAINS, Domain, primitives, symbols
from flanscale.tasks.task import Example, Made, Ordinary, Skips, Task

__all__ = ["GROUP_SIZES", "Procedural", "primitives", "symbols"]

GROUP_SIZES = {"first": 9, "second": 80, "third": 193, "fourth": 1554}
LAYOUT_FILE = Path(__file__).with_name("procedural.csv")
_HELD_OUT_INPUTS = 10  # one input in this many is for evaluation only
_FINGERPRINTED = 8  # examples


@dataclass(frozen=True)
class Procedural(Ordinary):
    """The collection.

    Args:
        examples_per_task: most examples of a task, all different; three symbols have 900 inputs for training and
            100 for evaluation.
        domain: what the sequences are of, digits or letters: two collections that share nothing.
        difficulty: 1 to 3: inputs of 3, 4 or 5 symbols; the tasks are the same.
    """

    examples_per_task: int
    domain: str = "digits"
    difficulty: int = 1
    skips: Skips = field(default_factory=Skips)
    name: str = "procedural"

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise DataError(f"collection.domain={self.domain}: there are {', '.join(DOMAINS)}")
        if not 1 <= self.difficulty <= 3:
            raise DataError(f"collection.difficulty={self.difficulty}: there are 1, 2 and 3")

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        training = iter(layout(self.domain)["training"])
        return {group: list(islice(training, size)) for group, size in GROUP_SIZES.items()}

    @cached_property
    def held_out(self) -> list[str]:
        return list(layout(self.domain)["held_out"])

    @property
    def missing(self) -> Mapping[str, str]:
        return {}

    def category(self, name: str) -> str:
        """How many primitives a task composes."""
        return f"length {len(self._operations(name))}"

    def fingerprint(self, name: str) -> str:
        """Over the first examples with their steps: it follows the primitives, not only their names."""
        examples = self.task(name).examples
        shown = [(e.input, e.references, e.rationale) for e in islice(examples, _FINGERPRINTED)]
        return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]

    def task(self, name: str) -> Task:
        operations = self._operations(name)
        domain = DOMAINS[self.domain]
        inputs = _Inputs.of(domain, domain.lengths[self.difficulty - 1], name, held_out=name in self.held_out)
        return Task(
            name=name,
            collection=self.name,
            category=self.category(name),
            instruction=f" {domain.then} ".join(operations),
            examples=Made(min(self.examples_per_task, inputs.count), partial(_example, domain, operations, inputs)),
            licence="Apache-2.0",
            dataset=self.domain,
            style="procedural",
        )

    def _operations(self, name: str) -> tuple[str, ...]:
        operations = tuple(name.split("-"))
        if not 1 <= len(operations) <= 3 or not set(operations) <= primitives(self.domain).keys():
            some = "-".join(islice(primitives(self.domain), 3))
            raise DataError(f"no task {name!r} in the procedural collection of {self.domain}; tasks are like {some}")
        return operations


@cache
def layout(domain: str) -> dict[str, list[str]]:
    """Use (training, held_out) → a domain's tasks in order."""
    tasks: dict[str, list[str]] = {"training": [], "held_out": []}
    with LAYOUT_FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["domain"] == domain:
                tasks[row["use"]].append(row["task"])
    return tasks


@dataclass(frozen=True)
class _Inputs:
    """The inputs of one task, each once, in an order of its own: numbers below len(symbols) ** length, scattered.

    The first tenth of the scattered numbers is every held-out task's, the rest every training task's.
    """

    total: int
    first: int
    count: int
    start: int
    stride: int

    @classmethod
    def of(cls, domain: Domain, length: int, name: str, *, held_out: bool) -> _Inputs:
        total = len(domain.symbols) ** length
        first, count = (0, total // _HELD_OUT_INPUTS) if held_out else (total // _HELD_OUT_INPUTS, 0)
        count = count or total - first
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
        start, stride = seed % count, (seed >> 64) % count
        while gcd(stride, count) != 1:
            stride += 1
        return cls(total, first, count, start, stride)

    def __getitem__(self, index: int) -> int:
        return _scatter(self.first + (self.start + index * self.stride) % self.count, self.total)


def _scatter(number: int, total: int) -> int:
    """A fixed shuffle of 0 … total - 1 that needs no table: multiply and shift, again while the result is too large."""
    bits = (total - 1).bit_length()
    mask, half = (1 << bits) - 1, (bits + 1) // 2
    while True:
        for multiplier in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
            number = (number + 0x632BE59BD9B4E019) * multiplier & mask
            number ^= number >> half
        if number < total:
            return number


def _example(domain: Domain, operations: Sequence[str], inputs: _Inputs, index: int) -> Example:
    value = _value(domain, inputs[index], inputs.total)
    asked, steps = spell(value), []
    for operation in operations:
        value = domain.primitives[operation](value)
        steps.append(f"{operation} {spell(value)} ;")
    return Example(str(index), asked, (spell(value),), " ".join(steps))


def _value(domain: Domain, number: int, total: int) -> Any:
    base = len(domain.symbols)
    found: list[Any] = []
    while base ** len(found) < total:
        found.append(domain.symbols[number // base ** len(found) % base])
    return domain.make(found)


@cache
def held_out_inputs(domain: str) -> frozenset[Any]:
    """All that held-out tasks are asked about, at any difficulty."""
    made = DOMAINS[domain]
    totals = [len(made.symbols) ** length for length in made.lengths]
    return frozenset(
        _value(made, _scatter(number, total), total) for total in totals for number in range(total // _HELD_OUT_INPUTS)
    )


def spell(value: Sequence[Any]) -> str:
    """As a value is written: a word a symbol."""
    return " ".join(map(str, value))
