"""How is a study doing? Reads only its index and run directories, whoever runs the cells and wherever."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flanscale.orchestration.cost import estimated_seconds
from flanscale.orchestration.ledger import Entry, Ledger
from flanscale.orchestration.liveness import View, asking_rarely, look
from flanscale.orchestration.progress import Progress, read_progress


@dataclass(frozen=True)
class CellStatus:
    """One cell, as it is now."""

    entry: Entry
    view: View
    progress: Progress

    @property
    def status(self) -> str:
        return self.view.status

    @property
    def lost(self) -> bool:
        """Whether it ended without a result, and nobody is at it."""
        return self.status in ("failed", "interrupted", "preempted") and not self.view.alive

    @property
    def seconds(self) -> float:
        """Spent on it so far, in all attempts."""
        state = self.view.state
        running = time.time() - state.updated if self.status == "running" else 0.0
        return state.seconds + running


@dataclass(frozen=True)
class StudyStatus:
    """All cells of a study, as they are now."""

    ledger: Ledger
    cells: Sequence[CellStatus]

    @property
    def counts(self) -> Counter[str]:
        """Cells by status."""
        return Counter(cell.status for cell in self.cells)

    @property
    def settled(self) -> bool:
        """Whether nobody is at work on it."""
        return not any(cell.view.alive for cell in self.cells)

    @property
    def lost(self) -> list[CellStatus]:
        """Cells that ended without a result."""
        return [cell for cell in self.cells if cell.lost]

    def seconds_left(self) -> float | None:
        """Until all cells but the lost are finished, by the pace of the finished ones; None before there is one."""
        measured = {cell.entry.id: cell.seconds for cell in self.cells if cell.status == "finished"}
        guess = estimated_seconds({cell.entry.id: cell.entry.flops for cell in self.cells}, measured)
        if guess is None:
            return None
        ahead = [cell for cell in self.cells if cell.status != "finished" and not cell.lost]
        left = [max(guess[cell.entry.id] - cell.seconds, 0.0) for cell in ahead]
        return max([sum(left) / max(self.counts["running"], 1), *left])


class Observer:
    """Looks at a study again and again; what has ended is not read twice."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._ended: dict[str, CellStatus] = {}
        self._known_jobs = asking_rarely()

    def look(self) -> StudyStatus:
        """The study as it is now."""
        return StudyStatus(self.ledger, [self._look_at(entry) for entry in self.ledger.entries])

    def _look_at(self, entry: Entry) -> CellStatus:
        if entry.id in self._ended:
            return self._ended[entry.id]
        directory = self.ledger.directory(entry)
        view = look(directory, self._known_jobs)
        cell = CellStatus(entry, view, read_progress(directory) if view.state.attempt else Progress())
        if cell.status == "finished":
            self._ended[entry.id] = cell
        return cell


def as_json(study: StudyStatus) -> dict[str, Any]:
    """The status for programs."""
    axes: dict[str, list[dict[str, Any]]] = {}
    for point in study.ledger.points:
        axes.setdefault(point.cell, []).append(point.axes)
    return {
        "study": study.ledger.study,
        "counts": dict(study.counts),
        "cells": [
            {
                "cell": cell.entry.id,
                "run": cell.entry.run,
                "points": axes[cell.entry.id],
                "status": cell.status,
                "attempt": cell.view.state.attempt,
                "steps": cell.entry.steps,
                "seconds": round(cell.seconds, 1),
                "failure": cell.view.state.failure.to_json() if cell.view.state.failure else None,
                **vars(cell.progress),
            }
            for cell in study.cells
        ],
    }
