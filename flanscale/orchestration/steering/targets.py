"""Which cells does a verb act on? Those of a target that a filter means, each as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flanscale.errors import ConfigError
from flanscale.orchestration.planning.finding import Target
from flanscale.orchestration.planning.ledger import Entry, Ledger
from flanscale.orchestration.running.liveness import KnownJobs, View, look
from flanscale.orchestration.watching.selection import Filter
from flanscale.run_directory import RunState


@dataclass(frozen=True)
class Seen:
    """One cell of a target, as it is now."""

    ledger: Ledger
    entry: Entry
    view: View
    meant: bool = True  # by the filter
    problem: str | None = None  # why its record cannot be read; nothing is then known of it

    @property
    def directory(self) -> Path:
        return self.ledger.directory(self.entry)


def look_at(target: Target, which: Filter, known_jobs: KnownJobs) -> list[Seen]:
    """Every cell of a target, and whether the filter means it.

    Raises:
        ConfigError: the filter names what the study does not have.
    """
    there = which.places(target.ledger, target.entries)
    return [_seen(target.ledger, entry, which, entry.id in there, known_jobs) for entry in target.entries]


def _seen(ledger: Ledger, entry: Entry, which: Filter, there: bool, known_jobs: KnownJobs) -> Seen:
    try:
        view = look(ledger.directory(entry), known_jobs)
    except ConfigError as error:
        return Seen(ledger, entry, View(RunState(), alive=False), meant=False, problem=str(error))
    return Seen(ledger, entry, view, meant=there and which.accepts(view))
