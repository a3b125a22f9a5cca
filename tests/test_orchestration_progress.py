"""The newest logged values are found at the end of a run's metrics, however long and however damaged."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from flanscale.orchestration.running.progress import TAIL_BYTES, Progress, read_progress


def write(run: Path, *rows: dict[str, Any], end: bytes = b"") -> Path:
    (run / "metrics.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + end)
    return run


def test_each_value_is_the_newest_of_its_kind(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"step": 10, "attempt": 1, "time": 100.0, "train/loss": 3.0, "train/tokens_per_second": 5.0, "train/mfu": 0.5},
        {"step": 20, "attempt": 1, "time": 120.0, "train/loss": 2.0, "train/tokens_per_second": 6.0, "train/mfu": 0.4},
        {"step": 20, "attempt": 1, "time": 121.0, "validation/loss": 9.0},
        {"step": 30, "attempt": 1, "time": 130.0, "eval/normalized_average": 7.0, "eval/normalized_average_stderr": 1},
    )
    assert read_progress(tmp_path) == Progress(
        step=30,
        loss=2.0,
        tokens_per_second=6.0,
        mfu=0.4,
        score=7.0,
        stderr=1.0,
        steps_per_second=0.5,
        logged=130.0,
    )


def test_a_torn_last_line_is_no_row_even_where_what_is_left_of_it_is_json(tmp_path: Path) -> None:
    write(tmp_path, {"step": 1, "train/loss": 3.0}, end=b'{"step": 2, "train/loss": 2.0}')
    assert read_progress(tmp_path) == Progress(step=1, loss=3.0)


@pytest.mark.parametrize(
    "line", [b"[1]", b"7", b"\0\0\0", b'{"step": 3, "train/lo', b'{"note": "\\"train/loss\\" \\"step\\""}', b"[" * 9999]
)
def test_a_line_that_is_no_row_is_passed_over(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, {"step": 1, "train/loss": 3.0}, end=line + b"\n")
    assert read_progress(tmp_path) == Progress(step=1, loss=3.0)


def test_a_loss_that_is_not_finite_is_shown_as_such(tmp_path: Path) -> None:
    progress = read_progress(write(tmp_path, {"step": 1, "train/loss": 3.0}, {"step": 2, "train/loss": "nan"}))
    assert progress.step == 2
    assert progress.loss is not None
    assert math.isnan(progress.loss)


def test_values_of_the_wrong_kind_are_not_known(tmp_path: Path) -> None:
    write(tmp_path, {"step": "two", "train/loss": [1], "train/tokens_per_second": True, "train/mfu": "fast"})
    assert read_progress(tmp_path) == Progress()


@pytest.mark.parametrize("times", [(100.0, 90.0), (100.0, 100.0), (100.0, None)])
def test_there_is_no_pace_where_the_clock_has_jumped(tmp_path: Path, times: tuple[Any, Any]) -> None:
    rows = [{"step": step, "attempt": 1, "time": at, "train/loss": 1.0} for step, at in zip((1, 2), times, strict=True)]
    assert read_progress(write(tmp_path, *rows)).steps_per_second is None


def test_the_pace_is_of_the_present_attempt(tmp_path: Path) -> None:
    times = [(1, 1, 0.0), (2, 1, 1.0), (3, 2, 1000.0), (4, 2, 1010.0)]
    write(tmp_path, *({"step": s, "attempt": a, "time": t, "train/loss": 1.0} for s, a, t in times))
    assert read_progress(tmp_path).steps_per_second == pytest.approx(0.1)


def test_of_a_large_file_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        read.append(size)
        return original(descriptor, size, offset)

    original = os.pread
    monkeypatch.setattr(os, "pread", pread)
    row = json.dumps({"step": 1, "train/loss": 2.0, "padding": "x" * 100}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(row * 100_000 + '{"step": 7, "train/loss": 1.0}\n')
    assert read_progress(tmp_path) == Progress(step=7, loss=1.0)
    assert sum(read) <= 2 * TAIL_BYTES


def test_a_last_row_longer_than_the_tail_is_still_found(tmp_path: Path) -> None:
    write(tmp_path, {"step": 1, "train/loss": 2.0}, {"step": 5, "members": ["x" * 1000] * 200})
    assert read_progress(tmp_path).step == 5


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\0" * 5_000_000])
def test_before_the_first_row_nothing_is_known(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_bytes(content)
    assert read_progress(tmp_path) == Progress()
    assert read_progress(tmp_path / "nowhere") == Progress()


def test_where_a_suite_chose_its_checkpoint_the_score_is_that_checkpoints(tmp_path: Path) -> None:
    chosen = {"eval/normalized_average@best_checkpoint": 9.0, "eval/normalized_average@best_checkpoint_stderr": 2.0}
    write(tmp_path, {"step": 30, **chosen})
    assert (read_progress(tmp_path).score, read_progress(tmp_path).stderr) == (9.0, 2.0)
    write(tmp_path, {"step": 30, "eval/normalized_average": 7.0}, {"step": 30, **chosen})
    assert read_progress(tmp_path).score == 7.0
