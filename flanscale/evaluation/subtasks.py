"""Which subtasks of a benchmark are in its folder, and how often does the most frequent answer come?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from flanscale.errors import ConfigError, DataError, nearest

Row = TypeVar("Row")


def by_subtask(
    rows: Iterable[Row], subtask: Callable[[Row], str], known: Sequence[str], folder: Path
) -> dict[str, list[Row]]:
    """The rows of each subtask that has any, in the order of the rows.

    Raises:
        DataError: there is no row, or one of a subtask that the benchmark does not have.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(subtask(row), []).append(row)
    for name in found:
        if name not in known:
            raise DataError(f"{folder}: {name} is no subtask of this benchmark{nearest(name, known)}")
    if not found:
        raise DataError(f"{folder}: nothing of this benchmark is there; expected files of {known[0]}, {known[1]}, …")
    return found


def of_other_sizes(here: Mapping[str, int], published: Mapping[str, int]) -> tuple[str, ...]:
    """A sentence where subtasks have not as many items as are published: cut files, or doubled ones."""
    found = [f"{name} {number:,} of {published[name]:,}" for name, number in here.items() if number != published[name]]
    return (f"Items here, of those that are published: {', '.join(found)}.",) if found else ()


def check_shots(asked: str, shots: int, most: int) -> None:
    """
    Raises:
        ConfigError: that many worked examples of `asked`, a benchmark's setting, are not published.
    """
    if shots > most:
        raise ConfigError(f"{asked}-{shots}shot: it can be asked with 0 to {most} worked examples")


def majority(answers: Iterable[str]) -> float:
    """What always giving the most frequent answer scores, in percent."""
    counts = Counter(answers)
    return 100.0 * max(counts.values()) / counts.total()
