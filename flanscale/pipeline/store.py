"""Where are tokenised tasks kept, so that each is tokenised once for all jobs? In files named after what went in.

The store is a folder that any number of processes on any number of machines use at once without locks. A file appears
whole under its name or not at all, is never changed afterwards, and the first of several writers of one key wins,
which makes no difference: all write the same bytes. What is damaged nevertheless is found when it is opened or first
read, told in the log, and made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flanscale import __version__
from flanscale.errors import DataError
from flanscale.pipeline.entry import VERSION, DamagedEntry, Entry, entry_bytes, read_entry
from flanscale.pipeline.ragged import Ragged

OPENED_AT_ONCE = 16  # a network file system answers in milliseconds, but many requests at a time
ABANDONED_AFTER = 24 * 3600  # seconds without a change after which a half-written file has no writer any more
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}

log = logging.getLogger(__name__)


class StoreError(DataError):
    """The store cannot be read or written; the message is one line that says why."""


@dataclass(frozen=True)
class Manifest:
    """The entries of a whole mixture: one small file instead of a fingerprint of every task."""

    keys: Mapping[str, str]  # task → key of its entry
    facts: Mapping[str, Mapping[str, Any]]  # task → facts of its entry


def entry_key(**parts: Any) -> str:
    """Forty hexadecimal characters over all that decides an entry's content, and over the code's version.

    Args:
        parts: plain values (text, numbers, lists, dicts): fingerprints of the task's content, of wordings, tokenizer
            and contamination guard; the settings of rendering.
    """
    text = json.dumps({"format": VERSION, "flanscale": __version__, **parts}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Store:
    """Entries and manifests under one folder, by key; the folder is made with the first of them."""

    root: Path

    def path(self, key: str) -> Path:
        """The file of an entry."""
        return self.root / key[:2] / f"{key}.tokens"

    def open(self, key: str) -> Entry | None:
        """An entry whose header and length are sound (its tokens are checked at first use), or None.

        Damage is told in the log.

        Raises:
            StoreError: the file is there and cannot be read.
        """
        try:
            return read_entry(self.path(key))
        except FileNotFoundError:
            return None
        except DamagedEntry as error:
            log.warning("%s; it is made again", error)
            return None
        except OSError as error:
            raise StoreError(f"{self.path(key)}: the tokenised store cannot be read ({error.strerror})") from error

    def open_all(self, keys: Sequence[str]) -> list[Entry | None]:
        """`open` of each key, many at a time."""
        with ThreadPoolExecutor(OPENED_AT_ONCE) as threads:
            return list(threads.map(self.open, keys))

    def write(self, key: str, inputs: Ragged, targets: Ragged, facts: Mapping[str, Any]) -> None:
        """Keep pairs under a key; where a sound entry has it already, that stays.

        Raises:
            StoreError: no room, or no permission; no partial file is left.
        """
        self._write(self.path(key), entry_bytes(inputs, targets, facts))

    def verify(self, keys: Iterable[str]) -> dict[str, str]:
        """Check entries byte by byte: key → what is wrong, for those that are damaged or not there."""
        wrong = {}
        for key in keys:
            try:
                read_entry(self.path(key)).verify()
            except FileNotFoundError:
                wrong[key] = f"{self.path(key)}: no such file"
            except DamagedEntry as error:
                wrong[key] = str(error)
        return wrong

    def manifest(self, key: str) -> Manifest | None:
        """The manifest kept under a key, or None where there is none; damage is told in the log."""
        path = self._manifest_path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        checksum, _, body = content.partition(b"\n")
        if checksum != _checksum(body):
            log.warning("%s: damaged (its content does not match its checksum); it is made again", path)
            return None
        return Manifest(**json.loads(body))

    def write_manifest(self, key: str, manifest: Manifest) -> None:
        """Keep a manifest under a key.

        Raises:
            StoreError: as in `write`.
        """
        body = json.dumps(asdict(manifest), ensure_ascii=False, allow_nan=False).encode()
        self._write(self._manifest_path(key), _checksum(body) + b"\n" + body)

    def clear_abandoned(self) -> int:
        """Delete what writers that were killed left half-written a day ago or earlier; their number."""
        abandoned = 0
        for path in self._partial.glob("*"):
            with suppress(FileNotFoundError):  # another job is clearing as well
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    path.unlink()
                    abandoned += 1
        return abandoned

    @property
    def _partial(self) -> Path:
        return self.root / "partial"

    def _manifest_path(self, key: str) -> Path:
        return self.root / "manifests" / f"{key}.json"

    def _write(self, final: Path, content: bytes) -> None:
        partial = self._partial / f"{final.name}.{uuid.uuid4().hex}"
        try:
            try:
                partial.parent.mkdir(parents=True, exist_ok=True)
                final.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                self._publish(partial, final)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            advice = "free some" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "check the folder"
            raise StoreError(
                f"{self.root}: the tokenised store cannot be written ({len(content):,} bytes: {error.strerror});"
                f" {advice} or set paths.cache=<folder>"
            ) from error

    def _publish(self, partial: Path, final: Path) -> None:
        """Give a finished file its name. Others may have mapped what has it already: that is replaced only if bad."""
        try:
            os.link(partial, final)
        except FileExistsError:
            if final.suffix != ".tokens" or not self._sound(final):
                partial.replace(final)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            partial.replace(final)  # a file system without hard links: the last writer wins, with the same bytes

    def _sound(self, path: Path) -> bool:
        try:
            read_entry(path).verify()
        except (FileNotFoundError, DamagedEntry):
            return False
        return True


def _checksum(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x}".encode()
