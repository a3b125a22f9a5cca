"""How do programs read the state of a study? The document of `status --json`, as docs/watching.md explains it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from flanscale.orchestration.watching.heatmap import make_map, map_json
from flanscale.orchestration.watching.monitor import CellStatus, StudyStatus
from flanscale.orchestration.watching.tables import stages_of
from flanscale.orchestration.watching.words import failure, reason

FORMAT = 1


def as_json(study: StudyStatus, cells: Sequence[CellStatus], axes: tuple[str, str] | None) -> dict[str, Any]:
    """The status for programs.

    Args:
        study: as it is.
        cells: of the study, those to list.
        axes: of the map; None for no map.
    """
    ledger = study.ledger
    points: dict[str, list[dict[str, Any]]] = {}
    for point in ledger.points:
        points.setdefault(point.cell, []).append(point.axes)
    stages = stages_of([cell.entry for cell in study.cells])
    statuses = {cell.entry.id: cell.status for cell in study.cells}
    return {
        "format": FORMAT,
        "study": ledger.study,
        "title": ledger.title,
        "time": round(time.time(), 3),
        "runs": str(ledger.runs),
        "axes": ledger.axes,
        "counts": dict(study.counts),
        "settled": study.settled,
        "launchers": [{"host": launcher.host, "pid": launcher.pid} for launcher in study.launchers],
        "device_hours": {"used": study.device_hours, "left": study.device_hours_left()},
        "seconds_left": study.seconds_left(),
        "map": map_json(make_map(study, axes)) if axes else None,
        "cells": [
            _cell(cell, study, points.get(cell.entry.id, []), stages.get(cell.entry.id), reason(cell, statuses))
            for cell in cells
        ],
    }


def _cell(
    cell: CellStatus, study: StudyStatus, points: list[dict[str, Any]], stage: int | None, why: str
) -> dict[str, Any]:
    entry, state, progress = cell.entry, cell.view.state, cell.progress
    return {
        "cell": entry.id,
        "run": entry.run,
        "points": points,
        "status": cell.status,
        "reason": why or None,
        "removed": cell.removed,
        "parents": list(entry.parents),
        "stage": stage,
        "attempt": state.attempt,
        "step": progress.step,
        "steps": entry.steps,
        "loss": _finite(progress.loss),
        "score": _finite(progress.score),
        "stderr": _finite(progress.stderr),
        "tokens_per_second": _finite(progress.tokens_per_second),
        "mfu": _finite(progress.mfu),
        "seconds": round(cell.seconds, 1),
        "seconds_left": study.remaining.get(entry.id),
        "device_hours": cell.device_hours,
        "logged": progress.logged,
        "updated": state.updated or None,
        "host": state.host,
        "job": state.job,
        "failure": state.failure.to_json() if state.failure else {"message": failure(cell)} if cell.problem else None,
    }


def _finite(value: float | None) -> float | str | None:
    """A number of JSON; what is none of them is given as a word, as in `metrics.jsonl`."""
    return value if value is None or math.isfinite(value) else str(value)
