"""What the reader of offline W&B files promises, on files that W&B really wrote."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import write_study

from analysis import sources
from analysis.runs import table
from flanscale.run_directory import read_rows
from flanscale.tracking import wandb_log

PLAIN = pytest.mark.filterwarnings("error")

ATTEMPT = """
import json, sys
from pathlib import Path
from typing import Any
from flanscale.schema import RunConfig
from flanscale.tracking.tracker import Tracker
run_dir, cell, attempt, code = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = RunConfig()
config.tracker.group, config.model.name, config.mixture.count = "quickstart", "nano", 9
config.trainer.steps = 1000
tracker = Tracker(run_dir, config, run_id=cell, attempt=attempt)
for row in json.load(sys.stdin):
    tracker.log(row.pop("step"), row)
tracker.close(exit_code=code)
"""


def log(run_dir: Path, cell: str, attempt: int, rows: list[dict[str, Any]], exit_code: int = 0) -> None:
    """Log rows as a run does, to metrics.jsonl and W&B, in a process of its own as an attempt is."""
    environment = os.environ | {"WANDB_MODE": "offline", "HOME": str(run_dir)}
    command = [sys.executable, "-c", ATTEMPT, str(run_dir), cell, str(attempt), str(exit_code)]
    subprocess.run(command, input=json.dumps(rows), text=True, check=True, env=environment, capture_output=True)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two cells, really logged; the second by two attempts, the first of which fails after three rows."""
    root = tmp_path_factory.mktemp("mirrored")
    index = write_study(root, axes={"mixture.count": [9, 89], "seed": [0]}, records=False)
    for number, point in enumerate(json.loads(index.read_text())["points"]):
        run_dir = root / "runs" / point["run"]
        rows = sources.merged(read_rows(run_dir))
        rows[1] |= {"train/loss": math.nan, "train/tokens": 10**12 + 1}
        (run_dir / "metrics.jsonl").unlink()
        if number == 1:
            log(run_dir, point["cell"], 1, rows[:3], exit_code=1)
        log(run_dir, point["cell"], 1 + number, rows)
    return index


def test_the_mirror_tells_the_same_as_the_run_directory(mirrored: Path) -> None:
    directories, mirror = sources.from_directories(mirrored), sources.from_wandb_files(mirrored)
    for cell, record in directories.records.items():
        run_dir = next(directories.folder / point.run for point in directories.points if point.cell == cell)
        history = sources.merged(read_rows(run_dir))
        assert sources.merged(wandb_log.read_run(wandb_log.find_logs(run_dir)).history) == history
        assert len(history) > 10
        assert (mirror.records[cell].last, mirror.records[cell].losses) == (record.last, record.losses)
        assert mirror.records[cell].state == record.state == "finished"
        assert mirror.records[cell].config["model"]["name"] == "nano"
    numbers = ["score", "stderr", "normalized"]
    assert table(mirror)[numbers].equals(table(directories)[numbers])


def test_attempts_of_one_run_are_merged_and_the_link_to_the_latest_is_not_counted(mirrored: Path) -> None:
    study = sources.from_directories(mirrored)
    point = study.points[1]
    logs = wandb_log.find_logs(study.folder / point.run)
    assert len(logs) == 2
    run = wandb_log.read_run(list(reversed(logs)))
    assert (run.id, run.group, run.exit_code) == (point.cell, "quickstart", 0)
    steps = [row["_step"] for row in run.history]
    assert steps == sorted(set(steps))


def test_a_run_without_a_mirror_is_missing(tmp_path: Path) -> None:
    study = sources.from_wandb_files(write_study(tmp_path, records=False))
    assert {record.state for record in study.records.values()} == {"missing"}


def test_files_of_different_runs_are_not_merged(mirrored: Path) -> None:
    study = sources.from_directories(mirrored)
    logs = [wandb_log.find_logs(study.folder / point.run)[0] for point in study.points]
    with pytest.raises(ValueError, match="expected the W&B files of one run"):
        wandb_log.read_run(logs)


def chunks(payloads: list[bytes]) -> bytes:
    """A log of whole records in the format that the reader documents, written independently of it."""
    out = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for payload in payloads:
        left, first = payload, True
        while True:
            room = 32768 - len(out) % 32768
            if room < 7:
                out += b"\0" * room
                room = 32768
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if first else 4) if not left else (2 if first else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not left:
                break
    return bytes(out)


RECORDS = [bytes([65 + i]) * size for i, size in enumerate([10, 32754 - 24, 5, 100_000, 0, 70_000, 3])]


@PLAIN
def test_records_across_blocks_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(chunks(RECORDS))
    assert list(wandb_log.records(path)) == RECORDS


@PLAIN
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99999])
def test_a_torn_tail_costs_only_the_record_that_was_being_written(tmp_path: Path, kept: float) -> None:
    path, whole = tmp_path / "run-x.wandb", chunks(RECORDS)
    path.write_bytes(whole[: int(kept * len(whole))])
    found = list(wandb_log.records(path))
    assert found == RECORDS[: len(found)]
    assert len(found) < len(RECORDS)


def test_a_damaged_block_is_skipped_with_a_warning(tmp_path: Path) -> None:
    path, damaged = tmp_path / "run-x.wandb", bytearray(chunks(RECORDS))
    damaged[40_000] ^= 255  # inside the long fourth record
    path.write_bytes(damaged)
    with pytest.warns(UserWarning, match="damaged at byte"):
        found = list(wandb_log.records(path))
    assert found == RECORDS[:3] + RECORDS[4:]


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_text("hello")
    with pytest.raises(ValueError, match="not a W&B log"):
        list(wandb_log.records(path))


def test_a_log_that_ends_without_goodbye_is_unfinished(mirrored: Path, tmp_path: Path) -> None:
    study = sources.from_directories(mirrored)
    [file] = wandb_log.find_logs(study.folder / study.points[0].run)
    whole = file.read_bytes()
    cut = tmp_path / file.name
    with warnings.catch_warnings(action="error"):
        cut.write_bytes(whole[: len(whole) // 2])
        run = wandb_log.read_run([cut])
    assert run.exit_code is None
    assert 0 < len(run.history) < len(wandb_log.read_run([file]).history)
