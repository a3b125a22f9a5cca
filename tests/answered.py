"""Records of items that nobody asked, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flanscale.evaluation.item import Floor
from flanscale.evaluation.records import Option, Record, Sample


def record(key: str, points: float | None = 100.0, **changed: Any) -> Record:
    """One item, whose subtask is the first part of its key; without points it counts nowhere."""
    subtask, scores = key.partition("/")[0], {} if points is None else {"exact": points}
    whole = Record(key, subtask, "", f"hash of {key}", 9, 3, 0, "answered", "yes", "yes", scores)
    return replace(whole, **changed)


def records(points: dict[str, Sequence[float]]) -> list[Record]:
    """Items by subtask."""
    return [record(f"{task}/{place}", one) for task, all in points.items() for place, one in enumerate(all)]


def floors(*subtasks: str, paper: float = 0.0, chance: float = 0.0) -> dict[str, Floor]:
    return {name: Floor(paper, chance) for name in subtasks}


def samples(*answers: str | None, ended: bool = True) -> tuple[Sample, ...]:
    return tuple(Sample(str(answer), answer, 5, ended, -1.0) for answer in answers)


def option(logprob: float, *, unconditional: float = -1.0, tokens: int = 1, bytes: int = 1) -> Option:
    return Option(logprob, unconditional, tokens, bytes, greedy=False)
