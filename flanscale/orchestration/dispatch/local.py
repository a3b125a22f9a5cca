"""In which order do cells run on this machine? A queue that keeps a few processes busy until nothing is left to start.

The queue holds no truth of its own: what is to be done is read from the run directories each time round. Hence two
queues at once share the work and the slots, and a new one goes on where a killed one stopped.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from flanscale.orchestration.dispatch.reserve import give_back, reserve
from flanscale.orchestration.planning.order import in_order
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.orchestration.running import repeat
from flanscale.orchestration.running.claim import claim
from flanscale.orchestration.running.liveness import View, asking_rarely, look, this_host, this_process
from flanscale.orchestration.running.repeat import decide
from flanscale.orchestration.running.stop import StopRequest
from flanscale.orchestration.running.withheld import withheld
from flanscale.run_directory import Failure, read_state, write_state
from flanscale.schema import ClusterConfig

POLL_SECONDS = 0.2
LOOK_SECONDS = 1.0  # between looks at cells that are in other hands
ASK_AGAIN_SECONDS = 2.0  # between two requests to leave


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


@dataclass(frozen=True)
class Done:
    """What a queue has done."""

    started: int  # processes
    held_up: Counter[str]  # cells that were not started, by the parent that they would start from


def run_queue(
    plan: Plan,
    start: Start,
    stop: StopRequest,
    tick: Callable[[], None],
    leaving: Callable[[], None],
    order: str = "longest",
    retry: Collection[str] = (),
) -> Done:
    """Run all cells of a plan that are not finished; wait for those that other launches run.

    Returns when every cell has come to its end, or, once `stop` is set, when the cells started here have left.
    Each cell is attempted once; one that is stopped from outside after a checkpoint goes on. A cell waits for its
    parents, and is left when one of them ends without a result.

    Args:
        plan: the cells.
        start: makes a process of a run directory.
        stop: set to end early; asked twice, it leaves the cells to themselves.
        tick: called a few times a second.
        leaving: called once when `stop` has been seen and cells have to leave.
        order: see `order.in_order`.
        retry: classes of failure that are tried again, see `repeat.decide`.
    """
    queue = _Queue(plan, start, order, retry)
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
    return Done(queue.started, queue.held_up)


class _Queue:
    def __init__(self, plan: Plan, start: Start, order: str, retry: Collection[str]) -> None:
        self.plan = plan
        self.retry = retry
        self.started = 0
        self.held_up: Counter[str] = Counter()
        self.began = time.time()
        self.start = start
        self.slots = max(slots(cluster) for cluster in plan.clusters)
        self.waiting = in_order(plan, plan.cells, order)
        self._blocked: dict[str, str] = {}  # cells that will not finish in this launch, by id: the first that does not
        self.mine: dict[str, tuple[Cell, Job]] = {}
        self._known_jobs = asking_rarely()
        self._look_due = 0.0
        self._attempts: dict[str, int] = {}  # of each cell when this launch first saw it
        self._not_before: dict[str, float] = {}  # monotonic seconds; of cells that were cut off without getting on

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
            elif (status := look(self.plan.directory(cell), self._known_jobs).status) != "finished":
                self._blocked[cell.id] = f"{cell.run}, which {'failed' if status == 'failed' else 'was interrupted'}"
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
            self.waiting = [cell for cell in self.waiting if not self._over(cell, views[cell.id])]
            now = time.monotonic()
            unfinished = {cell.id for cell in self.waiting} | set(self.mine)
            free = self.slots - len(self.mine) - sum(_runs_here(views[cell.id]) for cell in self.waiting)
            for cell in self.waiting:
                ready = unfinished.isdisjoint(cell.parents) and self._not_before.get(cell.id, now) <= now
                startable = ready and len(taken) < free and not views[cell.id].alive
                directory = self.plan.directory(cell)
                if not startable or not reserve(directory, cell, self._known_jobs, self.retry):
                    continue
                if withheld(directory, self.began):  # by one who looked before it was reserved
                    give_back(directory)
                else:
                    taken.append(cell)
        ids = {cell.id for cell in taken}
        self.waiting = [cell for cell in self.waiting if cell.id not in ids]
        return taken

    def _over(self, cell: Cell, view: View) -> bool:
        """Finished; failed for good or while this launch was looking on; or to start from one that did."""
        if view.status == "finished":
            return True
        self._attempts.setdefault(cell.id, view.state.attempt)
        if withheld(self.plan.directory(cell), self.began):
            self._blocked[cell.id] = f"{cell.run}, which was cancelled"
            return True
        if view.alive:
            return False
        if parent := next((parent for parent in cell.parents if parent in self._blocked), None):
            self._blocked[cell.id] = self._blocked[parent]
            self.held_up[self._blocked[parent]] += 1
            return True
        failed_now = view.status == "failed" and view.state.attempt > self._attempts[cell.id]
        if failed_now or decide(view, self.retry).action == "failed":
            self._blocked[cell.id] = f"{cell.run}, which failed"
            return True
        return False

    def _start(self, cell: Cell) -> None:
        directory = self.plan.directory(cell)
        self.started += 1
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
                words = job.words()  # none where it was killed from outside
                kind, message = ("unknown", words) if words else ("interrupted", "its process ended before it began")
                write_state(directory, state.failed(Failure(kind, message, host=me.host)))
                return False
        job.forget()
        self._not_before[cell.id] = time.monotonic() + repeat.wait_seconds(state, cell.config.cluster)
        return state.state == "preempted" or look(directory, self._known_jobs).alive


def _runs_here(view: View) -> bool:
    return view.alive and view.state.job is None and view.state.host == this_host()


# --- outliving the terminal -------------------------------------------------------------------------------------------


def detached(work: Callable[[], int], log: Path) -> int:
    """Do `work` in a child process of its own session, its words appended to a log; returns its pid at once.

    The child ends with `work`'s result as its exit code. Call it while this process has no other threads.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        with log.open("a") as words, Path(os.devnull).open() as nothing:
            for stream, target in ((0, nothing), (1, words), (2, words)):
                os.dup2(target.fileno(), stream)
        code = work()
    except BaseException:  # nobody above this frame belongs to the child
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
