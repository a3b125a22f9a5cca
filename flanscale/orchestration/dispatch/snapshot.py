"""Which code does a queued cell run? A copy made when it was launched, so that no later edit can change it.

`<runs>/.code/<hash>/` holds the sources that a job imports, `<runs>/.code/<hash>.runs` the runs that were given to it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flanscale.orchestration.running.sources import COMMIT_VARIABLE, SNAPSHOT_VARIABLE, code_files, commit_here
from flanscale.run_directory import read_state

FOLDER = ".code"  # inside the runs folder
COMPLETE = ".complete"
FRESH_SECONDS = 3600.0  # one that has just been given out may be about to get its runs
ENDED = ("finished", "failed", "planned")


@dataclass(frozen=True)
class Snapshot:
    """A complete copy of the sources."""

    path: Path
    commit: str = ""  # that they were copied from, perhaps edited since; empty where there is no clone

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Variables under which Python imports from the copy, not what is installed or where it is started."""
        path = os.pathsep.join(filter(None, [str(self.path), inherited.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, **self._variables}

    def exports(self) -> list[str]:
        """The same as lines of shell, for after all others that may set PYTHONPATH."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self._variables.items()]
        return [f"export PYTHONPATH={shlex.quote(str(self.path))}${{PYTHONPATH:+:$PYTHONPATH}}", *lines]

    @property
    def _variables(self) -> dict[str, str]:
        return {"PYTHONSAFEPATH": "1", SNAPSHOT_VARIABLE: self.path.name, COMMIT_VARIABLE: self.commit}

    def used_by(self, names: Iterable[str]) -> None:
        """Note that these runs are started from it."""
        with _users(self.path).open("a", encoding="utf-8") as file:
            file.write("".join(f"{name}\n" for name in names))
            os.utime(file.fileno())


def take(runs: Path, names: Iterable[str]) -> Snapshot:
    """Copy the sources as they are now, or find the copy that is there, and note which runs will use it.

    Args:
        runs: the folder of run directories.
        names: the runs that are to be started from it, already marked as queued.
    """
    files = {target: source.read_bytes() for target, source in sorted(code_files())}
    digest = hashlib.sha256()
    for target, content in files.items():
        digest.update(f"{target}\0{len(content)}\n".encode())
        digest.update(content)
    final = runs / FOLDER / digest.hexdigest()[:16]
    final.parent.mkdir(exist_ok=True)
    snapshot = Snapshot(final, commit_here())
    snapshot.used_by(names)
    if not (final / COMPLETE).exists():
        _write(final, files)
    return snapshot


def unused(runs: Path) -> list[Path]:
    """The copies that no unfinished run was given to, and that were not given out within the last hour."""
    found = sorted(path for path in (runs / FOLDER).glob("[!.]*") if path.is_dir())
    return [path for path in found if not _used(runs, path)]


def delete(snapshot: Path) -> None:
    """Delete a copy; one that is half deleted is not taken for complete."""
    (snapshot / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(snapshot)
    _users(snapshot).unlink(missing_ok=True)


def _used(runs: Path, snapshot: Path) -> bool:
    users = _users(snapshot)
    if not users.exists():
        return False
    if time.time() - users.stat().st_mtime < FRESH_SECONDS:
        return True
    names = set(users.read_text(encoding="utf-8").split("\n")) - {""}
    return any(read_state(runs / name).state not in ENDED for name in names)


def _users(snapshot: Path) -> Path:
    return snapshot.with_name(f"{snapshot.name}.runs")


def _write(final: Path, files: Mapping[str, bytes]) -> None:
    scratch = final.with_name(f".{final.name}.{os.uname().nodename}.{os.getpid()}")
    try:
        for target in {str(Path(target).parent) for target in files}:
            (scratch / target).mkdir(parents=True, exist_ok=True)
        for target, content in files.items():
            (scratch / target).write_bytes(content)
        (scratch / COMPLETE).touch()
        if final.exists() and not (final / COMPLETE).exists():
            shutil.rmtree(final)
        try:
            scratch.rename(final)
        except OSError:
            if not (final / COMPLETE).exists():  # another launch has not been faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
