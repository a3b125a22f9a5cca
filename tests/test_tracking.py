"""The log: every row is there after a kill, once, and W&B holds the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.run_directory import METRICS_FILE, read_rows
from flanscale.tracking.keys import eval_key
from flanscale.tracking.tracker import Tracker

CONFIG = Composer().compose(["tracker=disabled"])


def test_rows_are_on_disk_as_soon_as_they_are_logged(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, CONFIG, run_id="x", attempt=1)
    tracker.log(10, {"train/loss": 2.5})
    (row,) = read_rows(tmp_path)  # before close
    assert (row["step"], row["attempt"], row["train/loss"]) == (10, 1, 2.5)
    tracker.close()


def test_a_resumed_attempt_repeats_no_row_and_mends_a_torn_one(tmp_path: Path) -> None:
    first = Tracker(tmp_path, CONFIG, run_id="x", attempt=1)
    first.log(10, {"train/loss": 2.5})
    first.log(20, {"train/loss": 2.0})
    path = tmp_path / METRICS_FILE
    path.write_bytes(path.read_bytes() + b'{"step": 30, "att')
    assert [row["step"] for row in read_rows(tmp_path)] == [10, 20]

    second = Tracker(tmp_path, CONFIG, run_id="x", attempt=2)
    for step in (20, 30):
        second.log(step, {"train/loss": 1.0})
    second.log(30, {eval_key("b", "direct", "score"): 50.0})
    second.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["step"], row["attempt"]) for row in rows] == [(10, 1), (20, 1), (30, 2), (30, 2)]
    assert rows[1]["train/loss"] == 2.0


def test_non_finite_numbers_keep_the_file_valid_json(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, CONFIG, run_id="x", attempt=1)
    tracker.log(1, {"train/loss": float("nan")})
    tracker.close()
    (row,) = read_rows(tmp_path)
    assert row["train/loss"] == "nan"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(ConfigError, match=r"metrics.jsonl:2 cannot be read \(JSONDecodeError"):
        read_rows(tmp_path)


def test_the_log_tells_the_loss_now_and_then_the_last_one_always_and_the_scores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flanscale.tracking.spoken")
    steps = CONFIG.trainer.steps
    tracker = Tracker(tmp_path, CONFIG, run_id="x", attempt=1)
    for step in (1, 2, steps):
        tracker.log(step, {"train/loss": 2.0, "train/tokens_per_second": 1234.0})
    scores = {"eval/a/direct/score": 12.5, "eval/a/direct/stderr": 1.25}
    tracker.log(steps, scores | {"eval/normalized_average": 12.5, "eval/normalized_average_stderr": 1.25})
    tracker.close()
    assert caplog.messages == [
        f"step 1 of {steps}: loss 2.000, 1,234 tokens/s",
        f"step {steps} of {steps}: loss 2.000, 1,234 tokens/s",
        "a/direct: 12.5 ± 1.2",
        "score: 12.5 ± 1.2",
    ]
