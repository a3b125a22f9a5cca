"""Who is launching this study now? A file for each launcher that keeps its queue in memory, beside the study's index.

Between two cells such a launcher has no process in any run directory, and yet the study goes on. One on this machine is
looked at directly, so that kill -9 ends it at once; one elsewhere is gone when its file has not been touched lately.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flanscale.orchestration.running.liveness import (
    HEARTBEAT_SECONDS,
    SILENCE_SECONDS,
    file_clock,
    process_alive,
    this_machine,
    this_process,
)
from flanscale.run_directory import write_atomically

FOLDER = ".launchers"  # inside the folder of indexes


@dataclass(frozen=True)
class Launcher:
    """A process that starts a study's cells."""

    host: str
    pid: int
    started: float  # see `Process`
    machine: str  # see `this_machine`


@contextmanager
def launching(index: Path) -> Iterator[Callable[[], None]]:
    """Be known as a launcher of a study inside the `with` block; gives what must be called often to stay so.

    Args:
        index: the study's index, which need not be there.

    Raises:
        OSError: nothing can be written beside the index.
    """
    folder, me = index.parent / FOLDER, this_process()
    folder.mkdir(exist_ok=True)
    for path, launcher in _records(index):
        if launcher.machine == this_machine() and not _alive(path, launcher):
            path.unlink(missing_ok=True)
    mine = folder / f"{index.stem}.{uuid.uuid4().hex}"
    write_atomically(mine, json.dumps(asdict(Launcher(me.host, me.pid, me.started, this_machine()))))
    beaten = time.monotonic()

    def beat() -> None:
        nonlocal beaten
        if time.monotonic() - beaten > HEARTBEAT_SECONDS:
            beaten = time.monotonic()
            with contextlib.suppress(OSError):  # the file system is away, or somebody has deleted the folder
                os.utime(mine)

    try:
        yield beat
    finally:
        with contextlib.suppress(OSError):
            mine.unlink()


def launchers(index: Path) -> list[Launcher]:
    """The living launchers of a study."""
    return [launcher for path, launcher in _records(index) if _alive(path, launcher)]


def _records(index: Path) -> Iterator[tuple[Path, Launcher]]:
    """Every launcher that has not taken its leave; what is no whole record is none."""
    try:
        paths = list((index.parent / FOLDER).iterdir())
    except OSError:
        return
    for path in paths:
        if path.name.rpartition(".")[0] == index.stem:
            with contextlib.suppress(OSError, ValueError, TypeError):
                yield path, Launcher(**json.loads(path.read_text(encoding="utf-8")))


def _alive(path: Path, launcher: Launcher) -> bool:
    if launcher.machine == this_machine():
        return process_alive(launcher.pid, launcher.started)
    try:
        beaten = path.stat().st_mtime
    except OSError:
        return False
    if abs(time.time() - beaten) < SILENCE_SECONDS:
        return True
    try:
        return abs(file_clock(path.parent) - beaten) < SILENCE_SECONDS
    except OSError:  # not ours to write to: there is no other clock to ask
        return False
