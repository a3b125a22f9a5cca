"""Where do a job's words go? Into `log.txt` of its run directory, with all that its libraries print.

A disk that is full, read-only or gone loses words, never the attempt.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

JOBS_FOLDER = ".submitit"  # inside the runs folder: pickles, batch scripts, what a job printed before it had its log
WORDS_FILE = "words.log"  # there, in a folder of each start on this machine


LOG_FILE = "log.txt"
LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def logging_to(path: Path, echo: bool) -> Iterator[None]:
    """Append Python's log to a file; with `echo` show it on the terminal too, else send stdout and stderr after it.

    Where the file cannot be opened, the words go to standard error.
    """
    with _opened(path) as file:
        handlers: list[logging.Handler] = [logging.StreamHandler(file)]
        if echo:
            handlers.append(logging.StreamHandler(sys.stderr))
        with _root_handlers(handlers):
            if echo:
                yield
            else:
                with standard_streams_to(file), redirect_stdout(file), redirect_stderr(file):
                    yield


@contextmanager
def standard_streams_to(file: TextIO) -> Iterator[None]:
    """Redirect the file descriptors, so that what C++ libraries print arrives as well."""
    streams = {1: sys.stdout, 2: sys.stderr}
    originals = {number: os.dup(number) for number in streams}
    for number, stream in streams.items():
        stream.flush()
        os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for number, stream in streams.items():
            stream.flush()
            os.dup2(originals[number], number)
            os.close(originals[number])


class _Forgiving(io.FileIO):
    """A file that takes what cannot be written for written."""

    def write(self, data) -> int:  # type: ignore[no-untyped-def]  # the buffer type is private before 3.12
        try:
            return super().write(data)
        except OSError:
            return len(data)

    def close(self) -> None:
        try:
            super().close()
        except OSError:
            return  # NFS says only now that a word was lost


def _opened(path: Path) -> TextIO:
    """The log, at the beginning of a line: the attempt before may have been killed in the middle of one."""
    try:
        raw: io.RawIOBase = _Forgiving(path, "a+")
        torn = raw.seek(0, os.SEEK_END) > 0 and raw.seek(-1, os.SEEK_END) >= 0 and raw.read(1) != b"\n"
    except OSError as error:
        print(f"flanscale: cannot write {path}: {error.strerror}; its words follow", file=sys.stderr)
        raw, torn = _Forgiving(os.dup(sys.stderr.fileno()), "a"), False
    if torn:
        raw.write(b"\n")
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", line_buffering=True, write_through=True)


@contextmanager
def _root_handlers(handlers: list[logging.Handler]) -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("flanscale")
    before, levels = root.handlers[:], (root.level, own.level)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LINE))
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)  # of libraries: Orbax alone writes a hundred lines for every checkpoint
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = before
        for logger, level in zip((root, own), levels, strict=True):
            logger.setLevel(level)
