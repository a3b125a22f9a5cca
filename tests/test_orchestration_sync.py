"""What W&B lacks is sent later, each step once; without a login or a server nothing is lost and one line is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flanscale.config.compose import Composer, save
from flanscale.orchestration.keeping import sync
from flanscale.orchestration.running.claim import RUN, claim
from flanscale.orchestration.running.liveness import this_process
from flanscale.run_directory import RunState, write_state

FAKE = Path(__file__).parent / "fake_wandb"
CELL = Composer().compose(["tracker=disabled", "model=nano", "tracker.project=scaling", "tracker.group=study"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose W&B is the fake one, with a login."""
    (tmp_path / "server").mkdir()
    for name in (*sync.LOGIN_VARIABLES, "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    monkeypatch.setenv("FAKE_WANDB", str(tmp_path / "server"))
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_run(folder: Path, name: str, state: str = "finished", steps: tuple[int, ...] = (0, 10, 20, 20)) -> Path:
    run_dir = folder / "runs" / name
    run_dir.mkdir(parents=True)
    save(CELL, run_dir)
    write_state(run_dir, RunState(state=state, attempt=1))
    log(run_dir, *steps)
    return run_dir


def log(run_dir: Path, *steps: int) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        for number, step in enumerate(steps):
            file.write(json.dumps({"step": step, "attempt": 1, "time": 5.0 + step, f"key{number}": "nan"}) + "\n")


def flanscale(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flanscale.cli.main", "sync", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)


def records(folder: Path, run: str) -> list[dict[str, Any]]:
    file = folder / "server" / f"{run}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def sent(folder: Path, run: str) -> list[int]:
    return [record["log"]["step"] for record in records(folder, run) if "log" in record]


def test_a_run_that_was_never_mirrored_is_made_anew_and_only_once(folder: Path) -> None:
    a_run(folder, "aaa-one")
    first = flanscale()
    assert first.stdout.splitlines() == ["0 runs are complete at W&B, 1 are not", "✔ aaa-one: 3 steps to scaling"]
    init, zero, _, twenty, finish = records(folder, "aaa")
    assert (init["init"]["id"], init["init"]["name"], init["init"]["group"]) == ("aaa", "aaa-one", "study")
    assert zero["log"]["values"]["_timestamp"] == 5.0
    assert twenty["log"]["values"].keys() == {"key2", "key3", "_timestamp"}
    assert finish == {"finish": 0}

    before = records(folder, "aaa")
    assert flanscale("aaa").stdout == "1 runs are complete at W&B, 0 are not\n"
    assert records(folder, "aaa") == before


def test_a_run_that_went_on_is_continued_where_w_and_b_stopped(folder: Path) -> None:
    run_dir = a_run(folder, "aaa-one", state="failed", steps=(10, 20))
    flanscale()
    assert sent(folder, "aaa") == [10], "the run may log more at its newest step"
    (run_dir / "wandb" / "sent.json").unlink()  # what W&B itself has is found without it
    log(run_dir, 20, 30)
    write_state(run_dir, RunState(state="finished", attempt=2))
    flanscale()
    assert sent(folder, "aaa") == [10, 20, 30]


def test_another_project_gets_all_of_it(folder: Path) -> None:
    run_dir = a_run(folder, "aaa-one")
    flanscale()
    done = flanscale("--project", "team/copy", "--dry-run")
    assert "aaa-one: 3 steps to team/copy" in done.stdout
    assert json.loads((run_dir / "wandb" / "sent.json").read_text())["next_step"] == {"scaling": "inf"}


def test_without_a_login_it_says_what_it_would_send(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(folder, "aaa-one")
    monkeypatch.delenv("WANDB_API_KEY")
    done = flanscale()
    assert done.returncode == 0
    assert "aaa-one: 3 steps to scaling" in done.stdout
    assert "nothing was sent: no W&B login here" in done.stdout
    assert records(folder, "aaa") == []


def test_a_refused_login_is_one_line_and_notes_nothing(folder: Path) -> None:
    run_dir = a_run(folder, "aaa-one")
    (folder / "server" / "locked").touch()
    done = flanscale()
    assert (done.returncode, done.stderr) == (2, "flanscale: W&B, at aaa-one: no key\n")
    assert not (run_dir / "wandb" / "sent.json").exists()


def test_a_server_that_is_away_is_tried_a_few_times_and_what_arrived_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [a_run(folder, "aaa-one"), a_run(folder, "bbb-two")]
    flanscale("aaa")
    (folder / "server" / "away").touch()
    monkeypatch.setattr(sync, "FIRST_BACKOFF_SECONDS", 0.0)
    parcels = [sync.parcel(run, None, lambda: None) for run in runs]
    lacking = [parcel for parcel in parcels if parcel and not parcel.complete]
    assert [parcel.run_dir.name for parcel in lacking] == ["bbb-two"]
    with pytest.raises(ValueError, match="bbb-two: connection refused; the same command goes on later"):
        sync.send(lacking, lambda parcel: pytest.fail("nothing was sent"))
    (folder / "server" / "away").unlink()
    flanscale()
    assert (sent(folder, "aaa"), sent(folder, "bbb")) == ([0, 10, 20], [0, 10, 20])


def test_a_run_that_is_going_on_is_left_to_itself(folder: Path) -> None:
    run_dir = a_run(folder, "aaa-one")
    me = this_process()
    write_state(run_dir, RunState().running(host=me.host, pid=me.pid, process_started=me.started))
    with claim(run_dir, RUN):
        assert sync.parcel(run_dir, None, lambda: None) is None


def test_a_damaged_run_is_named_and_the_others_are_sent(folder: Path) -> None:
    a_run(folder, "aaa-one")
    (a_run(folder, "bbb-two") / "metrics.jsonl").write_text("rubbish\n")
    (a_run(folder, "ccc-three") / "config.yaml").write_text("trainer: [")
    done = flanscale()
    assert done.returncode == 1
    assert "✘ bbb-two:" in done.stdout
    assert "metrics.jsonl:1 cannot be read (JSONDecodeError" in done.stdout
    assert "✘ ccc-three:" in done.stdout
    assert sent(folder, "aaa") == [0, 10, 20]


def test_a_name_that_is_neither_study_nor_run_is_one_line(folder: Path) -> None:
    done = flanscale("nonsense")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line) == (
        2,
        "flanscale: no study 'nonsense' in studies/; nonsense: no such run among the 0 of runs/",
    )


def test_the_login_is_found_without_being_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sync.login() == "WANDB_API_KEY"
    monkeypatch.delenv("WANDB_API_KEY")
    assert sync.login() is None
    netrc = folder / "netrc"
    netrc.write_text("machine api.wandb.ai login user password hunter2\n")
    assert sync.login() == str(netrc)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert sync.login() is None
