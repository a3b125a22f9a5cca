"""A Slurm job of several cells: each by itself, so many at once, and what is left goes back with the job, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, open_slurm
from little_study import PATH_OF_PROCESSES, Workplace, attempts, begun, kill, open_workplace, wait_until

from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.running import child, worker
from flanscale.orchestration.running.liveness import look
from flanscale.orchestration.running.sharing import visible_gpus
from flanscale.orchestration.running.withheld import withhold
from flanscale.run_directory import read_state, write_state

JOB = "77"
OF_THE_JOB = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": JOB}
PAYLOAD = """
import sys
from flanscale.orchestration.running import worker
worker.MARK_SECONDS = 0.1
worker.start_several(sys.argv[1:], "fake_cells")
"""
NOSY = """
import json, os
def run(config, run_dir, **_):
    (run_dir / "seen").write_text(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("PYTHONPATH", PATH_OF_PROCESSES)
    return open_workplace(tmp_path, monkeypatch)


@pytest.fixture
def slurm(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """It says of every job that it runs, and takes notes of what is put back."""
    fake = open_slurm(place.folder / "bin", monkeypatch)
    (fake.folder / "squeue").write_text('#!/bin/sh\ncase "$*" in *%T*) echo RUNNING;; *) echo 77 None;; esac\n')
    return fake


def queued(place: Workplace, *overrides: str, at_once: int = 1, job: str = JOB) -> list[Path]:
    """The run directories of a study whose cells are all given to one job."""
    shared = ("cluster=slurm", "cluster.gpus=0", "cluster.cells_per_job=9", f"cluster.cells_at_once={at_once}")
    runs = [create_run_dir(cell.config) for cell in place.plan(*shared, *overrides).cells]
    for run in runs:
        write_state(run, read_state(run).queued(host="login", pid=1, process_started=0.0, job=job))
    return runs


def start(runs: list[Path]) -> subprocess.Popen[str]:
    """The job, as Slurm starts it."""
    environment = os.environ | OF_THE_JOB
    return subprocess.Popen(
        [sys.executable, "-c", PAYLOAD, *map(str, runs)], env=environment, stdout=subprocess.PIPE, text=True
    )


def states(runs: list[Path]) -> list[str]:
    return [read_state(run).state for run in runs]


def put_back(slurm: FakeSlurm) -> int:
    asked = slurm.folder / "asked.scontrol"
    return asked.read_text().count(f"requeue {JOB}") if asked.exists() else 0


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_cell_has_one_attempt_and_no_more_run_at_once_than_asked_for(
    place: Workplace, slurm: FakeSlurm, at_once: int
) -> None:
    runs = queued(place, at_once=at_once)
    assert start(runs).wait() == 0
    assert states(runs) == ["finished"] * 4
    assert {read_state(run).job for run in runs} == {JOB}
    (lives,) = zip(*(attempts(run) for run in runs), strict=True)
    overlaps = [sum(a.began <= b.began < (a.ended or 0.0) for a in lives) for b in lives]
    assert max(overlaps) <= at_once
    assert put_back(slurm) == 0


def test_a_cell_that_fails_or_is_killed_costs_the_others_nothing(place: Workplace, slurm: FakeSlurm) -> None:
    runs = queued(place, "seed=0,91", "trainer.steps=100", at_once=4)
    work = start(runs)
    wait_until(lambda: begun(runs[0]))
    kill(attempts(runs[0])[0].pid)
    assert work.wait() == 1
    failures = [read_state(run).failure for run in runs]
    assert [failure and failure.kind for failure in failures] == ["interrupted", "data", None, "data"]
    assert failures[0] is not None
    assert failures[0].message == "its process was ended by SIGKILL"
    assert put_back(slurm) == 0


def test_a_job_that_is_stopped_goes_back_once_and_goes_on_with_what_is_left(place: Workplace, slurm: FakeSlurm) -> None:
    runs = queued(place, "trainer.steps=100", at_once=2)
    work = start(runs)
    wait_until(lambda: all((run / "checkpoint").exists() for run in runs[:2]))
    work.send_signal(signal.SIGUSR2)
    assert work.wait() == 75
    assert states(runs) == ["preempted", "preempted", "queued", "queued"]
    assert put_back(slurm) == 1
    assert all(look(run).alive for run in runs), "the queue holds them"
    assert start(runs).wait() == 0
    assert states(runs) == ["finished"] * 4
    assert [len(attempts(run)) for run in runs] == [2, 2, 1, 1]
    assert [attempts(run)[1].first_step for run in runs[:2]] == [attempts(run)[0].last_step for run in runs[:2]]
    assert put_back(slurm) == 1


def test_cancelled_cells_leave_the_job_and_the_others_stay(place: Workplace, slurm: FakeSlurm) -> None:
    runs = queued(place, "trainer.steps=150", at_once=2)
    work = start(runs)
    wait_until(lambda: all((run / "checkpoint").exists() for run in runs[:2]))
    for run in (runs[0], runs[2]):
        withhold(run)
    assert work.wait() == 0
    assert states(runs) == ["preempted", "finished", "queued", "finished"]
    assert (read_state(runs[0]).job, begun(runs[2])) == (None, False)
    assert not look(runs[0]).alive, "a later launch may start it at once"
    assert start(runs).wait() == 0, "not even where the job comes back"
    assert len(attempts(runs[0])) == 1


def test_what_is_another_jobs_or_done_by_now_is_left_alone(place: Workplace, slurm: FakeSlurm) -> None:
    runs = queued(place)
    for run, state in ((runs[0], read_state(runs[0]).finished()), (runs[1], read_state(runs[1]))):
        write_state(run, state.queued(host="login", pid=1, process_started=0.0, job="78") if run == runs[1] else state)
    assert start(runs).wait() == 0
    assert [begun(run) for run in runs] == [False, False, True, True]


def test_a_cell_that_was_cut_off_waits_for_its_time_while_the_others_run(place: Workplace, slurm: FakeSlurm) -> None:
    runs = queued(place, "cluster.backoff_seconds=1000")
    state = read_state(runs[0]).running(host="n1", pid=1, process_started=0.0, job=JOB, stalled=1)
    write_state(runs[0], state.preempted(worker.Failure("node", "lost")))
    assert start(runs).wait() == 75
    assert states(runs) == ["preempted", "finished", "finished", "finished"]
    assert not begun(runs[0])
    assert put_back(slurm) == 1
    asked = (slurm.folder / "asked.scontrol").read_text()
    assert f"update JobId={JOB} StartTime=now+" in asked


def test_a_damaged_record_costs_the_others_nothing_and_one_out_of_reach_is_tried_again(
    place: Workplace, slurm: FakeSlurm
) -> None:
    runs = queued(place)
    (runs[0] / "state.json").write_text("{")
    assert start(runs).wait() == 1
    assert states(runs[1:]) == ["finished"] * 3
    assert put_back(slurm) == 0
    (runs[0] / "state.json").unlink()
    (runs[0] / "state.json").mkdir()  # reading it is an error of the system's
    assert start(runs).wait() == 75
    assert put_back(slurm) == 1


def test_a_cell_starts_with_its_part_of_the_jobs_cores_and_gpus(
    place: Workplace, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "nosy.py").write_text(NOSY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place.folder), PATH_OF_PROCESSES]))
    for name, value in (OF_THE_JOB | {"CUDA_VISIBLE_DEVICES": "4,6"}).items():
        monkeypatch.setenv(name, value)
    cores = ("cluster.cpus=8", "cluster.environment.NPROC=8", "cluster.environment.JAX_PLATFORMS=cpu")
    runs = queued(place, *cores, at_once=2)
    worker.start_several([str(run) for run in runs], "nosy")
    seen = [json.loads((run / "seen").read_text()) for run in runs]
    assert {environment["NPROC"] for environment in seen} == {"4"}
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment in seen} == {"4", "6"}


def test_a_process_that_cannot_even_begin_is_told_and_started_once(
    place: Workplace, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = queued(place)
    monkeypatch.setattr(child, "command", lambda *_, **__: [sys.executable, "-c", "raise SystemExit(3)"])
    for name, value in OF_THE_JOB.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        worker.start_several([str(run) for run in runs], "fake_cells")
    assert ended.value.code == 1
    assert {str(f and f.message) for f in (read_state(run).failure for run in runs)} == {
        "its process ended with exit code 3 before it began"
    }


@pytest.mark.parametrize(
    ("gpus", "slots", "seen"),
    [
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("4,6", 2, ["4", "6"]),
        ("5", 3, ["5", "5", "5"]),
        ("0,1", 4, ["0", "1", "0", "1"]),
    ],
)
def test_cells_side_by_side_share_the_gpus_of_their_job(gpus: str, slots: int, seen: list[str]) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": gpus}
    found = [visible_gpus(environment, slot, slots)["CUDA_VISIBLE_DEVICES"] for slot in range(slots)]
    assert found == seen
    assert visible_gpus({}, 0, slots) == {}
