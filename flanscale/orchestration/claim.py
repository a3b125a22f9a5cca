"""Who may write a run directory? One process at a time, by a lock that the kernel releases however the process ends."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".lock"
PATIENCE_SECONDS = 2.0  # a dispatcher holds the lock for milliseconds; only a running attempt holds it longer

log = logging.getLogger(__name__)


@contextmanager
def claim(run_dir: Path, patience: float = PATIENCE_SECONDS) -> Iterator[bool]:
    """Hold the run's lock inside the `with` block; gives False when another process keeps it beyond `patience` seconds.

    The lock belongs to the open file, which children of this process do not inherit across exec.
    """
    descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _acquire(descriptor, run_dir, patience)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, run_dir: Path, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        except OSError as error:  # a file system without locks
            log.warning("%s: this file system has no locks (%s): launch each study only once at a time", run_dir, error)
            return True
