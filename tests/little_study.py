"""A working directory with a study of four short cells, and the ways to launch and inspect it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.planning.ledger import ledger_of, read_ledger, write_ledger
from flanscale.orchestration.planning.plan import Plan
from flanscale.orchestration.planning.preview import make_plan
from flanscale.orchestration.running.liveness import look
from flanscale.run_directory import RunState, write_state

TESTS = Path(__file__).parent
PATIENCE = 120.0  # seconds for what takes one or two on an idle machine: what is waited for in vain fails, late
PATH_OF_PROCESSES = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])  # finds fake_cells
STUDY = """
title: a little study
base: [model=nano, tracker=disabled, trainer.steps=20, evaluation=none]
axes:
  mixture.count: [9, 89]
  seed: [0, 1]
"""


@dataclass(frozen=True)
class Attempt:
    """One process lifetime of a run, as the run itself noted it down."""

    pid: int
    first_step: int
    began: float
    last_step: int | None  # None when it was killed
    ended: float | None


@dataclass(frozen=True)
class Workplace:
    """A working directory with `sweeps/little.yaml`."""

    folder: Path

    def plan(self, *overrides: str) -> Plan:
        """The plan; the caller's working directory must be this folder."""
        return make_plan("little", overrides)

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        """A launcher process in a process group of its own, as a shell starts it."""
        return subprocess.Popen(
            [sys.executable, str(TESTS / "fake_cells.py"), *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": PATH_OF_PROCESSES},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def launched(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A launcher process that has ended."""
        process = self.launch(*arguments)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def pretend_finished(self, *overrides: str) -> None:
        """Make the run directories of a study that has been run to its end."""
        plan = self.plan(*overrides)
        ledger = ledger_of(plan)
        ledger.path.parent.mkdir()
        write_ledger(ledger)
        for cell in plan.cells:
            write_state(create_run_dir(cell.config), RunState(state="finished", attempt=1, seconds=1.0))

    def runs(self) -> list[Path]:
        """The run directories."""
        return sorted(path for path in (self.folder / "runs").glob("*") if not path.name.startswith("."))

    def run(self, end_of_name: str) -> Path:
        """The run directory whose name ends so."""
        (found,) = [run for run in self.runs() if run.name.endswith(end_of_name)]
        return found

    def statuses(self) -> dict[str, str]:
        """Status by the readable part of the run's name, for all cells of the study."""
        ledger = read_ledger(self.folder / "studies" / "little.json")
        return {entry.label: look(ledger.directory(entry)).status for entry in ledger.entries}


def open_workplace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """Write the study into a folder and go there."""
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "little.yaml").write_text(STUDY)
    monkeypatch.chdir(folder)
    return Workplace(folder)


def attempts(run: Path) -> list[Attempt]:
    """The attempts of a run, in the order in which they began."""
    path = run / "attempts.log"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    ends = {int(pid): (int(step), float(when)) for what, pid, step, when in lines if what == "end"}
    return [
        Attempt(int(pid), int(step), float(when), *ends.get(int(pid), (None, None)))
        for what, pid, step, when in lines
        if what == "begin"
    ]


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal by now."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def begun(run: Path) -> bool:
    """Whether a cell is at work or has been."""
    return bool(attempts(run))


def kill(pid: int) -> None:
    """End a process that cannot object."""
    os.kill(pid, signal.SIGKILL)
