"""How far is a run? Its record `state.json`: written whole or not at all, and only by who has claimed the run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flanscale.run_directory.files import STATE_FILE, check_format, damaged_told, write_atomically

FORMAT = 2
STATES = ("planned", "queued", "running", "preempted", "finished", "failed")
FAILURE_CLASSES = (
    *("config", "data", "out_of_memory", "nonfinite_loss"),
    *("preempted", "timeout", "node", "interrupted", "unknown"),
)


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended before the run was finished."""

    kind: str  # one of FAILURE_CLASSES; the key "class" in the file
    message: str
    traceback: str | None = None
    step: int | None = None
    host: str | None = None

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        return {"class": fields.pop("kind"), **fields}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Failure:
        return cls(kind=fields["class"], **{key: value for key, value in fields.items() if key != "class"})


@dataclass(frozen=True)
class RunState:
    """One run's life so far. `host`, `pid` and `process_started` name the process that answers for it now."""

    state: str = "planned"
    attempt: int = 0
    failure: Failure | None = None
    host: str | None = None
    pid: int | None = None
    process_started: float | None = None  # see `liveness.Process`; a pid alone may have been given out again
    job: str | None = None  # the Slurm job that holds the run now; None for a local process
    job_ids: tuple[str, ...] = ()  # every Slurm job it ever had
    seconds: float = 0.0  # spent in attempts that have ended
    updated: float = 0.0  # of the last transition, seconds since the epoch
    stalled: int = 0  # attempts in a row that were cut off and had got no further
    reached: int = 0  # the step at which the present or last attempt began

    @property
    def age(self) -> float:
        """Seconds since the last transition, never less than none: clocks of other hosts may be ahead."""
        return max(time.time() - self.updated, 0.0)

    def queued(self, *, host: str, pid: int, process_started: float, job: str | None = None) -> RunState:
        """Handed to an executor; the process is the dispatcher's until the job's own claims the run."""
        here = {"host": host, "pid": pid, "process_started": process_started}
        stalled = 0 if self.state == "failed" else self.stalled  # somebody asked for it to be tried again
        return self._next("queued", **here, **self._held_by(job), failure=None, stalled=stalled)

    def running(
        self,
        *,
        host: str,
        pid: int,
        process_started: float,
        job: str | None = None,
        reached: int = 0,
        stalled: int = 0,
    ) -> RunState:
        """An attempt begins, at the step that is reached."""
        here = {"host": host, "pid": pid, "process_started": process_started}
        progress = {"attempt": self.attempt + 1, "reached": reached, "stalled": stalled}
        return self._next("running", **here, **progress, **self._held_by(job), failure=None)

    def finished(self, spent: float = 0.0) -> RunState:
        """The cell's results are complete, after so many seconds in this attempt."""
        return self._next("finished", failure=None, seconds=self.seconds + spent, stalled=0)

    def preempted(self, failure: Failure, spent: float = 0.0) -> RunState:
        """Cut off; goes on from the last checkpoint when started again."""
        return self._next("preempted", failure=failure, seconds=self.seconds + spent)

    def failed(self, failure: Failure, spent: float = 0.0) -> RunState:
        """Ended with an error."""
        return self._next("failed", failure=failure, seconds=self.seconds + spent)

    def _held_by(self, job: str | None) -> dict[str, Any]:
        known = job is None or job in self.job_ids
        return {"job": job, "job_ids": self.job_ids if known else (*self.job_ids, job)}

    def _next(self, state: str, **changes: Any) -> RunState:
        return replace(self, state=state, updated=time.time(), **changes)


def read_state(run_dir: Path) -> RunState:
    """The state of a run; `planned` where nothing has been recorded yet.

    Raises:
        ConfigError: it cannot be read, is from a newer flanscale, or damaged, which an interrupted one never leaves.
    """
    path = run_dir / STATE_FILE
    with damaged_told(path, ": delete the run directory to start it over"):
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return RunState()
        fields = json.loads(text)
        check_format(path, fields.pop("format"), FORMAT)
        if fields["state"] not in STATES:
            raise ValueError("not a record")
        failure = fields.pop("failure")
        fields["job_ids"] = tuple(fields["job_ids"])
        return RunState(failure=Failure.from_json(failure) if failure else None, **fields)


def write_state(run_dir: Path, state: RunState) -> None:
    """Replace the record in one step, so that a reader never sees half of it and kill -9 never loses it."""
    fields = asdict(state)
    fields["failure"] = state.failure.to_json() if state.failure else None
    write_atomically(run_dir / STATE_FILE, json.dumps({"format": FORMAT, **fields}, indent=1) + "\n")
