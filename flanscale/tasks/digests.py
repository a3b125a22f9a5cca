"""What do data files hold? Hashed once for all plans and jobs, as long as nobody has touched them since.

A job makes sure that its data is what its cell was planned with. Gigabytes are not read for that: a file whose size,
times and place on the disk are those of the last time holds what it held.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flanscale.run_directory.files import write_atomically

KEPT_FILE = "digests.json"
WORTH_KEEPING = 1 << 28  # bytes: what is hashed in less than a second is hashed again
SETTLED_SECONDS = 2.0  # a file changed a moment ago may change again within the tick of its clock

log = logging.getLogger(__name__)


@dataclass
class _Kept:
    """Path → [what the file system says of it, digest of its content]."""

    path: Path
    read: int = 0
    """Bytes that were hashed because nothing was known of them."""
    new: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def known(self) -> dict[str, list[str]]:
        """Read when a file is asked for: a plan hashes for its first cells and asks nothing for the others."""
        return _read(self.path)


_kept: contextvars.ContextVar[_Kept | None] = contextvars.ContextVar("kept", default=None)


@contextmanager
def kept_in(cache: Path) -> Iterator[None]:
    """Within it `digest` takes what an earlier plan or job has left in the folder, and leaves there what it reads."""
    kept = _Kept(cache / KEPT_FILE)
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        if kept.read >= WORTH_KEEPING:
            _write(kept.path, kept.new)


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    kept = _kept.get()
    with path.open("rb") as stream:
        about = os.fstat(stream.fileno())
        seal = f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"
        name = str(path.absolute())
        if kept and (known := kept.known.get(name, kept.new.get(name))) and known[0] == seal:
            return known[1]
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if kept:
        kept.read += about.st_size
        if time.time() - max(about.st_mtime, about.st_ctime) > SETTLED_SECONDS:
            kept.new[name] = [seal, found]
    return found


def _read(path: Path) -> dict[str, list[str]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, so that all data is hashed again: %s", path, error)
        return {}
    return {
        name: entry
        for name, entry in (known.items() if isinstance(known, dict) else ())
        if isinstance(entry, list) and [type(part) for part in entry] == [str, str]
    }


def _write(path: Path, new: dict[str, list[str]]) -> None:
    """Add to what others have written meanwhile; of two at once one's may be lost, and is hashed again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(_read(path) | new))
    except OSError as error:
        log.warning("%s cannot be written, so that every job hashes all its data: %s", path, error)
