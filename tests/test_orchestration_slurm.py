"""On a real Slurm: one array, nothing submitted twice, requeued where it should be and only there.

Any cluster on this machine will do whose default partition takes jobs of one core; without one, these are skipped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from little_study import Workplace, attempts, open_workplace, wait_until

from flanscale.orchestration import slurm
from flanscale.orchestration.state import read_state

pytestmark = pytest.mark.slurm
SMALL = ("cluster=slurm", "cluster.cpus=1", "cluster.gpus=0", "cluster.timeout_minutes=60")


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> None:
    if not slurm.available():
        pytest.skip("no sbatch on PATH: this host has no Slurm")
    if slurm.known_jobs() is None:
        pytest.skip("sbatch is on PATH, but no Slurm controller answers")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def job_of(run: Path) -> str:
    """The Slurm job of a run whose first attempt has saved a checkpoint."""
    wait_until(lambda: (run / "checkpoint").exists(), seconds=60)
    job = read_state(run).job
    assert job is not None
    return job


def test_a_study_is_one_array_that_is_submitted_once(place: Workplace) -> None:
    began = time.monotonic()
    first = place.launched("little", *SMALL, "seed=0,93")
    assert time.monotonic() - began < 5
    assert first.returncode == 0, first.stderr
    assert "submitted 4 cells to Slurm" in first.stdout
    assert "watch with: flanscale status little --watch" in first.stdout
    again = place.launched("--wait", "little", *SMALL, "seed=0,93")
    assert "submitted" not in again.stdout
    assert again.returncode == 1
    assert sorted(place.statuses().values()) == ["failed", "failed", "finished", "finished"]
    jobs = [read_state(run).job or "" for run in place.runs()]
    assert len({job.split("_")[0] for job in jobs}) == 1
    assert all(len(attempts(run)) == 1 for run in place.runs())


def test_a_notice_of_the_time_limit_saves_requeues_and_goes_on(place: Workplace) -> None:
    place.launched("little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=250")
    (run,) = place.runs()
    job = job_of(run)
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    wait_until(lambda: read_state(run).state == "preempted")
    assert place.statuses() == {"procedural-nano-9-direct-s0": "preempted"}
    assert "submitted" not in place.launched("little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=250").stdout
    wait_until(lambda: read_state(run).state == "finished", seconds=180)  # a requeued job may have to wait
    first, second = attempts(run)
    assert second.first_step == first.last_step
    assert read_state(run).job == job


def test_a_cancelled_job_saves_and_stays_cancelled_until_the_next_launch(place: Workplace) -> None:
    place.launched("little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=250")
    (run,) = place.runs()
    job = job_of(run)
    subprocess.run(["scancel", job], check=True)
    wait_until(lambda: read_state(run).state == "preempted")
    wait_until(lambda: job not in (slurm.known_jobs() or ()), seconds=30)
    assert (
        "submitted 1 cells" in place.launched("little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=250").stdout
    )
    wait_until(lambda: read_state(run).state == "finished", seconds=60)
    assert [life.first_step for life in attempts(run)] == [0, attempts(run)[0].last_step]


def test_a_killed_job_shows_as_interrupted_and_is_submitted_anew(place: Workplace) -> None:
    place.launched("little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=100")
    (run,) = place.runs()
    job = job_of(run)
    os.kill(attempts(run)[0].pid, signal.SIGKILL)  # the cluster of these tests is on this machine
    wait_until(lambda: job not in (slurm.known_jobs() or ()), seconds=30)
    assert (
        "submitted 1 cells" in place.launched("little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=100").stdout
    )
    wait_until(lambda: read_state(run).state == "finished", seconds=60)


def test_what_slurm_refuses_is_one_line_and_leaves_nothing(place: Workplace) -> None:
    result = place.launched("little", *SMALL, "cluster.partition=nowhere")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "flanscale: Slurm refused: invalid partition specified: nowhere\n"
    assert place.runs() == []
    assert not list((place.folder / "studies").iterdir())


def test_what_an_enclosing_job_left_in_the_environment_does_not_leak(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")  # overrides the script's own options, were it passed on
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPU_BIND", "map_cpu:0")
    result = place.launched("--wait", "little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=1")
    assert result.returncode == 0, result.stderr
