"""How is a suite asked? Line after line; every record is kept at once, and what is kept is not asked again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from flanscale.errors import ConfigError
from flanscale.evaluation.asking import ask
from flanscale.evaluation.protocol import LanguageModel
from flanscale.evaluation.records import Record, kept
from flanscale.evaluation.suites import Line, Suite
from flanscale.run_directory.evaluations import append_records, close_records

SAID_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """A line with the records of its items, in their order."""

    line: Line
    records: tuple[Record, ...]


def answers(
    suite: Suite,
    model: LanguageModel,
    folder: Path,
    *,
    writes: bool,
    seen: Mapping[str, Container[str]],
    reached: Callable[[int], None],
) -> list[Answered]:
    """Every line of a suite, asked of one model; records of its folder are gone on from.

    Args:
        folder: of this suite and these weights alone.
        writes: whether records are kept here; of several processes that ask together, by one of them.
        seen: benchmark → keys of items that training may have seen.
        reached: told how many items of all lines have been answered, a batch at a time.

    Raises:
        ConfigError: kept records are damaged.
        NonFiniteLogits: the model gave no token.
    """
    for fault in suite.faults:
        log.warning("not asked: %s", fault)
    answered: list[Answered] = []
    for line in suite.lines:
        before = sum(len(one.records) for one in answered)
        contaminated = seen.get(line.benchmark.name, ())

        def told(own: int, before: int = before) -> None:
            reached(before + own)

        answered.append(_asked(suite, line, model, folder, writes, contaminated, told))
    return answered


def _asked(
    suite: Suite,
    line: Line,
    model: LanguageModel,
    folder: Path,
    writes: bool,
    contaminated: Container[str],
    reached: Callable[[int], None],
) -> Answered:
    records, whole = kept(folder, line.name)
    found = {record.key: record for record in records}
    items = line.asked.items
    if whole and (lost := [item.key for item in items if item.key not in found]):
        raise ConfigError(
            f"{folder}: {line.name} is told to be whole, and lacks {len(lost)} of {len(items)} items, {lost[0]} first;"
            " delete its files there to have it asked again"
        )
    if not whole:
        for note in line.asked.notes:
            log.info("%s: %s", line.name, note)
        if found:
            log.info("%s: %d of %d items are answered already", line.name, len(found), len(items))
        due = time.monotonic() + SAID_SECONDS
        for batch in ask(line, model, suite.sampling, done=frozenset(found), contaminated=contaminated):
            new = [record for record in batch if record.key not in found]
            found |= {record.key: record for record in new}
            if writes:
                append_records(folder, line.name, [record.line() for record in new])
            if len(found) == len(items) or time.monotonic() > due:
                log.info("%s: %d of %d items", line.name, len(found), len(items))
                due = time.monotonic() + SAID_SECONDS
            reached(len(found))
        if writes:
            close_records(folder, line.name, [found[item.key].line() for item in items])
    return Answered(line, tuple(found[item.key] for item in items))
