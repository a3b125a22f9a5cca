"""How is a study doing? Reads only its index and run directories, whoever runs the cells and wherever."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from flanscale.errors import ConfigError
from flanscale.orchestration.planning.ledger import Entry, Ledger
from flanscale.orchestration.running.launchers import Launcher, launchers
from flanscale.orchestration.running.liveness import View, asking_rarely, look
from flanscale.orchestration.running.progress import Progress, read_progress
from flanscale.orchestration.watching import forecast
from flanscale.run_directory import METRICS_FILE, STATE_FILE, RunState, read_each

DAMAGED = "damaged"
STATUSES = ("running", "failed", DAMAGED, "interrupted", "preempted", "queued", "planned", "finished")
"""Every status, those first that a person looks for first."""

NOT_BEGUN = View(RunState(), alive=False)


@dataclass(frozen=True)
class CellStatus:
    """One cell, as it is now."""

    entry: Entry
    view: View
    progress: Progress
    problem: str | None = None  # why its files cannot be read
    removed: bool = False  # the study no longer has it

    @cached_property
    def status(self) -> str:
        return DAMAGED if self.problem else self.view.status

    @cached_property
    def lost(self) -> bool:
        """Whether it ended without a result, and nobody is at it."""
        return self.view.lost or self.status == DAMAGED

    @property
    def seconds(self) -> float:
        """Spent on it so far, in all attempts."""
        state = self.view.state
        return state.seconds + (state.age if self.status == "running" else 0.0)

    @property
    def device_hours(self) -> float:
        """Spent on it so far."""
        return self.seconds * self.entry.devices / 3600


@dataclass(frozen=True)
class StudyStatus:
    """All cells of a study, as they are now."""

    ledger: Ledger
    cells: Sequence[CellStatus]
    removed: Sequence[CellStatus] = ()  # unfinished cells of an earlier launch that the study no longer has
    launchers: Sequence[Launcher] = ()  # that live and keep what is not begun in their memory

    @cached_property
    def counts(self) -> Counter[str]:
        """Cells by status."""
        return Counter(cell.status for cell in self.cells)

    @property
    def settled(self) -> bool:
        """Whether nobody is at work on it."""
        return not self.launchers and not any(cell.view.alive for cell in self.cells)

    @cached_property
    def lost(self) -> list[CellStatus]:
        """Cells that ended without a result."""
        return [cell for cell in self.cells if cell.lost]

    @property
    def device_hours(self) -> float:
        """Spent so far, on cells that the study no longer has too."""
        return sum(cell.device_hours for cell in (*self.cells, *self.removed))

    @cached_property
    def _works(self) -> list[forecast.Work]:
        return [_work(cell) for cell in self.cells if not cell.lost]

    @cached_property
    def remaining(self) -> Mapping[str, float]:
        """Seconds until each cell that has still to finish is finished, by its id; without those nobody can tell."""
        return forecast.remaining(self._works)

    def seconds_left(self) -> float | None:
        """Until all cells but the lost are finished, as many at once as now; None where nobody can tell."""
        return forecast.makespan(self._works, self.remaining, at_once=self.counts["running"])

    def device_hours_left(self) -> float | None:
        """Of all cells but the lost; None where nobody can tell."""
        ahead = [cell for cell in self.cells if cell.status != "finished" and not cell.lost]
        if any(cell.entry.id not in self.remaining for cell in ahead):
            return None
        return sum(self.remaining[cell.entry.id] * cell.entry.devices for cell in ahead) / 3600


def _work(cell: CellStatus) -> forecast.Work:
    entry, progress = cell.entry, cell.progress
    own = None
    if cell.status == "running" and progress.steps_per_second and progress.step is not None and progress.logged:
        since = max(time.time() - progress.logged, 0.0)
        own = max((entry.steps - progress.step) / progress.steps_per_second - since, 0.0)
    return forecast.Work(entry.id, entry.flops, cell.seconds, cell.status == "finished", own, entry.parents)


@dataclass(frozen=True)
class _Seen:
    """A cell with the stamps of the files that it was read from; a file of the same stamp has the same content."""

    cell: CellStatus
    state: _Stamp
    metrics: _Stamp


_Stamp = tuple[int, int, int] | None  # inode, size, time of the last change in ns; None where there is no file


class Observer:
    """Looks at a study again and again; what has not changed is not read twice."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._seen: dict[str, _Seen] = {}
        self._known_jobs = asking_rarely()

    def look(self) -> StudyStatus:
        """The study as it is now; a run whose files cannot be read does not hide the others."""
        living = launchers(self.ledger.path)  # first: one that ends meanwhile has left its cells' records behind
        cells = read_each(self._look_at, self.ledger.entries)
        removed = read_each(partial(self._look_at, removed=True), self.ledger.removed)
        return StudyStatus(self.ledger, cells, removed, living)

    def _look_at(self, entry: Entry, removed: bool = False) -> CellStatus:
        before = self._seen.get(entry.id)
        if before and before.cell.status == "finished":
            return before.cell
        directory = self.ledger.directory(entry)
        try:
            stamp = _stamp(directory / STATE_FILE)
            known = before.cell.view if before and before.state == stamp and not before.cell.problem else None
            if before and known and known.status == "failed":
                return before.cell  # until its record changes; of all others, somebody may be at them by now
            view = look(directory, self._known_jobs, known.state if known else None) if stamp else NOT_BEGUN
            metrics = _stamp(directory / METRICS_FILE) if view.state.attempt else None
            if before and before.metrics == metrics and not before.cell.problem:
                progress = before.cell.progress
            else:
                progress = read_progress(directory) if metrics else Progress()
            cell = CellStatus(entry, view, progress, removed=removed)
        except (OSError, ConfigError) as error:
            stamp = metrics = None
            cell = CellStatus(entry, NOT_BEGUN, Progress(), str(error), removed)
        self._seen[entry.id] = _Seen(cell, stamp, metrics)
        return cell


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
