"""Which cells are meant by a name? Those of a launched study, or one run, as part of the study that has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flanscale import run_directory
from flanscale.errors import ConfigError, nearest
from flanscale.orchestration.planning.ledger import Entry, Ledger, launched_studies, read_ledger
from flanscale.run_directory import is_evaluation
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


def find_study(name: str, paths: PathsConfig) -> Ledger:
    """A launched study, by its name or by the path of its index.

    Raises:
        ConfigError: it has not been launched from here, or its index is damaged; the message names the nearest.
    """
    if name.endswith(".json"):
        return read_ledger(Path(name))
    known = {file.stem: file for file in launched_studies(paths)}
    if name not in known:
        hint = nearest(name, known) or f"; `flanscale launch {name}` makes one"
        raise ConfigError(f"no study {name!r} in {paths.studies}/{hint}")
    return read_ledger(known[name])


def find_run(name: str, paths: PathsConfig) -> Path:
    """A run directory; it need not be there yet when a launched study has such a cell.

    Args:
        name: a path, a run's identity or the beginning of one, or a part of its readable name.
        paths: runs of folders other than `paths.runs` are found by the indexes of the studies.

    Raises:
        ConfigError: there is none, or several; the message names the nearest, and indexes that cannot be read.
    """
    planned: dict[str, Path] = {}
    unread = ""
    for index in launched_studies(paths):
        try:
            ledger = read_ledger(index)
        except ConfigError as error:
            unread += f"; {error}"
        else:
            # An evaluation is called by its run, or by its directory.
            planned |= {
                e.run: directory for e in _entries(ledger) if not is_evaluation(directory := ledger.directory(e))
            }
    try:
        return run_directory.find_run(name, Path(paths.runs).expanduser(), planned)
    except ConfigError as error:
        raise ConfigError(f"{error}{unread}") from None


def find(names: Sequence[str], paths: PathsConfig) -> list[Target]:
    """The cells of every study and run that is named, study by study.

    Raises:
        ConfigError: nothing goes by that name, or more than one run.
    """
    targets: dict[Path, Target] = {}
    for name in names:
        target = _target(name, paths)
        before = targets.get(target.ledger.path)
        entries = (*(before.entries if before else ()), *target.entries)
        targets[target.ledger.path] = replace(target, entries=tuple(dict.fromkeys(entries)))
    return list(targets.values())


def _target(name: str, paths: PathsConfig) -> Target:
    studies = {file.stem: file for file in launched_studies(paths)}
    if name in studies or name.endswith(".json"):
        ledger = find_study(name, paths)
        return Target(ledger, ledger.entries)
    try:
        directory = find_run(name, paths)
    except ConfigError as error:
        raise ConfigError(f"no study {name!r} in {paths.studies}/{nearest(name, studies)}; {error}") from error
    for ledger in map(read_ledger, studies.values()):
        for entry in _entries(ledger):
            if ledger.directory(entry) == directory:
                return Target(ledger, (entry,))
    return _alone(directory, paths)


def _entries(ledger: Ledger) -> Iterator[Entry]:
    yield from (*ledger.entries, *ledger.removed)


def _alone(directory: Path, paths: PathsConfig) -> Target:
    """A run that no study has, as a study of its own whose index is never written."""
    from flanscale.config.compose import load
    from flanscale.orchestration.planning.cost import cost_of, devices

    config = load(directory)
    cost = cost_of(config)
    entry = Entry(
        *(run_directory.identity_of(directory), directory.name, cost.steps, cost.parameters, cost.flops),
        devices=devices(config),
    )
    index = Path(paths.studies).expanduser().absolute() / f"{directory.name}.json"
    return Target(Ledger(index, directory.name, "", (), {}, (), (entry,), directory.parent), (entry,))
