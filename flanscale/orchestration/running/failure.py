"""Why did it fail? Sorts an exception into a failure class by name, number and message, importing nothing for it."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from flanscale.orchestration.running.state import Failure

# The first name found among an exception's classes decides.
CLASS_OF_EXCEPTION = {
    "ConfigError": "config",
    "VocabularyError": "config",
    "WeightsError": "config",
    "OtherRun": "config",
    "DataError": "data",
    "NonFiniteLoss": "nonfinite_loss",
    "Preempted": "preempted",
    "MemoryError": "out_of_memory",
    "CutOff": "node",
}
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

DEVICE_ERRORS = ("XlaRuntimeError", "JaxRuntimeError")
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

# Their messages are for the user.
USER_ERRORS = ("ConfigError", "VocabularyError", "WeightsError", "DataError", "AnalysisError")


def is_user_error(error: BaseException) -> bool:
    """Whether the message alone tells the user what to do."""
    return any(kind.__name__ in USER_ERRORS for kind in type(error).__mro__)


def classify(error: BaseException) -> str:
    """The failure class of an exception."""
    named = _class_by_name(error)
    if named in CERTAIN:
        return named
    if file_system_trouble(error):
        return "node"
    if named:
        return named
    names = [kind.__name__ for kind in type(error).__mro__]
    if any(name in DEVICE_ERRORS for name in names):
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


def _class_by_name(error: BaseException) -> str | None:
    for kind in type(error).__mro__:
        if kind.__name__ in CLASS_OF_EXCEPTION:
            return CLASS_OF_EXCEPTION[kind.__name__]
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that led to it, the last one first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
