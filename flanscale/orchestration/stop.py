"""Has this process been asked to leave? Notes the signals by which people, submitit and Slurm stop a job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """False until a stop signal has come; polled at each training step, or in a loop that waits."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.times = 0

    def __call__(self) -> bool:
        return self.received is not None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: it only takes a note, because it may interrupt anything."""
        self.received = self.received or signal.Signals(number)
        self.times += 1


@contextmanager
def stop_requests(*numbers: signal.Signals) -> Iterator[StopRequest]:
    """Take over the handlers of some signals inside the `with` block."""
    stop = StopRequest()
    before = {number: signal.signal(number, stop.note) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
