"""May a launch that is under way still start this cell? Not once it has been cancelled; a later launch may.

The mark lies beside the run directories: a cell that waits in a launcher's memory has none yet.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from flanscale.run_directory import name_among_runs, runs_of

MARKS_FOLDER = ".cancelled"  # inside the runs folder


def withhold(run_dir: Path) -> None:
    """Keep a cell from the launches that have begun by now."""
    mark = _mark(run_dir)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    now = time.time()
    os.utime(mark, (now, now))  # by this host's clock, as launchers measure, not by the file server's


def withheld(run_dir: Path, since: float) -> bool:
    """Whether a cell has been cancelled since a moment, in seconds since the epoch."""
    try:
        return _mark(run_dir).stat().st_mtime >= since
    except FileNotFoundError:
        return False


def _mark(run_dir: Path) -> Path:
    return runs_of(run_dir) / MARKS_FOLDER / name_among_runs(run_dir)
