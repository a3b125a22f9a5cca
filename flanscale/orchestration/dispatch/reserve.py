"""Who starts this cell? Makes its run directory and marks it queued, so that of two launches only one starts it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from flanscale import identity
from flanscale.config.compose import save
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.plan import Cell
from flanscale.orchestration.running.claim import claim, owner_here
from flanscale.orchestration.running.liveness import KnownJobs, look, this_process
from flanscale.orchestration.running.repeat import decide
from flanscale.run_directory import read_state, write_state
from flanscale.schema import RunConfig


def reserve(run_dir: Path, cell: Cell, known_jobs: KnownJobs, retry: Collection[str] = ()) -> bool:
    """Take a cell for this launcher; False when it is finished, or somebody else runs or has taken it.

    The directory then holds the configuration of this launch, which may differ from an earlier one's in what does
    not change the result. The job claims the run itself: should one on another host still run it after all, it waits
    to see that, and leaves it alone.

    Args:
        retry: classes of failure that are tried again, see `repeat.decide`.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with claim(run_dir, patience=0) as mine:
        if not mine or not decide(look(run_dir, known_jobs), retry).starts or owner_here(run_dir):
            return False
        save(cell.config, run_dir)
        me = this_process()
        queued = read_state(run_dir).queued(host=me.host, pid=me.pid, process_started=me.started)
        write_state(run_dir, queued)
        return True


def create_run_dir(cell: RunConfig) -> Path:
    """The run directory of one resolved cell, for a process that will run it itself.

    Raises:
        ConfigError: it cannot be made.
    """
    runs = Path(cell.paths.runs).expanduser().absolute()
    check_writable(runs)
    run_dir = runs / identity.run_name(cell)
    run_dir.mkdir(exist_ok=True)
    with claim(run_dir) as mine:
        if mine and read_state(run_dir).state != "finished":
            save(cell, run_dir)
    return run_dir


def submitted(run_dir: Path, job: str) -> None:
    """Record the Slurm job of a reserved cell, unless the job has begun already and has done so itself."""
    with claim(run_dir, patience=0) as mine:
        state = read_state(run_dir)
        if mine and state.state == "queued":
            me = this_process()
            write_state(run_dir, state.queued(host=me.host, pid=me.pid, process_started=me.started, job=job))


def give_back(run_dir: Path) -> None:
    """Undo a reservation whose job could not be started, or does not hold it any more: nothing half-made stays."""
    with claim(run_dir) as mine:
        state = read_state(run_dir)
        if not mine or state.state not in ("queued", "preempted"):
            return
        if state.attempt:
            write_state(run_dir, replace(state, state="preempted", job=None))
        else:
            gone = run_dir.with_name(f".{run_dir.name}.{os.getpid()}")
            run_dir.rename(gone)  # another launcher that comes now makes a directory of its own
            shutil.rmtree(gone)


def check_writable(folder: Path) -> None:
    """Raise `ConfigError` unless run directories can be made in a folder, which is created if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # of nobody's name: two launchers may look at once
            probe.write(b".")
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}; set paths.runs and paths.studies") from error
