"""What have launches left behind? Copies of the sources that no cell will run, folders of jobs that are no more."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flanscale.orchestration.dispatch import snapshot
from flanscale.orchestration.dispatch.launcher import JOBS_FOLDER
from flanscale.orchestration.running.liveness import KnownJobs, look
from flanscale.orchestration.steering.prune import size

FRESH_SECONDS = 3600.0  # what is younger may be of a launch that is under way
JOB_OF_FILE = re.compile(r"(\d+)_")  # submitit's files begin with the id of their job


@dataclass(frozen=True)
class Leftover:
    """A folder beside the run directories that nobody needs."""

    path: Path
    bytes: int

    def delete(self) -> None:
        """Delete it; what is left when that is interrupted is still a leftover."""
        if self.path.parent.name == snapshot.FOLDER:
            snapshot.delete(self.path)
        else:
            shutil.rmtree(self.path)


def leftovers(runs: Path, known_jobs: KnownJobs) -> list[Leftover]:
    """What can go from a folder of runs, besides the runs' own."""
    found = [*snapshot.unused(runs), *_folders_of_ended_jobs(runs, known_jobs)]
    return [Leftover(path, size(path)) for path in found]


def _folders_of_ended_jobs(runs: Path, known_jobs: KnownJobs) -> Iterator[Path]:
    for folder in sorted((runs / JOBS_FOLDER).glob("*")):
        if time.time() - folder.stat().st_mtime > FRESH_SECONDS and not _in_use(folder, runs, known_jobs):
            yield folder


def _in_use(folder: Path, runs: Path, known_jobs: KnownJobs) -> bool:
    """Whether a job may still read it: the cell's own process here, or any job of an array."""
    run_dir = runs / folder.name.rpartition("-")[0]
    if run_dir.is_dir():
        return look(run_dir, known_jobs).alive
    jobs = known_jobs()
    known = {job.split("_")[0] for job in jobs or ()}
    theirs = {found.group(1) for file in folder.glob("*") if (found := JOB_OF_FILE.match(file.name))}
    return jobs is None or not known.isdisjoint(theirs)
