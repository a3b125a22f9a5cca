"""How does one Slurm job run several cells? Each as a process of its own; the job goes back once, with what is left.

What there is to do is read from the run directories, whose records name the job that they were given to: a cell that
was cancelled, or that a later launch has taken up, is none of this job's any more. Each cell claims its run, beats and
records how it ended as it does alone. This process holds no JAX and no memory, so that what ends a cell spares it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flanscale.config.compose import load
from flanscale.errors import ConfigError
from flanscale.orchestration.running import child, repeat, slurm
from flanscale.orchestration.running.claim import claim
from flanscale.orchestration.running.job import EXIT_FAILED, EXIT_PREEMPTED, RUNNER
from flanscale.orchestration.running.liveness import OF_A_JOB
from flanscale.orchestration.running.sharing import visible_gpus
from flanscale.orchestration.running.stop import StopRequest, stop_requests
from flanscale.orchestration.running.withheld import withheld
from flanscale.run_directory import Failure, RunState, read_state, runs_of, write_state
from flanscale.schema import ClusterConfig

POLL_SECONDS = 0.2
MARK_SECONDS = 5.0  # between two looks at which cells have been cancelled


def start_several(run_dirs: Sequence[str], runner: str = RUNNER) -> None:
    """Run the cells of these run directories that are this job's and not finished, `cluster.cells_at_once` at a time.

    Each is attempted once. What is left then, because it was preempted or because the job was told to stop, is left to
    the same job, which goes back into the queue.

    Args:
        run_dirs: as for `job.start`, all with the same `cluster`.
        runner: see `job.start`.

    Raises:
        SystemExit: a cell failed (1), or some are left (75).
    """
    directories = [Path(run_dir) for run_dir in run_dirs]
    with stop_requests(signal.SIGTERM, signal.SIGINT, signal.SIGUSR2) as stop:  # in place of submitit's handlers
        work = _Work(directories, runner, slurm.current_job(), _cluster(directories))
        while work.turn(stop):
            time.sleep(POLL_SECONDS)
        work.conclude()


def _cluster(directories: Sequence[Path]) -> ClusterConfig:
    """Of the first cell that can be read; the others' own processes tell what is wrong with theirs."""
    for directory in directories:
        try:
            return load(directory).cluster
        except (ConfigError, OSError) as error:
            print(f"{directory}: {error}")
    raise SystemExit(EXIT_FAILED)


@dataclass
class _Running:
    directory: Path
    process: subprocess.Popen[bytes]
    since: float  # when the cell was given to this job: seconds since the epoch, as its record has it
    told: bool = False  # to leave


@dataclass
class _Work:
    waiting: list[Path]
    runner: str
    job: str | None
    cluster: ClusterConfig
    running: dict[int, _Running] = field(default_factory=dict)  # by slot
    left: dict[Path, float] = field(default_factory=dict)  # seconds that each still ought to wait
    failed: int = 0
    unrecorded: bool = False  # a cell could not record how it ended
    _look_due: float = 0.0

    def turn(self, stop: StopRequest) -> bool:
        """Take note of what has ended, and start what fits; False when nothing more is to be done."""
        for slot in [slot for slot, cell in self.running.items() if cell.process.poll() is not None]:
            self._settle(self.running.pop(slot))
        if stop.received:
            self._tell(stop.received, list(self.running.values()))
            for directory in self.waiting:
                if self._ready(directory):
                    self.left.setdefault(directory, 0.0)
            self.waiting = []
        elif time.monotonic() >= self._look_due:
            self._look_due = time.monotonic() + MARK_SECONDS
            cancelled = [cell for cell in self.running.values() if withheld(cell.directory, cell.since)]
            self._tell(signal.SIGTERM, cancelled)
        while self.waiting and (free := set(range(self.cluster.cells_at_once)) - self.running.keys()):
            self._start(self.waiting.pop(0), min(free))
        return bool(self.running or self.waiting)

    def conclude(self) -> None:
        """Put the job back where something is left, and end with a code that says so."""
        if self.left and not (self.unrecorded and repeat.restarts() > self.cluster.retries):
            print(f"{len(self.left)} cells are left", flush=True)
            if self.job:
                repeat.put_back(self.job, min(self.left.values()))
            raise SystemExit(EXIT_PREEMPTED)
        if self.left or self.failed:
            raise SystemExit(EXIT_FAILED)

    def _start(self, directory: Path, slot: int) -> None:
        state = self._ready(directory)
        if state is None or directory in self.left:
            return
        print(f"starting {directory.name}", flush=True)
        process = subprocess.Popen(
            child.command(child.arguments(directory, self.cluster, self.runner, shares_job=True)),
            env=os.environ | visible_gpus(os.environ, slot, self.cluster.cells_at_once),
            stdin=subprocess.DEVNULL,
        )
        self.running[slot] = _Running(directory, process, state.updated)

    def _ready(self, directory: Path) -> RunState | None:
        """The record of a cell that is this job's and unfinished; the cell is left where it ought to wait."""
        try:
            state = read_state(directory)
        except (ConfigError, OSError) as error:
            self._give_up(directory, error)
            return None
        if not self._ours(state) or withheld(directory, state.updated):
            return None
        if rest := repeat.too_early(state, self.job, self.cluster):
            self.left[directory] = rest
        return state

    def _ours(self, state: RunState) -> bool:
        """Whether a run is this job's; one that has just been submitted may not yet say whose it is."""
        fresh = state.job is None and state.state == "queued"
        return state.state in OF_A_JOB and (fresh or state.job == self.job)

    def _tell(self, number: signal.Signals, cells: Sequence[_Running]) -> None:
        for cell in cells:
            if not cell.told:
                cell.process.send_signal(number)
                cell.told = True

    def _settle(self, cell: _Running) -> None:
        """What becomes of a cell whose process has ended."""
        directory, code = cell.directory, cell.process.returncode
        try:
            with claim(directory, outlast=True):
                before = read_state(directory)
                state = self._known(before, cell, code) if self._ours(before) else before
                if state != before:
                    write_state(directory, state)
        except (ConfigError, OSError) as error:
            if directory.is_dir() or not runs_of(directory).is_dir():  # else it has been cancelled before it began
                self._give_up(directory, error)
            return
        print(f"{directory.name}: {state.state}", flush=True)
        self.failed += state.state == "failed"
        if self._ours(state):
            known = state.state == "preempted" or cell.told
            self.left[directory] = repeat.wait_seconds(state, self.cluster) if known else self.cluster.backoff_seconds
            self.unrecorded |= not known

    def _known(self, state: RunState, cell: _Running, code: int) -> RunState:
        """The record of a cell of ours that its own process has left unfinished, with what only its starter knows."""
        if withheld(cell.directory, cell.since):
            return replace(state, state="preempted" if state.attempt else "planned", job=None)
        if state.state == "queued" and code > 0:
            return state.failed(Failure("unknown", f"its process ended with exit code {code} before it began"))
        if state.state != "preempted" and code < 0 and not cell.told:
            return state.failed(Failure("interrupted", f"its process was ended by {signal.Signals(-code).name}"))
        return state

    def _give_up(self, directory: Path, error: Exception) -> None:
        """A record that is out of reach may come back; a damaged one does not mend itself."""
        print(f"{directory}: {error}", flush=True)
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            self.unrecorded = True
            self.left[directory] = self.cluster.backoff_seconds
        else:
            self.failed += 1
