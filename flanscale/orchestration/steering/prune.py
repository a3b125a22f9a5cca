"""Which checkpoints may go? Of finished runs those that a policy does not keep and nobody starts from.

Nothing is deleted in place: it is renamed into `.pruned/` while the run is claimed, and deleted from there. So kill -9
leaves every checkpoint whole or gone, and the next time what is left of the others is deleted.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch import snapshot
from flanscale.orchestration.planning.figures import in_bytes
from flanscale.orchestration.planning.finding import find_study
from flanscale.orchestration.planning.ledger import Ledger, launched_studies, read_ledger
from flanscale.orchestration.planning.sheet import Column, Sheet
from flanscale.orchestration.running.claim import RUN, claim
from flanscale.orchestration.running.liveness import KnownJobs, asking_rarely, look
from flanscale.orchestration.running.logs import JOBS_FOLDER
from flanscale.run_directory import (
    CHECKPOINTS,
    among_runs,
    best_step,
    checkpoint_steps,
    chosen_step,
    evaluations,
    identity_of,
    name_among_runs,
    read_config,
    read_result,
    run_directories,
)
from flanscale.schema import PathsConfig

POLICIES = ("best,last", "final", "none")
DAMAGED = "damaged"  # inside it: what did not read back
PARTIAL = ".orbax-checkpoint-tmp"  # in the name of what is being written
ASIDE = ".pruned"  # in the run directory
DAY_SECONDS = 86_400.0
OF_NO_STUDY = "(of no study)"
FRESH_SECONDS = 3600.0  # what is younger may be of a launch that is under way
JOB_OF_FILE = re.compile(r"(\d+)_")  # submitit's files begin with the id of their job


@dataclass(frozen=True)
class Policy:
    """What is deleted of finished runs."""

    keep: str  # one of POLICIES; final: the parameters that the run stands for
    before: float  # only runs that ended before, in seconds since the epoch
    needed: frozenset[str]  # ids of runs that others start from


@dataclass(frozen=True)
class Spare:
    """What can go from one run directory."""

    run_dir: Path
    paths: tuple[Path, ...]
    bytes: int
    bytes_before: int  # of all its checkpoints
    problem: str | None = None  # why it cannot be judged, and is left as it is


def spare_of(run_dir: Path, policy: Policy, known_jobs: KnownJobs) -> Spare:
    """What the policy lets go of a run as it is now."""
    before = size(run_dir / CHECKPOINTS) + size(run_dir / ASIDE)
    try:
        paths = tuple(_spare_paths(run_dir, policy, known_jobs))
    except ConfigError as error:
        return Spare(run_dir, (), 0, before, str(error))
    return Spare(run_dir, paths, sum(map(size, paths)), before)


def delete(spare: Spare, policy: Policy, known_jobs: KnownJobs) -> bool:
    """Delete what can still go from a run; False when somebody is at it."""
    aside = spare.run_dir / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    with claim(spare.run_dir, RUN, patience=0) as mine:
        if not mine:
            return False
        for path in _spare_paths(spare.run_dir, policy, known_jobs):
            aside.mkdir(exist_ok=True)
            path.rename(aside / path.name)
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _spare_paths(run_dir: Path, policy: Policy, known_jobs: KnownJobs) -> Iterator[Path]:
    view = look(run_dir, known_jobs)
    if view.alive:
        return
    if (run_dir / ASIDE).is_dir():
        yield run_dir / ASIDE
    folder = run_dir / CHECKPOINTS
    yield from sorted(folder.glob(f"*{PARTIAL}*"))
    if view.status == "finished" and view.state.updated < policy.before:
        kept = _kept(run_dir, policy)
        yield from (folder / str(step) for step in checkpoint_steps(run_dir) if step not in kept)
        if (folder / DAMAGED).is_dir():
            yield folder / DAMAGED


def _kept(run_dir: Path, policy: Policy) -> set[int | None]:
    """The steps whose checkpoints stay.

    Raises:
        ConfigError: somebody has yet to ask them something.
    """
    steps = checkpoint_steps(run_dir)
    if not steps:
        return set()
    if asked := [folder for folder in evaluations(run_dir) if read_result(folder) is None]:
        raise ConfigError(
            f"{name_among_runs(asked[0])} is not over and reads the checkpoints, which stay: finish it, or delete its"
            " folder"
        )
    last, best, final = steps[-1], best_step(run_dir), chosen_step(run_dir)
    keep: dict[str, set[int | None]] = {"best,last": {best, last}, "final": {final}, "none": set()}
    needed = {final, last} if identity_of(run_dir) in policy.needed else set()
    return keep[policy.keep] | needed


def needed_runs(runs: Path, ledgers: Iterable[Ledger]) -> frozenset[str]:
    """Ids of the runs that any other starts from, by the run directories there are and by the studies' indexes.

    Raises:
        ConfigError: a configuration cannot be read.
    """
    parents = {parent for ledger in ledgers for entry in ledger.entries for parent in entry.parents}
    starts = (_start(run_dir) for run_dir in run_directories(runs))
    return frozenset(parents | {identity_of(start) for start in starts if start})


def _start(run_dir: Path) -> Path | None:
    """The run that another one starts from."""
    try:
        start = read_config(run_dir).get("init", {}).get("run")
    except ConfigError as error:
        raise ConfigError(f"{error}: what it starts from is not known") from error
    return Path(start) if start else None


def size(path: Path) -> int:
    """Bytes of the files in a folder; what vanishes meanwhile has none."""
    total = 0
    for directory, _, files in os.walk(path):
        for file in files:
            try:
                total += Path(directory, file).lstat().st_size
            except FileNotFoundError:
                continue
    return total


# --- what launches have left behind -----------------------------------------------------------------------------------


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
    run_dir = among_runs(runs, folder.name.rpartition("-")[0])
    if run_dir.is_dir():
        return look(run_dir, known_jobs).alive
    jobs = known_jobs()
    known = {job.split("_")[0] for job in jobs or ()}
    theirs = {found.group(1) for file in folder.glob("*") if (found := JOB_OF_FILE.match(file.name))}
    return jobs is None or not known.isdisjoint(theirs)


# --- over studies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """What there is and what can go; a run of several studies counts in each of them, and once in the sum."""

    policy: Policy
    studies: dict[str, tuple[Path, ...]]  # run directories by study
    spares: dict[Path, Spare]  # by run directory
    leftovers: tuple[Leftover, ...]
    known_jobs: KnownJobs

    @property
    def bytes(self) -> int:
        """All that can go."""
        return sum(spare.bytes for spare in self.spares.values()) + self.bytes_left_over

    @property
    def bytes_left_over(self) -> int:
        """What launches have left behind."""
        return sum(leftover.bytes for leftover in self.leftovers)

    def delete(self) -> list[str]:
        """Delete it; returns the runs that somebody is at."""
        for leftover in self.leftovers:
            leftover.delete()
        spares = [spare for spare in self.spares.values() if spare.paths]
        return [spare.run_dir.name for spare in spares if not delete(spare, self.policy, self.known_jobs)]

    def rows(self) -> list[dict[str, Any]]:
        """For every study: its runs, and the bytes of their checkpoints before and after."""
        rows = []
        for study, run_dirs in self.studies.items():
            spares = [self.spares[run_dir] for run_dir in run_dirs]
            before = sum(spare.bytes_before for spare in spares)
            after = before - sum(spare.bytes for spare in spares)
            rows.append({"study": study, "runs": len(spares), "bytes_before": before, "bytes_after": after})
        return rows


def survey(study: str | None, paths: PathsConfig, *, keep: str, days: float) -> Survey:
    """What can go from one study, or from everything there is.

    Args:
        study: a launched study; None: all of them, runs of no study, and what launches have left behind.
        paths: where they are.
        keep: one of `prune.POLICIES`.
        days: only runs that finished so long ago.

    Raises:
        ConfigError: no such study or policy, or a record that cannot be read.
    """
    if keep not in POLICIES:
        raise ConfigError(f"--keep {keep}: must be {', '.join(POLICIES[:-1])} or {POLICIES[-1]}")
    every = [read_ledger(path) for path in launched_studies(paths)]
    chosen = every if study is None else [find_study(study, paths)]
    runs = chosen[0].runs if study else Path(paths.runs).expanduser().absolute()
    of_study = {ledger.study: _run_dirs(ledger) for ledger in chosen}
    if study is None:
        known = {run_dir for run_dirs in of_study.values() for run_dir in run_dirs}
        others = tuple(sorted({*run_directories(runs)} - known))
        of_study |= {OF_NO_STUDY: others} if others else {}
    policy = Policy(keep, time.time() - days * DAY_SECONDS, needed_runs(runs, [*every, *chosen]))
    known_jobs = asking_rarely()
    spares = {run_dir: spare_of(run_dir, policy, known_jobs) for run_dirs in of_study.values() for run_dir in run_dirs}
    return Survey(policy, of_study, spares, tuple(leftovers(runs, known_jobs) if study is None else ()), known_jobs)


def _run_dirs(ledger: Ledger) -> tuple[Path, ...]:
    directories = (ledger.directory(entry) for entry in (*ledger.entries, *ledger.removed))
    return tuple(directory for directory in directories if directory.is_dir())


def pruned_table(found: Survey, deleted: bool) -> Sheet:
    """Bytes before and after, study by study."""
    columns = ("runs", "checkpoints", "after" if deleted else "would be", "freed" if deleted else "would free")
    left, before = found.bytes_left_over, sum(spare.bytes_before for spare in found.spares.values())
    rows = [(row["study"], str(row["runs"]), row["bytes_before"], row["bytes_after"]) for row in found.rows()]
    if found.leftovers:
        rows.append((f"left by launches, {len(found.leftovers)} folders", "", left, 0))
    if len(rows) > 1:
        rows.append(("in all", str(len(found.spares)), before + left, before + left - found.bytes))
    return Sheet(
        [Column("study"), *(Column(title, right=True) for title in columns)],
        [(what, runs, in_bytes(was), in_bytes(now), in_bytes(was - now)) for what, runs, was, now in rows],
    )
