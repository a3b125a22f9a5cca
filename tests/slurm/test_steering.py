"""On a real Slurm: what waits is taken out, what runs saves and is not requeued, and retrying goes on from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from little_study import attempts, wait_until
from steering import Steering

from flanscale.orchestration.running import slurm
from flanscale.run_directory import read_state

pytestmark = pytest.mark.slurm
ALL = ("cluster=slurm", "cluster.cpus=1", "cluster.gpus=0", "cluster.timeout_minutes=60", "mixture.count=9")


@pytest.fixture
def steering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steering:
    return Steering(tmp_path, monkeypatch, capsys)


def test_queued_cells_are_planned_again_and_a_running_one_saves_stays_out_and_goes_on_when_retried(
    steering: Steering,
) -> None:
    place = steering.place
    launched = place.launched("--no-wait", "little", *ALL, "seed=0,1,2", "trainer.steps=400", "cluster.parallelism=1")
    assert launched.returncode == 0, launched.stderr
    wait_until(lambda: any((run / "checkpoint").exists() for run in place.runs()))
    (running,) = (run for run in place.runs() if (run / "checkpoint").exists())
    job = read_state(running).job

    (waiting,) = json.loads(steering.type("cancel", "little", "--state", "queued", "--json")[1])
    assert len(waiting["queued_jobs"]) == 2
    assert sorted(place.statuses().values()) == ["planned", "planned", "running"]
    assert place.runs() == [running]
    assert {known for known in slurm.known_jobs() or () if known.split("_")[0] == str(job).split("_")[0]} == {job}

    out = steering.type("cancel", running.name)[1]
    assert out.startswith("1 cell running in Slurm: saving a checkpoint, preempted then, and not requeued\n")
    wait_until(lambda: job not in (slurm.known_jobs() or ()))
    stopped = read_state(running)
    assert (stopped.state, stopped.attempt) == ("preempted", 1)
    assert steering.type("cancel", "little")[1].startswith("3 cells waiting or stopped")

    code, out, _ = steering.type("retry", "little", "--wait", "cluster.timeout_minutes=30")
    assert out.startswith("starts 1 cell again (1 preempted); leaves 2: 2 not begun; `flanscale launch` starts it\n")
    assert code == 0
    first, second = attempts(running)
    assert second.first_step == first.last_step
    assert (read_state(running).state, read_state(running).attempt) == ("finished", 2)
    assert read_state(running).job != job
