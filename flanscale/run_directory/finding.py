"""Which run is meant? A run directory by its path, its identity, the beginning of one, or a part of its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from flanscale.errors import ConfigError, closest, did_you_mean
from flanscale.run_directory.files import is_run

MOST_NAMED = 5


def find_run(name: str, runs: Path, elsewhere: Mapping[str, Path] | None = None) -> Path:
    """The run directory that is meant.

    Args:
        name: a path, a run's identity or the beginning of one, or a part of its readable name.
        runs: the folder of run directories.
        elsewhere: further runs by the names of their directories, which need not be there yet.

    Raises:
        ConfigError: there is none, or several; the message names the nearest.
    """
    path = Path(name)
    with suppress(RuntimeError):  # ~ before what is no user's name
        path = path.expanduser()
    if is_run(path):
        return path.absolute()
    if os.sep in name:
        raise ConfigError(f"{name}: no such run directory")
    known = {**(elsewhere or {}), **_in_folder(runs)}
    found = _matches(name, known)
    if len(found) == 1:
        return known[found[0]]
    if found:
        named = ", ".join(found[:MOST_NAMED])
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise ConfigError(f"{name}: {len(found)} runs are called so: {named}{more}")
    parts = {part: run for run in known for part in (run, *run.split("-", 1))}
    hint = did_you_mean(dict.fromkeys(parts[part] for part in closest(name, parts)))
    raise ConfigError(f"{name}: no such run among the {len(known)} of {runs}/{hint}")


def _matches(name: str, known: Mapping[str, Path]) -> list[str]:
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


def _in_folder(runs: Path) -> dict[str, Path]:
    """Every folder by its name; those that begin with a dot hold what is no run's."""
    if not runs.is_dir():
        return {}
    with os.scandir(runs) as found:
        names = [entry.name for entry in found if not entry.name.startswith(".") and entry.is_dir()]
    return {name: runs.absolute() / name for name in names}
