"""What can follow at the shell's prompt? Names of studies, runs and configuration groups; no file is read for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path

MOST = 200  # a prompt that lists more helps nobody

Names = Callable[[str], Iterable[str]]


def _never_failing(names: Names) -> Callable[[str], list[str]]:
    """What starts with the word so far; nothing where a folder is not there, since a prompt shows no traceback."""

    @wraps(names)
    def complete(incomplete: str) -> list[str]:
        try:
            found = sorted({name for name in names(incomplete) if name.startswith(incomplete)})
        except Exception:  # whatever it is: the shell would print it into the line that is being typed
            return []
        return found[:MOST]

    return complete


@_never_failing
def sweeps(incomplete: str) -> list[str]:
    """Studies that can be launched."""
    package = Path(__file__).parents[1]
    folders = (Path("sweeps"), package / "sweeps", package.parent / "sweeps")
    return [path.stem for folder in folders for path in folder.glob("*.yaml")]


@_never_failing
def launched(incomplete: str) -> list[str]:
    """Studies that have been launched from here."""
    return [path.stem for path in Path("studies").glob("*.json")]


@_never_failing
def runs(incomplete: str) -> list[str]:
    """Run directories."""
    return [entry.name for entry in os.scandir("runs") if entry.is_dir() and not entry.name.startswith(".")]


def studies_and_runs(incomplete: str) -> list[str]:
    """Launched studies, then runs."""
    return [*launched(incomplete), *runs(incomplete)]


@_never_failing
def overrides(incomplete: str) -> list[str]:
    """`group=choice` of the configuration groups, and dotted keys."""
    from flanscale.config.checks import GROUPS, fields

    group, given, _ = incomplete.partition("=")
    if not given:
        return [f"{name}=" for name in (*GROUPS, *fields())]
    package = Path(__file__).parents[1]
    folders = (Path("conf"), package / "conf", package.parent / "conf")
    return [f"{group}={path.stem}" for folder in folders for path in (folder / Path(group).name).glob("*.yaml")]
