"""Who may do this now? Leases on a directory, right across hosts and on file systems whose locks are not.

A lease is a file `.lease/<what>.<generation>` that names its owner; the highest generation counts. It is taken by
linking a finished file to the next generation, which fails where that exists: of any number of processes one wins, and
one that decided long ago cannot win against a later one. An emptied file is a lease given back. An owner on this
machine is looked at directly, so that kill -9 gives its lease up at once. One elsewhere is gone when its lease has not
changed (a heartbeat changes the time stamp) for SILENCE_SECONDS of the observer's own monotonic clock: no clocks are
compared, so none that jumps ends or doubles a run. `RUN` is held by the attempt as long as it runs; one that was taken
for dead finds a higher generation at its next heartbeat and leaves. `RECORD` is held for the milliseconds in which
somebody decides about a run; it has no heartbeat, and is also taken from an owner whose file is as old as that by the
file system's own clock, since a launcher cannot wait, and a mistake costs no more than a job that finds the run taken.
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
    SILENCE_SECONDS,
    file_clock,
    process_alive,
    this_machine,
    this_process,
)

FOLDER = ".lease"
RECORD = "record"
RUN = "run"
PATIENCE_SECONDS = 2.0  # a dispatcher holds a lease for milliseconds; only a running attempt holds one longer
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Owner:
    """Who holds a lease."""

    nonce: str
    machine: str  # see `this_machine`
    host: str
    pid: int
    started: float  # see `Process`

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


UNKNOWN = Owner("", "", "an unknown host", 0, 0.0)


@dataclass(frozen=True)
class Lease:
    """A lease that this process has taken."""

    path: Path
    what: str
    generation: int
    nonce: str

    def held(self) -> bool:
        """Whether it is still this process's own: nobody has taken it for dead."""
        if max(_generations(self.path.parent, self.what), default=0) != self.generation:
            return False
        owner = _owner(self.path)
        return owner is not None and owner.nonce == self.nonce

    def beat(self) -> None:
        """Show others that the owner lives; the time stamp is the file system's own."""
        os.utime(self.path)

    def release(self) -> None:
        """Give it back; nothing happens where it is lost already."""
        with contextlib.suppress(FileNotFoundError):
            if self.held():
                os.truncate(self.path, 0)


@contextmanager
def claim(
    directory: Path,
    what: str = RECORD,
    *,
    patience: float = PATIENCE_SECONDS,
    outlast: bool = False,
    give_up: Callable[[], bool] = lambda: False,
) -> Iterator[Lease | None]:
    """Hold a lease inside the `with` block; gives None when somebody else keeps it.

    Args:
        directory: what is claimed; it must exist.
        what: RUN or RECORD, which do not exclude each other.
        patience: seconds to wait for an owner that lives.
        outlast: wait as long as it takes to see whether an owner on another host lives.
        give_up: ends the waiting.

    Raises:
        OSError: the directory is not there, or cannot be written to.
    """
    lease = _acquire(directory / FOLDER, what, patience, outlast, give_up)
    try:
        yield lease
    finally:
        if lease:
            lease.release()


def owner_here(directory: Path, what: str = RUN) -> Owner | None:
    """The living owner of a lease, if it is a process of this machine."""
    folder = directory / FOLDER
    with contextlib.suppress(FileNotFoundError):
        generation = max(_generations(folder, what), default=0)
        owner = _owner(folder / f"{what}.{generation}") if generation else None
        if owner and owner.machine == this_machine() and process_alive(owner.pid, owner.started):
            return owner
    return None


def _acquire(folder: Path, what: str, patience: float, outlast: bool, give_up: Callable[[], bool]) -> Lease | None:
    folder.mkdir(exist_ok=True)
    deadline = time.monotonic() + patience
    while True:
        generations = _generations(folder, what)
        alive = _alive(folder, what, max(generations, default=0))
        if alive is False and (lease := _take(folder, what, generations)):
            return lease
        undecided = alive is None and outlast
        if give_up() or (time.monotonic() >= deadline and not undecided):
            return None
        time.sleep(POLL_SECONDS)


def _take(folder: Path, what: str, before: dict[int, Path]) -> Lease | None:
    """Make the next generation; None when another process was faster."""
    process, generation = this_process(), max(before, default=0) + 1
    me = Owner(uuid.uuid4().hex, this_machine(), process.host, process.pid, process.started)
    path, scratch = folder / f"{what}.{generation}", folder / f"new.{me.nonce}"
    scratch.write_text(json.dumps(asdict(me)))
    try:
        os.link(scratch, path)
    except FileExistsError:
        if scratch.stat().st_nlink != 2:  # NFS may have linked it and lost its answer
            return None
    finally:
        scratch.unlink()
    if _generations(folder, what).keys() - before.keys() != {generation}:  # what was seen before is long past
        path.unlink(missing_ok=True)
        return None
    for older in before.values():
        older.unlink(missing_ok=True)
    return Lease(path, what, generation, me.nonce)


def _generations(folder: Path, what: str) -> dict[int, Path]:
    found = (path.name.rpartition(".") for path in folder.iterdir())
    return {int(number): folder / f"{what}.{number}" for kind, _, number in found if kind == what}


def _owner(path: Path) -> Owner | None:
    """Whom a lease names; None where it has been given back."""
    text = path.read_text()
    try:
        return Owner(**json.loads(text)) if text else None
    except (TypeError, ValueError):  # a machine stopped while it was written: like any that this one cannot look at
        return UNKNOWN


_first_seen: dict[Path, tuple[int, float]] = {}  # time stamp of a lease, and when this process saw it first


def _alive(folder: Path, what: str, generation: int) -> bool | None:
    """Whether the owner of a generation lives; None while that is not known."""
    if generation == 0:
        return False
    path = folder / f"{what}.{generation}"
    try:
        owner, stamp = _owner(path), path.stat().st_mtime_ns
    except FileNotFoundError:  # a later one has come
        return None
    if owner is None:
        return False
    if owner.machine == this_machine():
        return process_alive(owner.pid, owner.started)
    if what == RECORD and abs(file_clock(folder) - stamp / 1e9) >= SILENCE_SECONDS:
        return False
    now = time.monotonic()
    known, since = _first_seen.setdefault(path, (stamp, now))
    if known != stamp:
        _first_seen[path] = (stamp, now)
        return True
    return False if now - since >= SILENCE_SECONDS else None
