"""How are cells stopped for good? Waiting ones are planned again, running ones save a checkpoint and leave."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch.reserve import give_back
from flanscale.orchestration.running.liveness import OF_A_JOB, View, asking_rarely, look, this_host
from flanscale.orchestration.running.slurm import cancel_jobs, jobs_of
from flanscale.orchestration.running.withheld import withhold
from flanscale.orchestration.steering.targets import Seen
from flanscale.run_directory import read_state

WAITING = ("planned", "interrupted", "preempted")  # a launch that is under way may be about to start these
ASKED_FOR = {"running": {"running"}, "queued": {"queued", *WAITING}}  # a launcher's memory is a queue too
ASKED_FOR |= {state: {state} for state in WAITING}
SETTLE_SECONDS = 20.0  # for cells that a launcher is starting at this moment, and for Slurm to let go of a job
POLL_SECONDS = 0.2


@dataclass
class Cancelled:
    """What became of each cell, by the name of its run."""

    waiting: list[str] = field(default_factory=list)  # in nobody's hands yet, or no more
    queued_jobs: list[str] = field(default_factory=list)
    running_jobs: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    other_hosts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by host; untouched
    other_jobs: list[str] = field(default_factory=list)  # its job's number is somebody else's by now; untouched
    starting: list[str] = field(default_factory=list)  # by a launcher that takes its time; untouched
    ended: list[str] = field(default_factory=list)  # of itself, meanwhile

    @property
    def stopped(self) -> int:
        """How many cells will not go on."""
        return len(self.waiting) + len(self.queued_jobs) + len(self.running_jobs) + len(self.processes)


def cancellable(cells: Iterable[Seen]) -> list[Seen]:
    """Those meant that are running or queued, or that a launch which is under way would start."""
    return [cell for cell in cells if cell.meant and cell.view.status in ("running", "queued", *WAITING)]


def cancel(cells: Sequence[Seen]) -> Cancelled:
    """Stop cells, each as it is by now and not as it was seen.

    Raises:
        ConfigError: Slurm does not answer or refuses, or a process is another user's.
    """
    for cell in cells:
        withhold(cell.directory)
    done, deadline = Cancelled(), time.monotonic() + SETTLE_SECONDS
    left = _stop(cells, done)
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = _stop(left, done)
    done.starting += _names(left)
    return done


def _stop(cells: Sequence[Seen], done: Cancelled) -> list[Seen]:
    """Stop what can be stopped now; returns the cells that a launcher on this host is just starting."""
    known_jobs, starting = asking_rarely(), []
    in_jobs: list[tuple[Seen, View]] = []
    for cell in cells:
        view = look(cell.directory, known_jobs)
        state, name = view.state, cell.entry.run
        if view.status in ("finished", "failed"):
            done.ended.append(name)
        elif not view.alive:
            done.waiting.append(name)
        elif state.job:
            in_jobs.append((cell, view))
        elif state.host != this_host():
            done.other_hosts[state.host or "an unknown host"].append(name)
        elif view.status == "running" and state.pid is not None:
            (done.processes if _terminate(state.pid, name) else done.ended).append(name)
        else:
            starting.append(cell)
    if in_jobs:
        _cancel_jobs(in_jobs, done)
    return starting


def _terminate(pid: int, name: str) -> bool:
    """Ask a process to leave after a checkpoint; False when it has ended."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise ConfigError(f"{name}: process {pid} is another user's; ask them to cancel it") from error
    return True


def _cancel_jobs(cells: Sequence[tuple[Seen, View]], done: Cancelled) -> None:
    runs = cells[0][0].ledger.runs
    ours = jobs_of(runs)
    done.other_jobs += [cell.entry.run for cell, view in cells if view.state.job not in ours]
    mine = [(cell, view) for cell, view in cells if view.state.job in ours]
    shared = _shared_with_others(mine)
    jobs = {view.state.job for _, view in mine if view.state.job} - shared
    cancel_jobs(jobs)
    done.running_jobs += [cell.entry.run for cell, view in mine if view.status == "running"]
    waiting = [(cell, view) for cell, view in mine if view.status != "running"]
    done.queued_jobs += [cell.entry.run for cell, _ in waiting]
    _wait_until_gone({view.state.job for _, view in waiting} - shared, runs)
    for cell, _ in waiting:
        with suppress(FileNotFoundError):  # somebody else has cancelled it at the same time
            give_back(cell.directory)


def _shared_with_others(cells: Sequence[tuple[Seen, View]]) -> set[str]:
    """The jobs of these cells that have others to run: such a job sees for itself which of its cells are cancelled."""
    chosen = {cell.directory for cell, _ in cells}
    jobs = {view.state.job for _, view in cells}
    ledgers = {cell.ledger.path: cell.ledger for cell, _ in cells}
    entries = [(ledger, entry) for ledger in ledgers.values() for entry in (*ledger.entries, *ledger.removed)]
    others = {ledger.directory(entry) for ledger, entry in entries} - chosen
    states = [read_state(directory) for directory in others]
    return {s.job for s in states if s.job in jobs and s.job and s.state in OF_A_JOB}


def _wait_until_gone(jobs: Set[str | None], runs: Path) -> None:
    """Until Slurm has let go of waiting jobs, which it does at once; one that has just started takes its KillWait."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while jobs & jobs_of(runs) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _names(cells: Iterable[Seen]) -> list[str]:
    return [cell.entry.run for cell in cells]
