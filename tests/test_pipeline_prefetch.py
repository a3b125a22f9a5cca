"""Prefetching: ahead of the consumer in work, never in state."""

import threading
import time
from typing import Any

import pytest

from flanscale.pipeline.prefetch import Prefetch


class Numbers:
    """Batches 0, 1, 2 …; drawing number `broken` fails."""

    def __init__(self, broken: int | None = None) -> None:
        self.number, self.broken = 0, broken

    def __next__(self) -> dict[str, Any]:
        if self.number == self.broken:
            raise OSError("the disk is gone")
        self.number += 1
        return {"number": self.number - 1}

    def state(self) -> dict[str, int]:
        return {"number": self.number}

    def restore(self, state: dict[str, int]) -> None:
        self.number = state["number"]


def number_of(batch: dict[str, Any]) -> int:
    return batch["number"]


def wait_until(happened: Any) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def test_batches_come_in_order_and_prepared_off_the_consumers_thread() -> None:
    threads = []

    def prepare(batch: dict[str, Any]) -> int:
        threads.append(threading.current_thread())
        return batch["number"] * 10

    with Prefetch(Numbers(), prepare) as ready:
        assert [next(ready) for _ in range(20)] == list(range(0, 200, 10))
    assert threading.current_thread() not in threads


def test_the_state_is_the_consumers_however_far_the_thread_ran_ahead() -> None:
    source = Numbers()
    with Prefetch(source, number_of, depth=4) as ready:
        assert ready.state() == {"number": 0}
        for taken in range(1, 4):
            next(ready)
            wait_until(lambda taken=taken: source.number >= taken + 4)
            assert ready.state() == {"number": taken}


def test_restoring_the_state_continues_with_the_next_unconsumed_batch() -> None:
    with Prefetch(Numbers(), number_of) as ready:
        for _ in range(7):
            next(ready)
        state = ready.state()
    again = Numbers()
    again.restore(state)
    with Prefetch(again, number_of) as ready:
        assert next(ready) == 7


def test_the_thread_draws_no_more_than_its_depth_ahead() -> None:
    source = Numbers()
    with Prefetch(source, number_of, depth=3) as ready:
        next(ready)
        wait_until(lambda: source.number >= 4)
        time.sleep(0.05)
        assert source.number <= 5  # one consumed, three ready, one waiting for room


@pytest.mark.parametrize("broken_part", ["draw", "prepare"])
def test_an_error_reaches_the_consumer_after_the_good_batches(broken_part: str) -> None:
    def prepare(batch: dict[str, Any]) -> int:
        if broken_part == "prepare" and batch["number"] == 3:
            raise OSError("the disk is gone")
        return batch["number"]

    ready = Prefetch(Numbers(broken=3 if broken_part == "draw" else None), prepare)
    assert [next(ready) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ready)
    assert ready.state() == {"number": 3}, "the place of the batch that failed"
    with pytest.raises(RuntimeError, match="closed"):
        next(ready)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_ends_the_thread_even_while_it_waits_for_room(taken: int) -> None:
    before = threading.active_count()
    with Prefetch(Numbers(), number_of, depth=1) as ready:
        for _ in range(taken):
            next(ready)
        time.sleep(0.02)
    assert threading.active_count() == before
