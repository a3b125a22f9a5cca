"""Every way to end has its class: what is no fault of the cell's is told apart from what is."""

from __future__ import annotations

import errno
import os

import pytest
from jax.errors import JaxRuntimeError

from flanscale.errors import DataError, NonFiniteLoss, Preempted, VocabularyError
from flanscale.orchestration.running.failure import classify, failure_of


class ModuleError(MemoryError):
    """A subclass, as libraries like to define them."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def lost(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/run/metrics.jsonl")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out_of_memory"),
        (ModuleError(), "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (OSError("something"), "unknown"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "unknown"),
        (KeyboardInterrupt(), "unknown"),
        (VocabularyError("no file"), "config"),
        (JaxRuntimeError("INTERNAL: whatever"), "unknown"),
        (JaxRuntimeError("UNAVAILABLE: the coordination service is gone"), "node"),
        (JaxRuntimeError("INTERNAL: Gloo all-reduce failed: Connection closed by peer [10.0.0.2]:4"), "node"),
        (JaxRuntimeError("INTERNAL: NCCL operation failed: unhandled system error"), "node"),
        (JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes"), "out_of_memory"),
        (ValueError("RESOURCE_EXHAUSTED: Error writing d/0: No space left on device"), "node"),
        (caused(DataError("cannot read tasks.tsv"), lost(errno.EIO)), "node"),
        (caused(DataError("no such task"), KeyError("x")), "data"),
        (caused(Preempted("stopped at step 3"), lost(errno.ENOSPC)), "preempted"),
        (caused(NonFiniteLoss("6 steps in a row"), lost(errno.ENOSPC)), "nonfinite_loss"),
    ],
)
def test_exceptions_are_sorted_into_classes(error: BaseException, kind: str) -> None:
    assert classify(error) == kind


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "free space"),
        (errno.EROFS, "mounted and writable"),
        (errno.ESTALE, "mounted and writable"),
        (errno.EIO, "mounted and writable"),
    ],
)
def test_a_file_system_that_fails_is_the_nodes_fault_and_the_message_says_where_and_what_to_do(
    number: int, advice: str
) -> None:
    failure = failure_of(caused(RuntimeError("checkpoint not saved"), lost(number)), step=3, host="h")
    assert failure.kind == "node"
    assert failure.message.startswith(f"/data/run/metrics.jsonl: {os.strerror(number)}; ")
    assert advice in failure.message
    assert "checkpoint not saved" in (failure.traceback or "")


def test_an_error_that_an_unrelated_one_preceded_in_a_suppressed_context_keeps_its_class() -> None:
    def fail() -> None:
        try:
            raise lost(errno.EIO)
        except OSError:
            raise RuntimeError("a fault of the cell's") from None

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert classify(caught.value) == "unknown"
