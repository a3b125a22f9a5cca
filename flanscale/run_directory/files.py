"""What are the files of a run directory called, and how is one written, or said to be damaged?"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from flanscale.errors import ConfigError, one_line

CONFIG_FILE = "config.yaml"
STATE_FILE = "state.json"
PROVENANCE_FILE = "provenance.json"
METRICS_FILE = "metrics.jsonl"
MIXTURE_FILE = "mixture.json"
CONTAMINATION_FILE = "contamination.json"
LOG_FILE = "log.txt"
CHECKPOINTS = "checkpoints"
EVALUATIONS = "evaluations"
WANDB = "wandb"

READERS, PROBED = 16, 32
WORTH_SECONDS = 5e-4
"""Of waiting for an item: less, and threads would wait for each other instead."""
Item = TypeVar("Item")
Found = TypeVar("Found")


def identity_of(run_dir: Path) -> str:
    """The identity of its cell, with which the directory's name begins."""
    return run_dir.name.split("-", 1)[0]


def is_run(path: Path) -> bool:
    """Whether a folder is a run directory."""
    return (path / CONFIG_FILE).is_file()


def run_directories(runs: Path) -> list[Path]:
    """Every run directory in a folder, by name."""
    return sorted(path.parent for path in runs.glob(f"*/{CONFIG_FILE}"))


def read_each(read: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """`[read(item) for item in items]`; several at once where the first ones were mostly waited for, as on a server."""
    waiting = list(items)
    began, used = time.perf_counter(), time.thread_time()
    found: list[Any] = [read(item) for item in waiting[:PROBED]]
    waited = (time.perf_counter() - began) - (time.thread_time() - used)
    rest = waiting[PROBED:]
    if waited < PROBED * WORTH_SECONDS or not rest:
        return found + [read(item) for item in rest]
    more: list[Any] = [None] * len(rest)
    with ThreadPoolExecutor(READERS) as readers:
        parts = readers.map(lambda part: [read(item) for item in part], [rest[k::READERS] for k in range(READERS)])
        for k, part in enumerate(parts):
            more[k::READERS] = part
    return found + more


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, also when the machine stops; of two writers at once the later one stays."""
    scratch = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def cut_torn_line(path: Path) -> int:
    """Drop what a killed writer left of a last line, so that the next begins as one of its own; how many bytes."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        whole = end = file.seek(0, os.SEEK_END)
        file.seek(max(0, whole - 1))
        if file.read() not in (b"", b"\n"):
            file.seek(0)
            end = file.read().rfind(b"\n") + 1
            file.truncate(end)
    return whole - end


@contextmanager
def damaged_told(path: Path, advice: str = "") -> Iterator[None]:
    """What a file that is not as it was written makes its reader raise, as one line."""
    try:
        yield
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or one_line(error)}{advice}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zlib.error, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}: {one_line(error)}){advice}") from error


def check_format(path: Path, written: int, known: int) -> None:
    """Raise `ConfigError` where a file is of another format than this version writes."""
    if written > known:
        raise ConfigError(f"{path} is from a newer flanscale (format {written}, not {known}): update flanscale")
    if written != known:
        raise ValueError(f"format {written}, not {known}")
