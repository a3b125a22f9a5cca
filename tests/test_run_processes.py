"""One cell on several processes: it tells what one process would, and is stopped, killed and resumed as one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from little_study import wait_until
from test_run import answered, make_cell, told

from flanscale.run_directory import METRICS_FILE, read_rows, read_state

CELL = [
    "cot=false", "evaluation.items=1", "evaluation.direct_tokens=8", "trainer.mesh.data=2",
    "trainer.steps=40", "trainer.checkpoint_every=100",
]  # fmt: skip
START = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1])"


def begin(directory: Path, processes: int, devices: int = 2) -> list[subprocess.Popen[bytes]]:
    """The cell's processes, which have so many devices together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // processes}"}
    if processes > 1:
        environment |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(processes)}
    return [
        subprocess.Popen([sys.executable, "-c", START, directory], env=environment | {"JAX_PROCESS_ID": str(index)})
        for index in range(processes)
    ]


def leave(job: list[subprocess.Popen[bytes]], seconds: float = 120) -> list[int]:
    """Exit codes."""
    return [process.wait(timeout=seconds) for process in job]


def learning(directory: Path) -> bool:
    return any("train/loss" in row for row in read_rows(directory))


def assert_near(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Sums over devices are added up in another order, in another program."""
    assert [row["step"] for row in one] == [row["step"] for row in other]
    for row, expected in zip(one, other, strict=True):
        assert row == {
            key: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            for key, value in expected.items()
        }


def assert_same_answers(one: Path, other: Path) -> None:
    """To the letter, but for log-probabilities, which are such sums too."""
    for line, records in answered(other).items():
        near = [
            record | {"samples": [s | {"logprob": pytest.approx(s["logprob"], abs=1e-4)} for s in record["samples"]]}
            for record in records
        ]
        assert answered(one)[line] == near
    assert answered(one).keys() == answered(other).keys()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_cell(tmp_path_factory.mktemp("alone"), *CELL)
    assert leave(begin(directory, 1)) == [0]
    return directory


def test_two_processes_that_one_signal_stops_go_on_as_one_and_tell_the_same(tmp_path: Path, alone: Path) -> None:
    directory = make_cell(tmp_path, *CELL)
    job = begin(directory, 2)
    wait_until(lambda: learning(directory))
    job[1].send_signal(signal.SIGTERM)  # which JAX must not take for itself
    assert leave(job, seconds=120) == [75, 0]
    stopped = read_state(directory)
    assert (stopped.state, stopped.attempt) == ("preempted", 1)
    assert "asked to stop after step" in (directory / "log.1.txt").read_text()
    assert leave(begin(directory, 1)) == [0]
    assert_near(told(directory), told(alone))
    assert_same_answers(directory, alone)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_other_leaves_and_two_begin_again(tmp_path: Path, alone: Path, killed: int) -> None:
    directory = make_cell(tmp_path, *CELL)
    job = begin(directory, 2)
    wait_until(lambda: learning(directory))
    job[killed].kill()
    codes = leave(job, seconds=120)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] != 0
    if killed == 1:
        failure = read_state(directory).failure
        assert failure is not None
        assert failure.kind == "node"
        assert "log.<rank>.txt" in failure.message
    assert leave(begin(directory, 2)) == [0, 0]
    assert read_state(directory).attempt == 2
    assert_near(told(directory), told(alone))
    assert_same_answers(directory, alone)


@pytest.mark.slow
def test_two_processes_write_each_row_once_and_all_evaluate(tmp_path: Path, alone: Path) -> None:
    directory = make_cell(tmp_path, *CELL)
    assert leave(begin(directory, 2)) == [0, 0]
    assert_near(told(directory), told(alone))
    assert_same_answers(directory, alone)
    assert (directory / METRICS_FILE).read_text().count("\n") == len(told(alone))


@pytest.mark.slow
def test_a_finished_cell_keeps_no_process(tmp_path: Path, alone: Path) -> None:
    before = (alone / "state.json").read_text()
    assert leave(begin(alone, 2), seconds=120) == [0, 0]
    assert (alone / "state.json").read_text() == before


@pytest.mark.slow
def test_a_mesh_that_leaves_a_process_without_work_is_one_line(tmp_path: Path) -> None:
    directory = make_cell(tmp_path, *CELL, "trainer.mesh.data=1")
    assert leave(begin(directory, 2), seconds=120) == [1, 1]
    failure = read_state(directory).failure
    assert failure is not None
    assert failure.kind == "config"
    assert "must be the 2 devices of this cell's 2 processes" in failure.message
