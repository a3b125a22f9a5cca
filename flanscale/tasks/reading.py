"""How are strangers' data files read? Line by line, with every bad record named by file and line, or counted.

A file is gzip where it begins like one, whatever its name says: browsers unpack downloads silently. Lines end at "\\n"
only, because texts hold other line separators. Nothing is ever unpickled or evaluated.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from flanscale.errors import DataError
from flanscale.tasks.digests import digest
from flanscale.tasks.task import Example, Skips

MAX_FIELD_CHARS = 1_000_000
MAX_LINE_BYTES = 1 << 25  # bounds the memory that a file without line ends can take
MAX_NAME_CHARS = 200  # a task's name becomes part of file names
_GZIP = b"\x1f\x8b"
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)

Place = TypeVar("Place", bound=int | str)
Record = TypeVar("Record")


class BadRecord(ValueError):
    """One record that cannot be learned from; the message says why, without file and line."""


def text_lines(path: Path, skips: Skips) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 file, plain or gzip; a byte order mark is dropped.

    A line that is no UTF-8 or too long is a bad record, and so is the place where a damaged gzip ends.

    Raises:
        DataError: no readable file, or a bad record that may not be skipped.
    """
    for number, _, data in byte_lines(path, skips):
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            skips.bad(path, number, f"not UTF-8 (byte 0x{error.object[error.start]:02x})")
            continue
        yield number, text.removesuffix("\n").removesuffix("\r")


def json_lines(path: Path, skips: Skips) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSON Lines file; blank lines are passed over.

    Raises:
        DataError: as text_lines; a line that is no JSON object is a bad record.
    """
    for number, line in text_lines(path, skips):
        if line and not line.isspace():
            try:
                yield number, json_object(line)
            except BadRecord as error:
                skips.bad(path, number, str(error))


def json_object(text: str) -> dict[str, Any]:
    """The object that one line of JSON Lines is.

    Raises:
        BadRecord: it is none.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"not JSON ({getattr(error, 'msg', type(error).__name__)})") from error
    if not isinstance(record, dict):
        raise BadRecord(f"a JSON {type(record).__name__}, expected an object")
    return record


def byte_lines(path: Path, skips: Skips) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, where it begins in the unpacked file, line with its end); bounded in memory.

    Raises:
        DataError: as text_lines.
    """
    number = start = 0
    with opened(path) as stream:
        while True:
            try:
                data = stream.readline(MAX_LINE_BYTES)
            except _DAMAGE as error:
                skips.bad(path, number + 1, f"damaged gzip: {error}")
                return
            if not data:
                return
            number += 1
            if len(data) == MAX_LINE_BYTES and not data.endswith(b"\n"):
                skips.bad(path, number, f"line of more than {MAX_LINE_BYTES:,} bytes")
                start += len(data) + _skip_line(stream)
                continue
            yield number, start, data
            start += len(data)


def json_document(path: Path) -> Any:
    """The value of a file that is one JSON document, plain or gzip.

    Raises:
        DataError: unreadable, damaged or not JSON.
    """
    with opened(path) as stream:
        try:
            return json.loads(stream.read().decode("utf-8-sig"))
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise DataError(f"{path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from error
        except (*_DAMAGE, ValueError, RecursionError) as error:
            raise DataError(f"{path}: not readable as JSON: {type(error).__name__}: {error}") from error


def gather(
    path: Path,
    records: Iterable[tuple[Place, Record]],
    parse: Callable[[Place, Record], Example],
    limit: int,
    skips: Skips,
) -> list[Example]:
    """The first `limit` sound examples of (place, record) pairs; `parse(place, record)` raises BadRecord for others.

    Raises:
        DataError: a bad record that may not be skipped, or no example at all.
    """
    kept: list[Example] = []
    for place, record in records:
        try:
            kept.append(sound(parse(place, record)))
        except BadRecord as error:
            skips.bad(path, place, str(error))
        if len(kept) == limit:
            break
    if not kept:
        raise DataError(f"{path}: no examples; expected at least one record with an input and an output")
    return kept


def sound(example: Example) -> Example:
    """The same example, if it can be learned from.

    Raises:
        BadRecord: no input, no output, a field of more than MAX_FIELD_CHARS, or half of a surrogate pair.
    """
    if not example.input or example.input.isspace():
        raise BadRecord("no input")
    if not example.references or any(not text or text.isspace() for text in example.references):
        raise BadRecord("no output")
    for text in (example.input, *example.references, example.rationale or "", *example.options):
        if len(text) > MAX_FIELD_CHARS:
            raise BadRecord(f"field of more than {MAX_FIELD_CHARS:,} characters")
        check_characters(text)
    return example


def check_characters(text: str) -> None:
    """Raise BadRecord where a text holds half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecord("half of a surrogate pair, which is no character") from error


def text_of(record: dict[str, Any], key: str) -> str:
    """A text field.

    Raises:
        BadRecord: absent or not a text.
    """
    if not isinstance(value := record.get(key), str):
        raise BadRecord(f"no text {key!r}")
    return value


def existing_folder(folder: Path, key: str) -> Path:
    """The same folder.

    Raises:
        DataError: there is none; the message names the configuration key `data.<key>`.
    """
    if not folder.is_dir():
        raise DataError(f"data.{key}={folder}: {'a file' if folder.exists() else 'no such folder'}; expected a folder")
    return folder


def safe_name(text: str) -> str:
    """A name that can be part of a file name: letters, digits and ._+- stay, anything else becomes one underscore."""
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).lstrip(".")[:MAX_NAME_CHARS] or "_"


def content_fingerprint(paths: Iterable[Path], form: str = "") -> str:
    """Sixteen hexadecimal characters over the files' contents in the given order; `form` tells apart readings of them.

    Raises:
        DataError: a file cannot be read.
    """
    whole = hashlib.sha256(form.encode())
    for path in paths:
        try:
            whole.update(bytes.fromhex(digest(path)))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error
    return whole.hexdigest()[:16]


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked where they are gzip.

    Raises:
        DataError: it cannot be opened or read.
    """
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] == _GZIP:
                with gzip.open(raw) as unpacked:
                    yield unpacked  # type: ignore[misc]  # GzipFile is a BinaryIO in all but name
            else:
                yield raw
    except gzip.BadGzipFile as error:
        raise DataError(f"{path}: damaged gzip: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def is_gzip(path: Path) -> bool:
    """Whether a file begins like gzip."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


def _skip_line(stream: BinaryIO) -> int:
    """The number of bytes up to the end of the line."""
    skipped = 0
    while data := stream.readline(MAX_LINE_BYTES):
        skipped += len(data)
        if data.endswith(b"\n"):
            break
    return skipped
