"""How much room does pruning make? Looks over studies, shows what would go, and deletes it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from flanscale.checks import ConfigError
from flanscale.config import CONFIG_FILE
from flanscale.orchestration.running.liveness import KnownJobs, asking_rarely
from flanscale.orchestration.steering.leftovers import Leftover, leftovers
from flanscale.orchestration.steering.prune import DAY_SECONDS, POLICIES, Policy, Spare, delete, needed_runs, spare_of
from flanscale.orchestration.watching.ledger import Ledger, find_ledger, launched_studies, read_ledger
from flanscale.schema import PathsConfig

OF_NO_STUDY = "(of no study)"


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
    studies = Path(paths.studies).expanduser()
    every = [read_ledger(path) for path in launched_studies(studies)]
    chosen = every if study is None else [read_ledger(find_ledger(study, studies))]
    runs = chosen[0].runs if study else Path(paths.runs).expanduser().absolute()
    of_study = {ledger.study: _run_dirs(ledger) for ledger in chosen}
    if study is None:
        known = {run_dir for run_dirs in of_study.values() for run_dir in run_dirs}
        others = tuple(sorted({file.parent for file in runs.glob(f"*/{CONFIG_FILE}")} - known))
        of_study |= {OF_NO_STUDY: others} if others else {}
    policy = Policy(keep, time.time() - days * DAY_SECONDS, needed_runs(runs, [*every, *chosen]))
    known_jobs = asking_rarely()
    spares = {run_dir: spare_of(run_dir, policy, known_jobs) for run_dirs in of_study.values() for run_dir in run_dirs}
    return Survey(policy, of_study, spares, tuple(leftovers(runs, known_jobs) if study is None else ()), known_jobs)


def _run_dirs(ledger: Ledger) -> tuple[Path, ...]:
    directories = (ledger.directory(entry) for entry in (*ledger.entries, *ledger.removed))
    return tuple(directory for directory in directories if directory.is_dir())


def pruned_table(found: Survey, deleted: bool) -> Table:
    """Bytes before and after, study by study."""
    table = Table("study", box=None)
    for title in ("runs", "checkpoints", "after" if deleted else "would be", "freed" if deleted else "would free"):
        table.add_column(title, justify="right")

    def add(what: str, runs: object, before: int, after: int) -> None:
        table.add_row(what, str(runs), in_bytes(before), in_bytes(after), in_bytes(before - after))

    rows, left = found.rows(), found.bytes_left_over
    for row in rows:
        add(row["study"], row["runs"], row["bytes_before"], row["bytes_after"])
    if found.leftovers:
        add(f"left by launches, {len(found.leftovers)} folders", "", left, 0)
    if table.row_count > 1:
        before = sum(spare.bytes_before for spare in found.spares.values()) + left
        add("in all", len(found.spares), before, before - found.bytes)
    return table


def in_bytes(number: float) -> str:
    """A size with three significant digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5 or unit == "TB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"
