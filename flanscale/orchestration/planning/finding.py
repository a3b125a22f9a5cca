"""Which run is meant? Finds a run directory by its path, its identity, the beginning of one, or a part of its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flanscale.config.compose import CONFIG_FILE
from flanscale.errors import ConfigError, closest, did_you_mean
from flanscale.orchestration.planning.ledger import launched_studies, read_ledger

MOST_NAMED = 5


def find_run(name: str, runs: Path, studies: Path) -> Path:
    """The run directory that is meant; it need not be there yet when a launched study has such a cell.

    Args:
        name: a path, a run's identity or the beginning of one, or a part of its readable name.
        runs: the folder of run directories.
        studies: the folder of indexes; runs of other folders are found by them.

    Raises:
        ConfigError: there is none, or several; the message names the nearest.
    """
    path = Path(name).expanduser()
    if (path / CONFIG_FILE).is_file():
        return path.absolute()
    if os.sep in name:
        raise ConfigError(f"{name}: no such run directory")
    known, unread = _known(runs, studies)
    found = _matches(name, known)
    if len(found) == 1:
        return known[found[0]]
    if found:
        named = ", ".join(found[:MOST_NAMED])
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise ConfigError(f"{name}: {len(found)} runs are called so: {named}{more}")
    parts = {part: run for run in known for part in (run, *run.split("-", 1))}
    hint = did_you_mean(dict.fromkeys(parts[part] for part in closest(name, parts)))
    raise ConfigError(f"{name}: no such run among the {len(known)} of {runs}/ and {studies}/{hint}{unread}")


def _matches(name: str, known: dict[str, Path]) -> list[str]:
    """Names of runs by the narrowest meaning of a name that fits any."""
    meanings: tuple[Callable[[str], bool], ...] = (
        lambda run: name in (run, *run.split("-", 1)),
        lambda run: run.startswith(name),
        lambda run: name in run,
    )
    for meaning in meanings:
        if name and (found := sorted(filter(meaning, known))):
            return found
    return []


def _known(runs: Path, studies: Path) -> tuple[dict[str, Path], str]:
    """Every run directory by its name, and of which indexes that cannot be known."""
    known = {}
    if runs.is_dir():
        with os.scandir(runs) as found:
            known = {
                entry.name: runs.absolute() / entry.name
                for entry in found
                if not entry.name.startswith(".") and entry.is_dir()
            }
    unread = ""
    for index in launched_studies(studies):
        try:
            ledger = read_ledger(index)
        except ConfigError as error:
            unread += f"; {error}"
            continue
        for entry in (*ledger.entries, *ledger.removed):
            known.setdefault(entry.run, ledger.directory(entry))
    return known, unread
