"""Why did it fail? Sorts an exception into a failure class by its type, number and message; never loads JAX for it."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from flanscale.errors import FlanscaleError
from flanscale.run_directory import Failure

CERTAIN = ("nonfinite_loss", "preempted", "out_of_memory")  # whatever else went wrong on the way

# What to do about a file system that has stopped working; the numbers are of errors that are no fault of the cell's.
FREE_SPACE = "free space there, or launch with other paths.runs and paths.cache"
REMOUNT = "see that it is mounted and writable on this host"
FILE_SYSTEM_ERRORS = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EROFS: REMOUNT,
    errno.ESTALE: REMOUNT,
    errno.EIO: REMOUNT,
    errno.ENOTCONN: REMOUNT,
    errno.ESHUTDOWN: REMOUNT,
}

DEVICE_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
LOST_DEVICE = ("DEADLINE_EXCEEDED", "UNAVAILABLE", "DATA_LOSS", "CUDA_ERROR_ECC_UNCORRECTABLE", "CUDA_ERROR_UNKNOWN")
LOST_PEER = (  # as gloo, NCCL and JAX's coordination service put it
    "onnection closed by peer",
    "onnection reset by peer",
    "heartbeat timeout",
    "remote process exited",
    "unhandled system error",
    "Socket closed",
)


def classify(error: BaseException) -> str:
    """The failure class of an exception."""
    own = _own_class(error)
    if own in CERTAIN:
        return own
    if file_system_trouble(error):
        return "node"
    if own:
        return own
    if _of_a_device(error):
        if any(words in str(error) for words in LOST_PEER):
            return "node"
        if DEVICE_OUT_OF_MEMORY in str(error):
            return "out_of_memory"
        if any(status in str(error) for status in LOST_DEVICE):
            return "node"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "out_of_memory"
    return "unknown"


def file_system_trouble(error: BaseException, run_dir: Path | None = None) -> str | None:
    """What is wrong with a file system, where, and what to do, in one line; None when that is not the reason.

    Args:
        run_dir: is named where the error itself names no file, as one of an open file does not.
    """
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in FILE_SYSTEM_ERRORS:
            where = link.filename2 or link.filename or run_dir or "a file of the run"
            return f"{os.fsdecode(where)}: {os.strerror(link.errno)}; {FILE_SYSTEM_ERRORS[link.errno]}"
    for link in _chain(error):  # libraries in C++ say it in their own words
        for number, advice in FILE_SYSTEM_ERRORS.items():
            if os.strerror(number) in str(link):
                return f"{_line(link)}; {advice}"
    return None


def failure_of(error: BaseException, *, step: int | None, host: str, run_dir: Path | None = None) -> Failure:
    """The machine-readable record of an exception that ended an attempt in a run directory."""
    kind = classify(error)
    message = _line(error)
    if kind == "node":
        message = file_system_trouble(error, run_dir) or message
    if kind == "unknown":
        message = f"{type(error).__name__}: {message}"
    return Failure(kind, message, "".join(traceback.format_exception(error)), step, host)


def _own_class(error: BaseException) -> str | None:
    """As the error itself says."""
    if isinstance(error, MemoryError):
        return "out_of_memory"
    return error.failure_class if isinstance(error, FlanscaleError) else None


def _of_a_device(error: BaseException) -> bool:
    """Whether JAX raised it about its devices or the other processes."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(error, jax.errors.JaxRuntimeError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that led to it, the last one first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
