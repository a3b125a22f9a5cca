"""Has this process been asked to leave? Notes the signals by which people, submitit and Slurm stop a job."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
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


@contextmanager
def leaving_within(seconds: float, leave: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Calls `leave` with the signal, in a thread, when the block has not ended so many seconds after a stop signal.

    The handlers above run only between two instructions of the main thread, of which a compilation may be one; the byte
    that the system writes for every signal comes at once. Only signals that have a handler count.
    """
    over = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        number = os.read(reading, 1)
        if number and not over.is_set() and not over.wait(seconds):
            leave(signal.Signals(number[0]))

    thread = threading.Thread(target=wait, name="leaving", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writing)
        thread.join()
        os.close(reading)
