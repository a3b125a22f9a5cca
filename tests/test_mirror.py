"""W&B online: every step arrives once and in order; a server that is away costs a warning and nothing else."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from little_study import wait_until

from flanscale.config.compose import Composer
from flanscale.run_directory import read_rows
from flanscale.schema import RunConfig
from flanscale.tracking import mirror, wandb_run
from flanscale.tracking.tracker import Tracker

FAKE = Path(__file__).parent / "fake_wandb"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a fake W&B server, which processes started from here talk to."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("FAKE_WANDB", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    return folder


def cell(*overrides: str) -> RunConfig:
    return Composer().compose(["tracker=online", "model=nano", *overrides])


def a_run(tmp_path: Path) -> Path:
    run_dir = tmp_path / "0123456789-a-run"
    run_dir.mkdir()
    return run_dir


def records(server: Path, kind: str) -> list[Any]:
    file = server / "0123456789.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [record[kind] for record in map(json.loads, lines) if kind in record]


def steps(server: Path) -> dict[int, dict[str, Any]]:
    found = [(record["step"], record["values"]) for record in records(server, "log")]
    assert len(dict(found)) == len(found), "a step was sent twice"
    return dict(found)


def test_rows_arrive_step_by_step_with_what_describes_the_run(tmp_path: Path, server: Path) -> None:
    run_dir = a_run(tmp_path)
    config = cell("tracker.group=study", "tracker.tags=[pilot,t5]", "tracker.notes=why", "tracker.project=scaling")
    config.cluster.environment = {"SERVICE_TOKEN": "hunter2"}
    tracker = Tracker(run_dir, config, run_id="0123456789", attempt=1)
    tracker.log(0, {"mixture/tasks": 9})
    tracker.log(10, {"train/loss": float("nan")})
    tracker.log(20, {"train/loss": 1.5})
    tracker.log(20, {"eval/b/direct/score": 50.0})
    tracker.close(exit_code=0)

    (told,) = records(server, "init")
    assert (told["id"], told["name"], told["project"]) == ("0123456789", run_dir.name, "scaling")
    assert (told["group"], told["job_type"], told["tags"], told["notes"]) == (
        "study",
        "finetune",
        ["pilot", "t5"],
        "why",
    )
    assert told["config"]["cluster"]["environment"] == {"SERVICE_TOKEN": "***"}
    sent = steps(server)
    assert list(sent) == [0, 10, 20]
    assert sent[10]["train/loss"] != sent[10]["train/loss"], "not a number again"
    assert (sent[20]["train/loss"], sent[20]["eval/b/direct/score"]) == (1.5, 50.0)
    assert sent[20]["_timestamp"] == read_rows(run_dir)[-1]["time"]
    assert records(server, "finish") == [0]


def test_a_stopped_attempt_leaves_its_newest_step_to_the_next_one(tmp_path: Path, server: Path) -> None:
    run_dir = a_run(tmp_path)
    first = Tracker(run_dir, cell(), run_id="0123456789", attempt=1)
    for step in (10, 20):
        first.log(step, {"train/loss": 1.0})
    first.close(exit_code=1)
    assert list(steps(server)) == [10]

    second = Tracker(run_dir, cell(), run_id="0123456789", attempt=2)
    second.log(20, {"eval/b/direct/score": 50.0})
    second.close(exit_code=0)
    assert list(steps(server)) == [10, 20]
    assert steps(server)[20].keys() >= {"train/loss", "eval/b/direct/score"}


def test_a_server_that_is_away_costs_one_warning_and_no_row(
    tmp_path: Path, server: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (server / "away").touch()
    monkeypatch.setattr(wandb_run, "CONNECT_SECONDS", 0.1)
    run_dir = a_run(tmp_path)
    words = run_dir / "wandb" / mirror.LOG_FILE
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(run_dir, cell(), run_id="0123456789", attempt=1)
        tracker.log(10, {"train/loss": 1.0})
        wait_until(lambda: words.read_text().count(mirror.AWAY) > 1)
        for step in (20, 30):
            tracker.log(step, {"train/loss": 1.0})
        tracker.close(exit_code=0)
    assert [row["step"] for row in read_rows(run_dir)] == [10, 20, 30]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == f"W&B: connection refused; send what is missing there later: flanscale sync {run_dir}"
    assert steps(server) == {}


def test_a_server_that_comes_back_gets_everything(
    tmp_path: Path, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server / "away").touch()
    monkeypatch.setattr(wandb_run, "CONNECT_SECONDS", 0.1)
    run_dir = a_run(tmp_path)
    words = run_dir / "wandb" / mirror.LOG_FILE
    tracker = Tracker(run_dir, cell(), run_id="0123456789", attempt=1)
    tracker.log(10, {"train/loss": 1.0})
    wait_until(lambda: mirror.AWAY in words.read_text())
    (server / "away").unlink()
    wait_until(lambda: mirror.CONNECTED in words.read_text())
    tracker.log(20, {"train/loss": 1.0})
    tracker.close(exit_code=0)
    assert list(steps(server)) == [10, 20]


def test_a_refused_login_ends_the_sending_at_once(
    tmp_path: Path, server: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (server / "locked").touch()
    run_dir = a_run(tmp_path)
    tracker = Tracker(run_dir, cell(), run_id="0123456789", attempt=1)
    tracker.log(10, {"train/loss": 1.0})
    tracker.close(exit_code=0)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == ["W&B: no key"]
    assert len(read_rows(run_dir)) == 1


def test_the_sender_outlives_a_killed_run_only_to_send_what_is_there(tmp_path: Path, server: Path) -> None:
    run_dir = a_run(tmp_path)
    program = (
        "import sys, time; from pathlib import Path\n"
        "from flanscale.tracking.tracker import Tracker; from test_mirror import cell\n"
        "tracker = Tracker(Path(sys.argv[1]), cell(), run_id='0123456789', attempt=1)\n"
        "for step in (10, 20, 30): tracker.log(step, {'train/loss': 1.0})\n"
        "time.sleep(60)"
    )
    path = os.pathsep.join([str(FAKE), str(Path(__file__).parent)])
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(run_dir)], env=os.environ | {"PYTHONPATH": path}, process_group=0
    )
    wait_until(lambda: records(server, "init"))
    os.killpg(run.pid, signal.SIGKILL)  # as a terminal or a scheduler ends all of a job
    run.wait()
    wait_until(lambda: records(server, "finish"))
    assert list(steps(server)) == [10, 20]
    assert records(server, "finish") == [1]


def test_the_real_library_at_a_closed_port_neither_stops_nor_holds_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_run, "CONNECT_SECONDS", 1.0)
    run_dir = a_run(tmp_path)
    words = run_dir / "wandb" / mirror.LOG_FILE
    tracker = Tracker(run_dir, cell(), run_id="0123456789", attempt=1)
    tracker.log(10, {"train/loss": 1.0})
    wait_until(lambda: mirror.AWAY in words.read_text())
    tracker.close(exit_code=0)
    assert len(read_rows(run_dir)) == 1
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["W&B"]


def test_projects_of_two_servers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wandb_run.target("p", "team") == "team/p"
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:secret@wandb.example.org:8443")
    assert wandb_run.target("p", "team") == "wandb.example.org:8443/team/p"
