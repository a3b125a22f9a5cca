"""How does a cell run as one of several processes of its starter? In one that keeps its time limit itself.

So it ends in time though its starter was killed, and who started it has no clock to watch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from flanscale.orchestration.running import job
from flanscale.schema import ClusterConfig

LONGEST_NOTICE_SECONDS = 120  # from the stop signal to the kill: one step, one checkpoint, Slurm's minute of leeway
SHARED, ALONE = "shared", "alone"


def command(arguments: Sequence[str]) -> list[str]:
    """What is to be executed for one cell."""
    return [sys.executable, "-u", "-m", __name__, *arguments]


def arguments(run_dir: Path, cluster: ClusterConfig, runner: str, *, shares_job: bool = False) -> list[str]:
    """What `main` is told.

    Args:
        run_dir: with its configuration.
        cluster: its time limit.
        runner: see `job.start`.
        shares_job: see `job.start`.
    """
    limit = 60 * cluster.timeout_minutes
    notice = limit - notice_seconds(cluster)
    how = SHARED if shares_job else ALONE
    return [str(run_dir), runner, how, str(notice), str(limit)]


def notice_seconds(cluster: ClusterConfig) -> int:
    """Seconds between the stop signal and the end of the time limit."""
    return min(LONGEST_NOTICE_SECONDS, cluster.timeout_minutes * 60 // 4)


def main() -> None:
    """Run the cell of a run directory: what the process does.

    Its arguments are those of `job.start`, and the seconds after which it sends itself SIGUSR2, upon which a job leaves
    after a checkpoint, and SIGKILL.
    """
    run_dir, runner, how, notice, limit = sys.argv[1:]
    for number, seconds in ((signal.SIGUSR2, notice), (signal.SIGKILL, limit)):
        timer = threading.Timer(float(seconds), os.kill, (os.getpid(), number))
        timer.daemon = True  # nobody waits for it at the end
        timer.start()
    job.start(run_dir, runner, shares_job=how == SHARED)


if __name__ == "__main__":
    main()
