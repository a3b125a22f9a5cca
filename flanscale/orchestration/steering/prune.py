"""Which checkpoints may go? Of finished runs those that a policy does not keep and nobody starts from.

Nothing is deleted in place: it is renamed into `.pruned/` while the run is claimed, and deleted from there. So kill -9
leaves every checkpoint whole or gone, and the next time what is left of the others is deleted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flanscale.checks import ConfigError
from flanscale.config import CONFIG_FILE
from flanscale.orchestration.running.claim import RUN, claim
from flanscale.orchestration.running.liveness import KnownJobs, look
from flanscale.orchestration.watching.ledger import Ledger

POLICIES = ("best,last", "final", "none")
CHECKPOINTS = "checkpoints"
DAMAGED = "damaged"  # inside it: what did not read back
PARTIAL = ".orbax-checkpoint-tmp"  # in the name of what is being written
ASIDE = ".pruned"  # in the run directory
DAY_SECONDS = 86_400.0

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
        yield from (folder / str(step) for step in _steps(folder) if step not in kept)
        if (folder / DAMAGED).is_dir():
            yield folder / DAMAGED


def _kept(run_dir: Path, policy: Policy) -> set[int | None]:
    """The steps whose checkpoints stay."""
    steps = _steps(run_dir / CHECKPOINTS)
    if not steps:
        return set()
    last, best = steps[-1], _best(run_dir / CHECKPOINTS / str(steps[-1]))
    final = best if best in steps and _setting(run_dir, "trainer", "select") == "best" else last
    keep: dict[str, set[int | None]] = {"best,last": {best, last}, "final": {final}, "none": set()}
    needed = {final, last} if run_dir.name.split("-")[0] in policy.needed else set()
    return keep[policy.keep] | needed


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())


def _best(checkpoint: Path) -> int | None:
    """The step of the lowest validation loss, as the last checkpoint tells it; None where there was none.

    Raises:
        ConfigError: it does not tell.
    """
    path = checkpoint / "progress" / "metadata"
    try:
        best = json.loads(path.read_text(encoding="utf-8")).get("progress", {}).get("best", {}).get("step")
        return None if best is None else int(best)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path} does not tell which checkpoint is the best ({type(error).__name__})") from error


def needed_runs(runs: Path, ledgers: Iterable[Ledger]) -> frozenset[str]:
    """Ids of the runs that any other starts from, by the run directories there are and by the studies' indexes.

    Raises:
        ConfigError: a configuration cannot be read.
    """
    parents = {parent for ledger in ledgers for entry in ledger.entries for parent in entry.parents}
    starts = (_setting(file.parent, "init", "run") for file in runs.glob(f"*/{CONFIG_FILE}"))
    return frozenset(parents | {Path(start).name.split("-")[0] for start in starts if start})


def _setting(run_dir: Path, section: str, key: str) -> Any:
    """A value of a run's configuration; None where an older version had no such key."""
    path = run_dir / CONFIG_FILE
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader).get(section, {}).get(key)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}), so what it starts from is not known"
        ) from error


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
