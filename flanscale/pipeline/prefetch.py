"""How is the next batch made ready while the device works, without losing the place in the data?

The background thread runs ahead of the training; `state()` is therefore not where the thread stands but where the
consumer does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Batches(Protocol):
    """An endless iterator of batches that can say where it stands and go back there."""

    def __next__(self) -> dict[str, Any]: ...
    def state(self) -> dict[str, int]: ...
    def restore(self, state: dict[str, int]) -> None: ...


class Prefetch(Generic[T]):
    """Draws batches in a thread and keeps up to `depth` of them, made ready by `prepare`. Close it after use."""

    def __init__(self, batches: Batches, prepare: Callable[[dict[str, Any]], T], depth: int = 2) -> None:
        self._batches, self._prepare = batches, prepare
        self._state = batches.state()
        self._ready: Queue[tuple[T, dict[str, int]] | BaseException] = Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        """The next batch; raises what drawing it raised."""
        if self._closed.is_set():
            raise RuntimeError("the prefetcher is closed")
        item = self._ready.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        batch, self._state = item
        return batch

    def state(self) -> dict[str, int]:
        """Where the data stands for a consumer of the batches given so far."""
        return self._state

    def close(self) -> None:
        """Stops the thread and waits for it."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._ready.get_nowait()
            except Empty:
                self._thread.join(0.01)

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                batch = next(self._batches)
                state = self._batches.state()
                self._put((self._prepare(batch), state))
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._closed.is_set():
            with suppress(Full):
                self._ready.put(item, timeout=0.1)
                break
