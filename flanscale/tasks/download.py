"""How does one file come down whole? Resumed where it broke off, checked, and under its name only when complete.

A file in the making is `<name>.partial`. Addresses name fixed content (a commit), so what is already here of one is
still right. Standard library: proxies are those of the environment (`https_proxy`). Not by `huggingface_hub`: it checks
no checksum, starts a killed download over, gives up on a reset connection and a 503 (docs/fetch.md has the comparison).
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flanscale.errors import DataError

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
ASKING_TIMEOUT = 15.0  # seconds, for a size
ATTEMPTS = 5  # in a row that bring nothing
LONGEST_PAUSE = 300.0  # seconds, however long the server asks for
_AGAIN = {408, 425, 429, 500, 502, 503, 504}

Progress = Callable[[int, int | None], None]
"""Called with (bytes here, bytes in all where known)."""


class NotThere(DataError):
    """This file cannot be had from its source; others may be."""


class Away(DataError):
    """The server does not answer; it will not for its other files either."""


class FullDisk(DataError):
    """Nothing more can be written here."""


@dataclass(frozen=True)
class Downloaded:
    """What came."""

    sha256: str
    size: int


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    progress: Progress = lambda here, total: None,
    pause: float = 1.0,
) -> Downloaded:
    """Bring the content of `url` to `path`, going on from what an interrupted run left.

    Args:
        sha256: what its content must hash to, in hexadecimal.
        pause: seconds before the second attempt; doubled for each further one. The server may ask for more.

    Raises:
        NotThere: the server has no such file or refuses it, or its content is not what was expected.
        Away: no network.
        FullDisk: the disk is full or read-only. What is here stays for the next run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    failed, most = 0, _size(partial)
    while True:
        asked = 0.0
        try:
            with told_disk(partial):
                _go_on(url, partial, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code not in _AGAIN:
                raise NotThere(f"{url}: {_refusal(error.code)}") from None
            why = f"the server answers {error.code} {error.reason}"
            asked = _retry_after(error)
        except urllib.error.URLError as error:
            why = f"no connection ({error.reason})"
        except (OSError, http.client.HTTPException) as error:
            why = f"the connection broke ({error or type(error).__name__})"
        failed = 1 if _size(partial) > most else failed + 1
        most = max(most, _size(partial))
        if failed >= ATTEMPTS:
            kept = f"; {_size(partial):,} bytes are kept, run the same command to go on" if _size(partial) else ""
            raise Away(f"{url}: {why}, {ATTEMPTS} times{kept}")
        time.sleep(max(pause * 2 ** (failed - 1), asked))
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and found != sha256:
        partial.unlink()
        raise NotThere(f"{url}: content has sha256 {found}, expected {sha256}; thrown away")
    size = _size(partial)
    partial.replace(path)
    return Downloaded(found, size)


def size_of(url: str) -> int | None:
    """How many bytes the server says that a file has; None where it says nothing, or does not answer."""
    request = urllib.request.Request(url, headers={"User-Agent": "flanscale"}, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=ASKING_TIMEOUT) as response:
            return int(response.headers["Content-Length"])
    except (OSError, http.client.HTTPException, TypeError, ValueError):
        return None


@contextmanager
def told_disk(path: Path) -> Iterator[None]:
    """Turn what a full or read-only disk says into one line; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            raise
        raise FullDisk(f"{path}: cannot write: {error.strerror}; free some space or choose another folder") from error


def _go_on(url: str, partial: Path, progress: Progress) -> None:
    """One attempt: ask for what is missing; start over where the server gives the whole file all the same."""
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url}: not an http(s) address")
    here = _size(partial)
    headers = {"User-Agent": "flanscale"} | ({"Range": f"bytes={here}-"} if here else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{here}":
            return  # nothing is missing
        partial.unlink()
        raise ConnectionError("what was here did not fit the file; starting over") from None
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not str(response.headers.get("Content-Range")).startswith(f"bytes {here}-"):
            partial.unlink()
            raise ConnectionError("the server sent another part than asked for; starting over")
        here = here if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else here + int(length)
        with partial.open("ab" if resumed else "wb") as file:
            progress(here, total)
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                here += len(chunk)
                progress(here, total)
        if total is not None and here < total:
            raise ConnectionError(f"{here:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _retry_after(error: urllib.error.HTTPError) -> float:
    """The seconds that a busy server asks to be left alone; none where it says a date or nothing."""
    asked = error.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else 0.0


def _refusal(code: int) -> str:
    if code in (404, 410):
        return f"not there ({code}): the source has moved or was withdrawn"
    if code in (401, 403):
        return f"refused ({code}): the source asks for a login or its own consent form"
    return f"the server answers {code}"
