"""The verbs of steering in this process, with fake cells, and records of runs in any state."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from little_study import PATH_OF_PROCESSES, Workplace, open_workplace

from flanscale.cli.main import main
from flanscale.orchestration.steering import retry
from flanscale.run_directory import Failure, RunState, write_state


class Steering:
    """A workplace, and what is typed in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("PYTHONPATH", PATH_OF_PROCESSES)
        monkeypatch.setattr(retry, "carry_out", partial(retry.carry_out, runner="fake_cells"))
        self.place: Workplace = open_workplace(folder, monkeypatch)
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def type(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code, and what stood on standard output and standard error."""
        self._monkeypatch.setattr("sys.argv", ["flanscale", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int | None)
        return ended.value.code or 0, *self._capsys.readouterr()


def failed(kind: str) -> RunState:
    """Of a run whose first attempt failed so."""
    return RunState(state="failed", attempt=1, failure=Failure(kind, "told"))


def record(run: Path, state: RunState) -> Path:
    """Put a run into a state."""
    write_state(run, state)
    return run
