"""What can a model read before it is told to do anything: plain text of the embedded collection's world, endless.

A text is of chains: a sequence, then a primitive and what it makes of it, some times, with neither instruction nor
question. Texts of digits and of letters take turns. No input that is kept for evaluation occurs in them, nor do the
primitives of a held-out task after each other. Every text is a function of its number.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flanscale.errors import DataError
from flanscale.tasks.primitives import DOMAINS
from flanscale.tasks.procedural import held_out_inputs, layout, spell
from flanscale.tasks.task import Example, Made, Ordinary, Skips, Task

TASK = "chains"
CHAINS, STEPS = 4, 3
"""Of a text, and of a chain: together longer than a row of the quick study, so that rows are full."""
_FINGERPRINTED = 8


@dataclass(frozen=True)
class ProceduralText(Ordinary):
    """The collection: one task of `examples_per_task` texts."""

    examples_per_task: int
    skips: Skips = field(default_factory=Skips)
    name: str = "procedural_text"

    @property
    def groups(self) -> dict[str, list[str]]:
        return {self.name: [TASK]}

    @property
    def held_out(self) -> list[str]:
        return []

    @property
    def missing(self) -> Mapping[str, str]:
        return {}

    def category(self, name: str) -> str:
        return self.name

    def fingerprint(self, name: str) -> str:
        """Over the first texts."""
        return hashlib.sha256(repr([text(number) for number in range(_FINGERPRINTED)]).encode()).hexdigest()[:16]

    def task(self, name: str) -> Task:
        if name != TASK:
            raise DataError(f"no task {name!r} in the procedural texts: all of them are {TASK!r}")
        examples = Made(self.examples_per_task, lambda number: Example(str(number), text(number), ("",)))
        return Task(name, self.name, self.name, "", examples, licence="Apache-2.0", dataset=name, style="text")


def text(number: int) -> str:
    """The text of that number."""
    name = ("digits", "letters")[number % 2]
    draws = _draws(number)
    return " ".join(_chain(name, draws) for _ in range(CHAINS))


def _chain(name: str, draws: Iterator[int]) -> str:
    domain, apart = DOMAINS[name], held_out_inputs(name)
    operations, untold = list(domain.primitives), set(layout(name)["held_out"])
    length = domain.lengths[0]
    value = domain.make(domain.symbols[next(draws) % len(domain.symbols)] for _ in range(length))
    while value in apart:
        value = domain.make(domain.symbols[next(draws) % len(domain.symbols)] for _ in range(length))
    said, done = [spell(value)], list[str]()
    while len(done) < STEPS:
        operation = operations[next(draws) % len(operations)]
        result = domain.primitives[operation](value)
        if result in apart or any("-".join([*done[place:], operation]) in untold for place in range(len(done))):
            continue
        done.append(operation)
        value = result
        said.append(f"{operation} {spell(value)} ;")
    return " ".join(said)


def _draws(number: int) -> Iterator[int]:
    """Sixteen random bits at a time, without end."""
    for block in itertools.count():
        found = hashlib.sha256(f"{number} {block}".encode()).digest()
        yield from (int.from_bytes(found[place : place + 2], "little") for place in range(0, len(found), 2))
