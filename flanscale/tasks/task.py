"""What is a task? A named set of examples with its instruction, where it comes from and how it may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class DataError(ValueError):
    """Task data that is missing or malformed; the message is one line that names the file or the task."""


@dataclass(frozen=True)
class Example:
    """One input with its acceptable answers, and the reasoning that leads to the first of them where there is any."""

    id: str
    input: str
    references: tuple[str, ...]
    rationale: str | None = None

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
    licence: str = "unknown"


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
    def missing(self) -> list[str]:
        """Training tasks that are part of the collection but whose data is not here."""

    def task(self, name: str) -> Task:
        """Load one task.

        Raises:
            DataError: its data is missing or malformed.
        """
