"""When will it be finished? From the pace of what runs and of what has finished; pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flanscale.orchestration.planning.cost import estimated_seconds


@dataclass(frozen=True)
class Work:
    """One cell's share of a study."""

    id: str
    flops: float
    seconds: float  # spent so far
    finished: bool
    left: float | None = None  # seconds, by its own pace; None before it has one
    parents: tuple[str, ...] = ()  # ids of cells that must be finished before it starts


def remaining(works: Sequence[Work]) -> dict[str, float]:
    """Seconds that each unfinished cell still takes, by id; without the cells of which nobody can tell.

    A running cell's own pace goes first. The others are taken to need seconds in proportion to their FLOPs, as the
    finished cells did, or, before one has finished, as the running ones will have.
    """
    measured = {work.id: work.seconds for work in works if work.finished} or {
        work.id: work.seconds + work.left for work in works if work.left is not None
    }
    guess = estimated_seconds({work.id: work.flops for work in works}, measured) or {}
    left = {}
    for work in works:
        if work.left:
            left[work.id] = work.left
        elif not work.finished and work.id in guess:
            left[work.id] = max(guess[work.id] - work.seconds, 0.0)
        elif work.left is not None:
            left[work.id] = work.left  # at its last step; what comes after it is not known
    return left


def makespan(works: Sequence[Work], left: Mapping[str, float], at_once: int) -> float | None:
    """Seconds until all are finished, so many at once and each after its parents; None where one is not known."""
    ahead = [work for work in works if not work.finished]
    if any(work.id not in left for work in ahead):
        return None
    total = sum(left[work.id] for work in ahead) / max(at_once, 1)
    return max([total, *_ends(ahead, left).values()], default=0.0)


def _ends(works: Sequence[Work], left: Mapping[str, float]) -> dict[str, float]:
    """Seconds until each is finished if nothing but its parents kept it waiting."""
    ends: dict[str, float] = {}
    by_id = {work.id: work for work in works}

    def end(work: Work) -> float:
        if work.id not in ends:
            ends[work.id] = left[work.id]  # also what a circle would find, which no plan has
            ends[work.id] += max((end(by_id[parent]) for parent in work.parents if parent in by_id), default=0.0)
        return ends[work.id]

    for work in works:
        end(work)
    return ends
