"""Which study or run is meant by a name? Finds the cells that a verb is to act on, and looks at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flanscale.config.compose import CONFIG_FILE
from flanscale.errors import ConfigError, nearest
from flanscale.orchestration.planning.finding import find_run
from flanscale.orchestration.planning.ledger import Entry, Ledger, launched_studies, read_ledger
from flanscale.orchestration.running.liveness import KnownJobs, View, look
from flanscale.orchestration.running.state import RunState
from flanscale.orchestration.watching.selection import Filter
from flanscale.schema import PathsConfig


@dataclass(frozen=True)
class Target:
    """Some cells of one study."""

    ledger: Ledger
    entries: tuple[Entry, ...]

    @property
    def removed(self) -> Target:
        """The study's cells that its file has no more."""
        return replace(self, entries=self.ledger.removed)


@dataclass(frozen=True)
class Seen:
    """One cell of a target, as it is now."""

    ledger: Ledger
    entry: Entry
    view: View
    meant: bool = True  # by the filter
    problem: str | None = None  # why its record cannot be read; nothing is then known of it

    @property
    def directory(self) -> Path:
        return self.ledger.directory(self.entry)


def look_at(target: Target, which: Filter, known_jobs: KnownJobs) -> list[Seen]:
    """Every cell of a target, and whether the filter means it.

    Raises:
        ConfigError: the filter names what the study does not have.
    """
    there = which.places(target.ledger, target.entries)
    return [_seen(target.ledger, entry, which, entry.id in there, known_jobs) for entry in target.entries]


def _seen(ledger: Ledger, entry: Entry, which: Filter, there: bool, known_jobs: KnownJobs) -> Seen:
    try:
        view = look(ledger.directory(entry), known_jobs)
    except ConfigError as error:
        return Seen(ledger, entry, View(RunState(), alive=False), meant=False, problem=str(error))
    return Seen(ledger, entry, view, meant=there and which.accepts(view))


def find_targets(names: Sequence[str], paths: PathsConfig) -> list[Target]:
    """The cells of every study and run that is named, study by study.

    A study goes by its name or the path of its index; a run by its identity, the beginning of one, the readable part
    of its name, or its directory.

    Raises:
        ConfigError: nothing goes by that name, or more than one run.
    """
    indexes = {file.stem: file for file in launched_studies(Path(paths.studies).expanduser())}
    targets: dict[Path, Target] = {}
    for name in names:
        target = _study(name, indexes) or _run(name, indexes, paths)
        before = targets.get(target.ledger.path)
        entries = (*(before.entries if before else ()), *target.entries)
        targets[target.ledger.path] = replace(target, entries=tuple(dict.fromkeys(entries)))
    return list(targets.values())


def _study(name: str, indexes: Mapping[str, Path]) -> Target | None:
    path = Path(name) if name.endswith(".json") else indexes.get(name)
    if path is None:
        return None
    ledger = read_ledger(path)
    return Target(ledger, ledger.entries)


def _run(name: str, indexes: Mapping[str, Path], paths: PathsConfig) -> Target:
    studies = Path(paths.studies).expanduser()
    try:
        directory = find_run(name, Path(paths.runs).expanduser(), studies)
    except ConfigError as error:
        near = nearest(name, indexes)
        raise ConfigError(f"no study {name!r} in {paths.studies}/{near}; {error}") from error
    for ledger in map(read_ledger, indexes.values()):
        for entry in (*ledger.entries, *ledger.removed):
            if ledger.directory(entry) == directory:
                return Target(ledger, (entry,))
    return _alone(directory, studies)


def _alone(directory: Path, studies: Path) -> Target:
    """A run that no study has, as a study of its own whose index is never written."""
    from flanscale.config.compose import load
    from flanscale.orchestration.planning.cost import cost_of, devices

    config = load(directory / CONFIG_FILE)
    cost = cost_of(config)
    entry = Entry(
        *(directory.name.split("-")[0], directory.name, cost.steps, cost.parameters, cost.flops),
        devices=devices(config),
    )
    index = studies.absolute() / f"{directory.name}.json"
    return Target(Ledger(index, directory.name, "", (), {}, (), (entry,), directory.parent), (entry,))
