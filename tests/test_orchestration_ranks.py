"""Several processes of one cell: the first decides and keeps the record, the others take its word and work along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from little_study import PATIENCE, Workplace, heeds, open_workplace, wait_until

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.running.ranks import Rank, announce, this_rank
from flanscale.processes import own_gpus

RUNNER = """
import time
from flanscale.errors import Preempted
def run(config, run_dir, *, attempt, should_stop):
    (run_dir / "ran").write_text(f"{attempt} {config.model.name}")
    if config.seed == 1:
        raise ValueError("nothing works")
    while config.seed == 2:
        if should_stop():
            raise Preempted("asked to stop")
        time.sleep(0.02)
"""
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_RESTART_COUNT": "1"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    (tmp_path / "little_runner.py").write_text(RUNNER)
    return open_workplace(tmp_path, monkeypatch)


def make_run(place: Workplace, seed: int = 0) -> Path:
    return create_run_dir(place.plan("mixture.count=9", f"seed={seed}").cells[0].config)


def start_second(run: Path) -> subprocess.Popen[bytes]:
    """The second of two processes of one step."""
    payload = """
import sys
from pathlib import Path
from flanscale.orchestration.running.ranks import follow, this_rank
follow(Path(sys.argv[1]), "little_runner", this_rank())
"""
    environment = os.environ | STEP | {"SLURM_PROCID": "1", "PYTHONPATH": str(run.parents[1])}
    return subprocess.Popen([sys.executable, "-c", payload, str(run)], env=environment)


def say(run: Path, monkeypatch: pytest.MonkeyPatch, attempt: int | None, **environment: str) -> None:
    """What the first process of the same step says, or of another."""
    for name, value in (STEP | environment).items():
        monkeypatch.setenv(name, value)
    announce(run, Rank(0, 2), attempt)


def words(run: Path) -> str:
    return (run / "log.1.txt").read_text() if (run / "log.1.txt").exists() else ""


def test_the_others_run_the_attempt_that_the_first_has_begun_and_keep_no_record(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(place)
    say(run, monkeypatch, 3)
    assert start_second(run).wait(timeout=PATIENCE) == 0
    assert (run / "ran").read_text() == "3 nano"
    assert "attempt 3 of" in words(run)
    assert not (run / "state.json").exists()


def test_they_leave_when_the_first_has_nothing_to_do(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(place)
    say(run, monkeypatch, None)
    assert start_second(run).wait(timeout=PATIENCE) == 0
    assert not (run / "ran").exists()


@pytest.mark.parametrize(
    "other", [{"SLURM_RESTART_COUNT": "0"}, {"SLURM_STEP_ID": "1"}, {"SLURM_JOB_ID": "6"}], ids=str
)
def test_what_was_said_at_another_start_is_not_heard(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, other: dict[str, str]
) -> None:
    run = make_run(place)
    say(run, monkeypatch, 1, **other)
    second = start_second(run)
    wait_until(lambda: (run / "log.1.txt").exists())
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=1)
    assert not (run / "ran").exists()
    say(run, monkeypatch, 2)
    assert second.wait(timeout=PATIENCE) == 0
    assert (run / "ran").read_text() == "2 nano"


def test_one_that_waits_leaves_when_it_is_asked_to(place: Workplace) -> None:
    run = make_run(place)
    second = start_second(run)
    wait_until(lambda: heeds(second.pid, signal.SIGTERM))
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=PATIENCE) == 0


def test_an_error_of_another_is_in_its_log_and_its_exit_code(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(place, seed=1)
    say(run, monkeypatch, 1)
    assert start_second(run).wait(timeout=PATIENCE) == 1
    assert "ValueError: nothing works" in words(run)


def test_one_that_was_stopped_leaves_the_verdict_to_the_first(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(place, seed=2)
    say(run, monkeypatch, 1)
    second = start_second(run)
    wait_until(lambda: (run / "ran").exists())
    second.send_signal(signal.SIGUSR2)
    assert second.wait(timeout=PATIENCE) == 0, "an exit code would make srun kill the first before it has told"
    assert "asked to stop" in words(run)


def test_a_process_alone_says_nothing(tmp_path: Path) -> None:
    announce(tmp_path, Rank(0, 1), 1)
    assert not list(tmp_path.iterdir())


def test_a_process_finds_its_place() -> None:
    assert this_rank({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}) == Rank(3, 4)
    assert this_rank({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}) == Rank(0, 1), "the batch script itself"
    assert this_rank({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) == Rank(0, 1)
    assert this_rank({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2", "TPU_WORKER_ID": "1"}) == Rank(1, 2)
    assert this_rank({"TPU_WORKER_HOSTNAMES": "localhost"}) == Rank(0, 1)
    by_hand = {"JAX_COORDINATOR_ADDRESS": "h:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
    assert this_rank(by_hand | {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}) == Rank(1, 2)


def test_a_half_given_place_is_one_line() -> None:
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID is not set"):
        this_rank({"JAX_COORDINATOR_ADDRESS": "h:1", "JAX_NUM_PROCESSES": "2"})
    with pytest.raises(ConfigError, match="JAX_NUM_PROCESSES=two"):
        this_rank({"JAX_COORDINATOR_ADDRESS": "h:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"})


def test_the_tasks_of_a_node_share_its_gpus_equally() -> None:
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    assert own_gpus(step | {"SLURM_LOCALID": "0"}) == [0, 1]
    assert own_gpus(step | {"SLURM_LOCALID": "1"}) == [2, 3]
    one_a_node = step | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}
    assert own_gpus(one_a_node) == [0, 1, 2, 3], "JAX by itself would take the first alone"
    assert own_gpus(step | {"SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": ""}) is None
    with pytest.raises(ConfigError, match=r"3 GPUs for 2 processes: .* cluster\.tasks_per_node"):
        own_gpus(step | {"SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": "0,1,2"})
