"""What has a run logged lately? Reads the end of its `metrics.jsonl`, and no more of it than the answer needs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.run_directory import METRICS_FILE
from flanscale.tracking.keys import AVERAGE, BEST_AVERAGE

END_BYTES = 4_096  # holds the newest rows of most runs
TAIL_BYTES = 65_536  # searched for what is not in them
LONGEST_ROW_BYTES = 1_048_576


@dataclass(frozen=True)
class Progress:
    """The newest value of each thing that people watch."""

    step: int | None = None
    loss: float | None = None  # nats per target token; NaN where no step was finite
    tokens_per_second: float | None = None
    mfu: float | None = None  # of the chip's peak, 0 to 1
    score: float | None = None  # eval/normalized_average, or that of the checkpoint that a suite chose, percent
    stderr: float | None = None  # its standard error, points
    steps_per_second: float | None = None  # of the present attempt, over the newest rows
    logged: float | None = None  # when the newest row was, seconds since the epoch


def read_progress(run_dir: Path) -> Progress:
    """The newest values in the last rows of a run's metrics; all None before the first row.

    A torn line, and one that is no row, is passed over.

    Raises:
        OSError: there are metrics, and they cannot be read.
    """
    try:
        descriptor = os.open(run_dir / METRICS_FILE, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return Progress()
    try:
        return _progress(_Tail(descriptor))
    finally:
        os.close(descriptor)


def _progress(tail: _Tail) -> Progress:
    last = tail.newest("step")
    if last is None:
        return Progress()
    train, speed = tail.newest("train/loss"), tail.newest("train/tokens_per_second")
    flops, score, average = tail.newest("train/mfu", beyond=speed is None), tail.newest(AVERAGE), AVERAGE
    if score is None:
        average = BEST_AVERAGE
        score = tail.newest(average)
    step = last["step"]
    return Progress(
        step=step if isinstance(step, int) else None,
        loss=_number(train, "train/loss"),
        tokens_per_second=_number(speed, "train/tokens_per_second"),
        mfu=_number(flops, "train/mfu"),
        score=_number(score, average),
        stderr=_number(score, f"{average}_stderr"),
        steps_per_second=_pace(tail.oldest("train/loss", last.get("attempt")), train),
        logged=_number(last, "time"),
    )


def _number(row: dict[str, Any] | None, key: str) -> float | None:
    """A value of a row; non-finite numbers are logged as words."""
    value = (row or {}).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _pace(first: dict[str, Any] | None, last: dict[str, Any] | None) -> float | None:
    """Steps per second between two rows of one attempt; None where a clock has jumped between them."""
    if first is None or last is None:
        return None
    numbers = [_number(row, key) for key in ("step", "time") for row in (first, last)]
    if any(number is None for number in numbers):
        return None
    begun, reached, began, ended = (number or 0.0 for number in numbers)
    return (reached - begun) / (ended - began) if ended > began and reached > begun else None


class _Tail:
    """The last whole lines of a file, more of them only when they are asked for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._end = self._read(END_BYTES)
        self._all = self._end if self._size <= END_BYTES else None
        self._rows: dict[bytes, dict[str, Any]] = {}

    def newest(self, key: str, beyond: bool = True) -> dict[str, Any] | None:
        """The newest row that has a key; `beyond` looks further back than the last few rows."""
        row = self._search(self._end, key)
        return self._search(self._further(), key) if row is None and beyond else row

    def oldest(self, key: str, attempt: Any) -> dict[str, Any] | None:
        """The oldest of the last few rows that has a key and is of this attempt."""
        name = _quoted(key)
        for line in self._end.splitlines():
            if name in line and (row := self._parsed(line)) and key in row and row.get("attempt") == attempt:
                return row
        return None

    def _search(self, block: bytes, key: str) -> dict[str, Any] | None:
        name, before = _quoted(key), len(block)
        while (place := block.rfind(name, 0, before)) >= 0:
            start = block.rfind(b"\n", 0, place) + 1
            row = self._parsed(block[start : block.index(b"\n", place)])
            if row and key in row:
                return row
            before = start
        return None

    def _parsed(self, line: bytes) -> dict[str, Any]:
        if line not in self._rows:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            self._rows[line] = row if isinstance(row, dict) else {}
        return self._rows[line]

    def _further(self) -> bytes:
        if self._all is None:
            self._all = self._read(TAIL_BYTES)
            if not self._all and self._size > TAIL_BYTES:
                self._all = self._read(LONGEST_ROW_BYTES)
        return self._all

    def _read(self, size: int) -> bytes:
        """The whole lines in the last `size` bytes."""
        start = max(0, self._size - size)
        block = os.pread(self._descriptor, self._size - start, start)
        first = block.find(b"\n") + 1 if start else 0
        return block[first : block.rfind(b"\n") + 1]


def _quoted(key: str) -> bytes:
    return b'"%s"' % key.encode()
