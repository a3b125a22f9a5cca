"""In which order do cells run on this machine? A queue that keeps a few processes busy until nothing is left to start.

The queue holds no truth of its own: what is to be done is read from the run directories each time round. Hence two
queues at once share the work and the slots, and a new one goes on where a killed one stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from flanscale.orchestration.claim import claim
from flanscale.orchestration.liveness import View, asking_rarely, look, this_host, this_process
from flanscale.orchestration.plan import Cell, Plan
from flanscale.orchestration.reserve import give_back, reserve
from flanscale.orchestration.state import Failure, read_state, write_state
from flanscale.orchestration.stop import StopRequest
from flanscale.schema import ClusterConfig

POLL_SECONDS = 0.2
LOOK_SECONDS = 1.0  # between looks at cells that are in other hands
ASK_AGAIN_SECONDS = 2.0  # a stop signal may come before the job listens


class Job(Protocol):
    """A started cell."""

    def done(self) -> bool:
        """Whether its process has ended."""

    def stop(self) -> None:
        """Ask it to leave after a checkpoint."""

    def words(self) -> str:
        """What it said if it died before it had a log."""

    def forget(self) -> None:
        """Remove what starting it has left."""


Start = Callable[[Path, ClusterConfig], Job]


def slots(cluster: ClusterConfig) -> int:
    """How many cells run at once: as asked; else one where cells use GPUs, or as many as physical cores allow."""
    if cluster.parallelism or cluster.gpus:
        return cluster.parallelism or 1
    cores = min(psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0)))
    return max(1, cores // cluster.cpus)


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """The cheapest training first, so that a mistake common to all shows at once; then the longest first.

    Longest first keeps all slots busy to the end: no slot starts a long cell when the others have run dry.
    """
    if not cells:
        return []
    first = min(cells, key=lambda cell: (cell.cost.flops or float("inf"), cell.cost.parameters))
    rest = [cell for cell in cells if cell is not first]
    return [first, *sorted(rest, key=lambda cell: -cell.cost.flops)]


def run_queue(
    plan: Plan, start: Start, stop: StopRequest, tick: Callable[[], None], leaving: Callable[[], None]
) -> None:
    """Run all cells of a plan that are not finished; wait for those that other launches run.

    Returns when every cell has come to its end, or, once `stop` is set, when the cells started here have left.
    Each cell is attempted once; one that is stopped from outside after a checkpoint goes on.

    Args:
        plan: the cells.
        start: makes a process of a run directory.
        stop: set to end early; asked twice, it leaves the cells to themselves.
        tick: called a few times a second.
        leaving: called once when `stop` has been seen and cells have to leave.
    """
    queue = _Queue(plan, start)
    while not stop() and queue.busy():
        queue.turn()
        tick()
        time.sleep(POLL_SECONDS)
    if queue.mine:
        leaving()
    asked = 0.0
    while queue.mine and stop.times < 2:
        if time.monotonic() - asked > ASK_AGAIN_SECONDS:
            queue.ask_to_leave()
            asked = time.monotonic()
        queue.reap()
        tick()
        time.sleep(POLL_SECONDS)


class _Queue:
    def __init__(self, plan: Plan, start: Start) -> None:
        self.plan = plan
        self.began = time.time()
        self.start = start
        self.slots = max(slots(cluster) for cluster in plan.clusters)
        self.waiting = in_order(plan.cells)
        self.mine: dict[str, tuple[Cell, Job]] = {}
        self._known_jobs = asking_rarely()
        self._look_due = 0.0

    def busy(self) -> bool:
        return bool(self.waiting or self.mine)

    def turn(self) -> None:
        """Take note of what has ended, and start what fits."""
        self.reap()
        if self.waiting and len(self.mine) < self.slots and time.monotonic() >= self._look_due:
            taken = self._take()
            for cell in taken:
                self._start(cell)
            if not taken:  # the others are in other hands
                self._look_due = time.monotonic() + LOOK_SECONDS

    def reap(self) -> None:
        for cell, job in [pair for pair in self.mine.values() if pair[1].done()]:
            del self.mine[cell.id]
            if self._settle(cell, job):
                self.waiting.insert(0, cell)
            self._look_due = 0.0

    def ask_to_leave(self) -> None:
        for _, job in self.mine.values():
            job.stop()

    def _take(self) -> list[Cell]:
        """Reserve as many waiting cells as there are free slots; those that other launches fill are not free."""
        taken: list[Cell] = []
        with claim(self.plan.runs) as mine:  # two launches must not count the same slot as free
            if not mine:
                return []
            views = {cell.id: look(self.plan.directory(cell), self._known_jobs) for cell in self.waiting}
            self.waiting = [cell for cell in self.waiting if not self._over(views[cell.id])]
            free = self.slots - len(self.mine) - sum(_runs_here(views[cell.id]) for cell in self.waiting)
            for cell in self.waiting:
                startable = len(taken) < free and not views[cell.id].alive
                if startable and reserve(self.plan.directory(cell), cell, self._known_jobs):
                    taken.append(cell)
        self.waiting = [cell for cell in self.waiting if cell not in taken]
        return taken

    def _over(self, view: View) -> bool:
        """Finished, or failed while this launch was looking on."""
        return view.status == "finished" or (view.status == "failed" and view.state.updated >= self.began)

    def _start(self, cell: Cell) -> None:
        directory = self.plan.directory(cell)
        try:
            self.mine[cell.id] = (cell, self.start(directory, cell.config.cluster))
        except BaseException:
            give_back(directory)
            raise

    def _settle(self, cell: Cell, job: Job) -> bool:
        """Whether a cell whose process has ended is to be taken up again."""
        directory, me = self.plan.directory(cell), this_process()
        with claim(directory) as mine:
            state = read_state(directory)
            if mine and state.state == "queued" and (state.host, state.pid) == (me.host, me.pid):
                message = job.words() or "its process ended before it began"
                write_state(directory, state.failed(Failure("unknown", message, host=me.host)))
                return False
        job.forget()
        return state.state == "preempted" or look(directory, self._known_jobs).alive


def _runs_here(view: View) -> bool:
    return view.alive and view.state.job is None and view.state.host == this_host()
