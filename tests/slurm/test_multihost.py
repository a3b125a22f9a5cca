"""One cell on two nodes with two processes each: it tells what one process does, whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from little_study import wait_until
from test_run import answered, make_cell, told
from test_run_processes import CELL, assert_near, assert_same_answers, begin, learning, leave

from flanscale.config.compose import load
from flanscale.orchestration.dispatch.launcher import submit_slurm
from flanscale.orchestration.running.job import RUNNER
from flanscale.run_directory import METRICS_FILE, RunState, read_state

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
PROCESSES = 4
FOUR = [
    *CELL, "trainer.mesh.fsdp=2", "trainer.batch_rows=8", "evaluation.batch_size=16", "cluster=slurm",
    "cluster.nodes=2", "cluster.tasks_per_node=2", "cluster.cpus=2", "cluster.gpus=0", "cluster.timeout_minutes=60",
    "cluster.backoff_seconds=0", "cluster.evaluation=null",
]  # fmt: skip
SECONDS = 240.0  # of a cell that has two cores for four processes


def submit(folder: Path) -> Path:
    directory = make_cell(folder, *FOUR)
    submit_slurm([[directory]], load(directory).cluster, RUNNER, "multihost")
    return directory


def submit_until_it_learns(folder: Path) -> tuple[Path, RunState]:
    directory = submit(folder)
    wait_until(lambda: learning(directory), SECONDS)
    return directory, read_state(directory)


def process_of(directory: Path, rank: int) -> psutil.Process:
    """The process of this run that srun has given a rank."""
    job = str(read_state(directory).job).split("_")
    for process in psutil.process_iter():
        try:
            names, command = process.environ(), process.cmdline()
        except psutil.Error:
            continue
        mine = names.get("SLURM_ARRAY_JOB_ID", names.get("SLURM_JOB_ID")) == job[0]
        if mine and names.get("SLURM_PROCID") == str(rank) and "submitit.core._submit" in command:
            return process
    raise AssertionError(f"no process {rank}")


def finished(directory: Path) -> bool:
    return read_state(directory).state == "finished"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = submit(tmp_path_factory.mktemp("undisturbed"))
    wait_until(lambda: finished(directory), SECONDS)
    return directory


def test_two_nodes_tell_what_one_process_tells(undisturbed: Path, tmp_path: Path) -> None:
    alone = make_cell(tmp_path, *FOUR)
    assert leave(begin(alone, 1, devices=PROCESSES)) == [0]
    assert read_state(undisturbed).attempt == 1
    assert_near(told(undisturbed), told(alone))
    assert_same_answers(undisturbed, alone)
    assert (undisturbed / METRICS_FILE).read_text().count("\n") == len(told(alone))
    assert sorted(path.name for path in undisturbed.glob("log*")) == [
        *(f"log.{rank}.txt" for rank in range(1, PROCESSES)),
        "log.txt",
    ]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_stops_all_at_one_step_and_the_requeued_job_goes_on(
    undisturbed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    directory, running = submit_until_it_learns(tmp_path)
    asked = time.time()
    subprocess.run(["scancel", f"--signal={number.name[3:]}", str(running.job)], check=True)
    wait_until(lambda: read_state(directory).state != "running")
    stopped = read_state(directory)
    assert stopped.state == "preempted"
    assert stopped.updated - asked < 30
    said = "asked to stop after step"
    assert all(said in (directory / f"log.{rank}.txt").read_text() for rank in range(1, PROCESSES))
    wait_until(lambda: finished(directory), SECONDS)
    assert read_state(directory).attempt > 1
    assert read_state(directory).job == running.job
    assert told(directory) == told(undisturbed)
    assert answered(directory) == answered(undisturbed)


def test_a_killed_process_ends_the_attempt_as_a_lost_node_and_the_next_goes_on(
    undisturbed: Path, tmp_path: Path
) -> None:
    directory, running = submit_until_it_learns(tmp_path)
    os.kill(process_of(directory, rank=3).pid, signal.SIGKILL)
    wait_until(lambda: read_state(directory).state != "running")
    lost = read_state(directory)
    assert lost.state == "preempted"
    assert lost.failure is not None
    assert lost.failure.kind == "node"
    wait_until(lambda: finished(directory), SECONDS)
    assert read_state(directory).attempt > 1
    assert read_state(directory).job == running.job
    assert told(directory) == told(undisturbed)
    assert answered(directory) == answered(undisturbed)
