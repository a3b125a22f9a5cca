"""Is anybody working on it? Compares a run's record with the processes of this host and the jobs of Slurm."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import psutil

from flanscale.orchestration.running import slurm
from flanscale.run_directory import STATE_FILE, RunState, read_state

HEARTBEAT_SECONDS = 30.0
ASK_SLURM_SECONDS = 15.0
SILENCE_SECONDS = 300.0  # a run on another host that has not beaten for so long is dead
BIRTH_TOLERANCE = 2.0  # seconds; it took longer until the same pid was given out again

# Jobs that are pending or running: id → why it waits, in Slurm's words; None where that is unknown.
KnownJobs = Callable[[], Mapping[str, str] | None]
OF_A_JOB = ("queued", "running", "preempted")  # states of a run that its Slurm job, where it has one, may go on with
LOST = ("failed", "interrupted", "preempted")  # how a run stands that ended without a result
HELD = re.compile("held", re.IGNORECASE)  # in the words for a job that does not start until somebody releases it


@dataclass(frozen=True)
class Process:
    """The identity of a process, good for telling later whether it still lives."""

    host: str
    pid: int
    started: float  # seconds since this machine was started, which setting its clock does not change


@cache
def this_host() -> str:
    return socket.gethostname()


@cache
def this_machine() -> str:
    """The running kernel and the process ids that it shows to us: who has the same can be asked for by pid."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{this_host()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return this_host()


def this_process() -> Process:
    """This process, as a run's record names it."""
    return process_of(os.getpid())


def process_of(pid: int) -> Process:
    """A process of this host that has not been forgotten yet."""
    return Process(this_host(), pid, _birth(pid)[0])


def process_alive(pid: int, started: float | None) -> bool:
    """Whether that very process runs on this host: same pid, same birth, not a zombie.

    Args:
        started: as `Process.started`; None where it is not known.
    """
    try:
        born, status = _birth(pid)
    except psutil.NoSuchProcess:
        return False
    return status not in "ZX" and (started is None or abs(born - started) < BIRTH_TOLERANCE)


def _birth(pid: int) -> tuple[float, str]:
    """When a process began, in seconds since its machine did, and its state in a letter (Z: dead, X: gone)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        process = psutil.Process(pid)  # raises NoSuchProcess; or this is not Linux
        return process.create_time() - psutil.boot_time(), "Z" if process.status() == psutil.STATUS_ZOMBIE else "R"
    return int(fields[19]) / os.sysconf("SC_CLK_TCK"), fields[0]


def file_clock(folder: Path) -> float:
    """What time it is, in seconds since the epoch, for the file system of a folder, which may be another host's."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime


@dataclass(frozen=True)
class View:
    """A run as seen from outside, without claiming it."""

    state: RunState
    alive: bool  # a process runs it, or a queue holds it
    held: str | None = None  # why Slurm does not start its job until somebody releases it

    @property
    def status(self) -> str:
        """The state in one word for people: a run whose process died is `interrupted`, one never begun is `planned`."""
        if self.state.state == "running" and not self.alive:
            return "interrupted"
        if self.state.state == "queued" and not self.alive:
            return "interrupted" if self.state.attempt else "planned"
        return self.state.state

    @property
    def lost(self) -> bool:
        """Whether it ended without a result, and nobody is at it."""
        return self.status in LOST and not self.alive


def look(run_dir: Path, known_jobs: KnownJobs = slurm.known_jobs, state: RunState | None = None) -> View:
    """The run's record and whether somebody is at work on it.

    Args:
        run_dir: the run directory; it need not exist.
        known_jobs: tells which jobs Slurm has; asked only about a run that is in Slurm's hands.
        state: the record, where it has been read already.

    Raises:
        ConfigError: the record is damaged.
    """
    state = state or read_state(run_dir)
    in_slurm = state.job and state.state in OF_A_JOB and _ours(run_dir)
    if in_slurm and (jobs := known_jobs()) is not None:
        waits = jobs.get(state.job or "", "")
        return View(state, state.job in jobs, waits if HELD.search(waits) else None)
    return View(state, _alive(run_dir, state))


def asking_rarely() -> KnownJobs:
    """A `known_jobs` for looking again and again: Slurm's controller serves everybody."""
    answer: dict[str, str] | None = None
    due = 0.0
    asking = threading.Lock()

    def known_jobs() -> dict[str, str] | None:
        nonlocal answer, due
        with asking:
            if time.monotonic() >= due:
                answer = slurm.known_jobs()
                due = time.monotonic() + ASK_SLURM_SECONDS
            return answer

    return known_jobs


def _ours(run_dir: Path) -> bool:
    """Whether the run is this user's; Slurm is not asked about the jobs of others."""
    return (run_dir / STATE_FILE).stat().st_uid == os.getuid()


def _alive(run_dir: Path, state: RunState) -> bool:
    """Whether somebody is at work on a run, without asking Slurm."""
    if state.state in ("planned", "finished", "failed"):
        return False
    if state.state == "preempted":
        return False
    if state.state == "queued" and state.job:
        return True  # in a queue that cannot be asked from here
    if state.host == this_host() and state.pid is not None:
        return process_alive(state.pid, state.process_started)
    return _beats(run_dir)


def _beats(run_dir: Path) -> bool:
    """Whether the record of a run on another host was touched lately.

    A guess for people and launchers; who takes the run up looks longer (see `claim`). A beat that lies in the future
    is as little worth as one long past: a clock has been set.
    """
    beaten = (run_dir / STATE_FILE).stat().st_mtime
    if abs(time.time() - beaten) < SILENCE_SECONDS:
        return True
    try:
        ahead = _clock_ahead(run_dir.parent, int(time.monotonic() // 60))
    except OSError:  # not ours to write to: there is no other clock to ask
        return False
    return abs(time.time() + ahead - beaten) < SILENCE_SECONDS


@lru_cache(maxsize=8)
def _clock_ahead(folder: Path, minute: int) -> float:
    """Seconds that a file system's clock is ahead of ours; asked once a minute, not for every run."""
    return file_clock(folder) - time.time()
