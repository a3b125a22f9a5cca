"""Is anybody working on it? Compares a run's record with the processes of this host and the jobs of Slurm."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from flanscale.orchestration import slurm
from flanscale.orchestration.state import STATE_FILE, RunState, read_state

HEARTBEAT_SECONDS = 30.0
ASK_SLURM_SECONDS = 15.0
SILENCE_SECONDS = 300.0  # a run on another host that has not beaten for so long is dead
CREATE_TIME_TOLERANCE = 2.0  # seconds; the kernel's clock and the wall clock drift apart

KnownJobs = Callable[[], Collection[str] | None]  # ids of the jobs that are pending or running; None where unknown


@dataclass(frozen=True)
class Process:
    """The identity of this process, good for telling later whether it still lives."""

    host: str
    pid: int
    started: float


@cache
def this_host() -> str:
    return socket.gethostname()


def this_process() -> Process:
    """This process, as a run's record names it."""
    return Process(this_host(), os.getpid(), psutil.Process().create_time())


def process_alive(pid: int, started: float | None) -> bool:
    """Whether that very process runs on this host: same pid, same birth, not a zombie."""
    try:
        process = psutil.Process(pid)
        born = process.create_time()
        same = started is None or abs(born - started) < CREATE_TIME_TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class View:
    """A run as seen from outside, without taking its lock."""

    state: RunState
    alive: bool  # a process runs it, or a queue holds it

    @property
    def status(self) -> str:
        """The state in one word for people: a run whose process died is `interrupted`, one never begun is `planned`."""
        if self.state.state == "running" and not self.alive:
            return "interrupted"
        if self.state.state == "queued" and not self.alive:
            return "interrupted" if self.state.attempt else "planned"
        return self.state.state


def look(run_dir: Path, known_jobs: KnownJobs = slurm.known_jobs) -> View:
    """The run's record and whether somebody is at work on it.

    Args:
        run_dir: the run directory; it need not exist.
        known_jobs: tells which jobs Slurm has; asked only about a run that is in Slurm's hands.

    Raises:
        ConfigError: the record is damaged.
    """
    state = read_state(run_dir)
    return View(state, _alive(run_dir, state, known_jobs))


def asking_rarely() -> KnownJobs:
    """A `known_jobs` for looking again and again: Slurm's controller serves everybody."""
    answer: frozenset[str] | None = None
    due = 0.0

    def known_jobs() -> frozenset[str] | None:
        nonlocal answer, due
        if time.monotonic() >= due:
            answer = slurm.known_jobs()
            due = time.monotonic() + ASK_SLURM_SECONDS
        return answer

    return known_jobs


def _alive(run_dir: Path, state: RunState, known_jobs: KnownJobs) -> bool:
    if state.state in ("planned", "finished", "failed"):
        return False
    if state.job and (jobs := known_jobs()) is not None:
        return state.job in jobs
    if state.state == "preempted":
        return False
    if state.state == "queued" and state.job:
        return True  # in a queue that cannot be asked from here
    if state.host == this_host() and state.pid is not None:
        return process_alive(state.pid, state.process_started)
    return time.time() - (run_dir / STATE_FILE).stat().st_mtime < SILENCE_SECONDS
