"""Where do a job's words go? Into `log.txt` of its run directory, with all that its libraries print."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOG_FILE = "log.txt"
LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def logging_to(path: Path, echo: bool) -> Iterator[None]:
    """Append Python's log to a file; with `echo` show it on the terminal too, else send stdout and stderr after it."""
    with path.open("a", encoding="utf-8", buffering=1) as file:
        handlers: list[logging.Handler] = [logging.StreamHandler(file)]
        if echo:
            handlers.append(logging.StreamHandler(sys.stderr))
        with _root_handlers(handlers):
            if echo:
                yield
            else:
                with standard_streams_to(file):
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


@contextmanager
def _root_handlers(handlers: list[logging.Handler]) -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LINE))
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)  # of libraries: Orbax alone writes a hundred lines for every checkpoint
    logging.getLogger("flanscale").setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)
