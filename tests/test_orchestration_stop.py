"""Being asked to stop: noted at once, and obeyed even by a process that is too busy to look."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from little_study import PATIENCE
from test_run import make_cell

from flanscale.orchestration.running.stop import leaving_within, stop_requests

# A cell that is inside one long instruction, as a compilation is, when the signal comes: no handler of Python's runs.
BUSY = """
import ctypes, pathlib
def run(config, run_dir, *, attempt, should_stop):
    (pathlib.Path(run_dir) / "busy").touch()
    ctypes.CDLL(None).sleep.argtypes = [ctypes.c_uint]
    left = 600
    while left := ctypes.CDLL(None).sleep(left):
        pass
"""
JOB = """
import sys
sys.path.insert(0, sys.argv[2])
from flanscale.orchestration.running import job
job.PATIENCE_SECONDS = 1
job.start(sys.argv[1], runner="busy")
"""


def test_a_job_too_busy_to_look_leaves_in_time_and_is_preempted(tmp_path: Path) -> None:
    directory = make_cell(tmp_path, "mixture.count=0", "cot=false")
    (tmp_path / "busy.py").write_text(BUSY)
    job = subprocess.Popen([sys.executable, "-c", JOB, str(directory), str(tmp_path)])
    while not (directory / "busy").exists():
        assert job.poll() is None
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=PATIENCE) == 75
    state = json.loads((directory / "state.json").read_text())
    assert state["state"] == "preempted"
    assert "still busy after 1 s" in json.dumps(state)


def test_who_ends_in_time_is_left_alone() -> None:
    left: list[signal.Signals] = []
    with stop_requests(signal.SIGUSR2) as stop, leaving_within(0.3, left.append):
        signal.raise_signal(signal.SIGUSR2)
        assert stop()
    time.sleep(0.5)
    assert not left


def test_without_a_signal_nobody_leaves() -> None:
    left: list[signal.Signals] = []
    with stop_requests(signal.SIGUSR2), leaving_within(0.05, left.append):
        time.sleep(0.3)
    assert not left


def test_who_takes_too_long_is_told_which_signal_it_was() -> None:
    left: list[signal.Signals] = []
    with stop_requests(signal.SIGUSR2, signal.SIGTERM), leaving_within(0.05, left.append):
        signal.raise_signal(signal.SIGUSR2)
        time.sleep(0.5)
    assert left == [signal.SIGUSR2]
