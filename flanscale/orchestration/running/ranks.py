"""How do several processes run one cell? The first claims it and says so; the others take its word and work along.

Only the first one writes the run's record; each of the others has its own `log.<rank>.txt`. The word is a small file
that names the start which it is about, so that what an earlier start has left is not mistaken for it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from flanscale.config.compose import load
from flanscale.orchestration.running.failure import classify
from flanscale.orchestration.running.logs import logging_to
from flanscale.orchestration.running.sharing import environment_of
from flanscale.orchestration.running.stop import StopRequest, stop_requests
from flanscale.processes import Rank, this_rank
from flanscale.run_directory import write_atomically

__all__ = ["Rank", "announce", "follow", "this_rank"]

WORD_FILE = ".first_rank.json"
PATIENCE_SECONDS = 900.0  # the first one may itself wait until a dead process's claim has run out
POLL_SECONDS = 0.2
EXIT_FAILED = 1
# What tells one start of a job from all others.
SLURM_START = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
OTHER_START = ("JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES")

log = logging.getLogger("flanscale.job")


def announce(run_dir: Path, rank: Rank, attempt: int | None) -> None:
    """The first process says that it has begun an attempt, or (None) that there is nothing to do."""
    if rank.count > 1:
        write_atomically(run_dir / WORD_FILE, json.dumps({"start": _this_start(), "attempt": attempt}) + "\n")


def follow(run_dir: Path, runner: str, rank: Rank) -> None:
    """Work along with the first process; returns when the cell has ended, or when the first one has nothing to do.

    Args:
        runner: as in `job.start`.

    After an error, which is in its log, the process ends at once with exit code 1: the others wait for it.
    """
    with (
        logging_to(run_dir / f"log.{rank.index}.txt", echo=False),
        stop_requests(signal.SIGTERM, signal.SIGINT, signal.SIGUSR2) as stop,
    ):
        attempt = _heard(run_dir, stop)
        if attempt is None:
            log.info("process %d of %d: the first one has nothing to do", rank.index, rank.count)
            return
        try:
            cell = load(run_dir)
            os.environ.update(environment_of(cell.cluster))  # before JAX is imported, which reads it once
            log.info("attempt %d of %s: process %d of %d", attempt, run_dir.name, rank.index, rank.count)
            importlib.import_module(runner).run(cell, run_dir, attempt=attempt, should_stop=stop)
        except BaseException as error:
            if classify(error) == "preempted":  # all leave together, and the first one tells how
                log.warning("attempt %d stopped: %s", attempt, error)
                return
            log.error("attempt %d failed", attempt, exc_info=error)
            os._exit(EXIT_FAILED)


def _heard(run_dir: Path, stop: StopRequest) -> int | None:
    """What the first process of this start says, as soon as it says it."""
    start, deadline = _this_start(), time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        word = _read(run_dir / WORD_FILE)
        if word and word["start"] == start:
            return word["attempt"]
        if stop():
            return None
        time.sleep(POLL_SECONDS)
    log.error("the first process said nothing for %d s", PATIENCE_SECONDS)
    raise SystemExit(EXIT_FAILED)


def _read(path: Path) -> dict[str, int | None] | None:
    try:
        word: dict[str, int | None] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return word


def _this_start(environment: Mapping[str, str] = os.environ) -> str:
    """The same for all processes of one start of a job, and for no other start."""
    names = SLURM_START if "SLURM_STEP_ID" in environment else OTHER_START
    return " ".join(environment.get(name, "") for name in names)
