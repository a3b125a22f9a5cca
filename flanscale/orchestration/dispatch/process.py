"""How does a cell become a process of this machine? A child in a session of its own, which outlives its launcher.

What is typed at the launcher's terminal does not reach it: the launcher asks it to leave.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flanscale.orchestration.dispatch.launcher import fresh_folder, outside_slurm
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.running import child
from flanscale.orchestration.running.logs import JOBS_FOLDER, WORDS_FILE
from flanscale.run_directory import name_among_runs, runs_of
from flanscale.schema import ClusterConfig


@dataclass(frozen=True)
class CellProcess:
    """A cell's process, and the folder that keeps what it prints before it has its own log."""

    handle: subprocess.Popen[bytes]
    folder: Path

    def done(self) -> bool:
        """Whether it has ended."""
        return self.handle.poll() is not None

    def stop(self) -> None:
        """Ask it to leave after a checkpoint."""
        self.handle.terminate()

    def words(self) -> str:
        """The last line that it printed before it had its own log; empty where there is none."""
        lines = (self.folder / WORDS_FILE).read_text(errors="replace").splitlines()
        return next(filter(None, reversed(lines)), "")

    def forget(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def start_process(run_dir: Path, cluster: ClusterConfig, runner: str, snapshot: Snapshot | None = None) -> CellProcess:
    """Start one cell on this machine, from a copy of the sources or from the installed ones.

    Args:
        run_dir: with its configuration.
        cluster: its environment, its GPUs (the first ones; a cell that asks for none sees none) and its time limit.
        runner: see `job.start`.
        snapshot: the copy.
    """
    environment = outside_slurm(os.environ) | cluster.environment
    if snapshot:
        environment |= snapshot.environment(environment)
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(cluster.gpus)))
    folder = fresh_folder(runs_of(run_dir) / JOBS_FOLDER, name_among_runs(run_dir))
    with (folder / WORDS_FILE).open("wb") as words:
        handle = subprocess.Popen(
            child.command(run_dir, cluster, runner),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    return CellProcess(handle, folder)
