"""What has a run logged lately? Reads the end of its `metrics.jsonl`, whatever its length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
TAIL_BYTES = 65_536


@dataclass(frozen=True)
class Progress:
    """The newest value of each thing that people watch."""

    step: int | None = None
    loss: float | None = None  # nats per target token
    tokens_per_second: float | None = None
    score: float | None = None  # eval/normalized_average, percent
    stderr: float | None = None  # its standard error, points


def read_progress(run_dir: Path) -> Progress:
    """The newest values in the last rows of a run's metrics; all None before the first row."""
    newest: dict[str, Any] = {}
    for row in _tail(run_dir / METRICS_FILE):
        for key, value in row.items():
            newest.setdefault(key, value)
    return Progress(
        step=newest.get("step"),
        loss=newest.get("train/loss"),
        tokens_per_second=newest.get("train/tokens_per_second"),
        score=newest.get("eval/normalized_average"),
        stderr=newest.get("eval/normalized_average_stderr"),
    )


def _tail(path: Path) -> Iterator[dict[str, Any]]:
    """The last rows of a file of JSON lines, newest first; a torn line is no row."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
