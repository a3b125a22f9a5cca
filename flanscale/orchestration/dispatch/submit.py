"""How does a plan become Slurm jobs? Its cells are reserved, cut into arrays and submitted, parents before children."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch import launcher, snapshot
from flanscale.orchestration.dispatch.options import further_options
from flanscale.orchestration.dispatch.request import NoRoom, check_request
from flanscale.orchestration.dispatch.reserve import give_back, reserve, submitted
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.planning.figures import some
from flanscale.orchestration.planning.order import in_order
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.orchestration.running import slurm
from flanscale.orchestration.running.liveness import asking_rarely, look
from flanscale.orchestration.running.sources import SNAPSHOT_VARIABLE

T = TypeVar("T")

THREADS = 8
ONE_TO_ONE = "aftercorr"  # sbatch's word for a dependency of elements of the same number
SHOWN = 6  # job ids in a line


@dataclass
class Submitted:
    """What Slurm has been given, and what it has not."""

    jobs: list[str] = field(default_factory=list)  # of whole arrays
    cells: int = 0
    elements: int = 0  # of all arrays: fewer than cells where several cells share a job
    left: int = 0  # cells that Slurm has no room for yet
    follower: str | None = None  # the job that submits these
    held_up: Counter[str] = field(default_factory=Counter)  # cells that wait for a later launch, by what they wait for

    def words(self) -> list[str]:
        """What to tell."""
        count = f"{self.cells} of {self.cells + self.left}" if self.left else f"{self.cells}"
        rest = f"; the rest follow by job {self.follower} when there is room" if self.left and self.follower else ""
        packed = f" in {self.elements} job{'s' * (self.elements > 1)}" if self.elements < self.cells else ""
        jobs = f": job{'s' * (len(self.jobs) > 1)} {some(self.jobs, SHOWN)}" if self.jobs else ""
        told = [f"submitted {count} cells to Slurm{packed}{jobs}{rest}"]
        return [*(told if self.cells or self.follower else []), *held_up_words(self.held_up)]


def held_up_words(held_up: Counter[str]) -> list[str]:
    """One line for every cell that others start from and that will not finish by itself."""
    return [
        f"{count} {'cells are' if count > 1 else 'cell is'} left for a later launch: they start from {cause}"
        for cause, count in held_up.items()
    ]


def check_slurm(plan: Plan) -> None:
    """Raise `ConfigError` where nothing can be submitted from here, or no node has what a cell asks for."""
    if not slurm.available():
        raise ConfigError("cluster=slurm: no sbatch on this host; launch from a login node, or use cluster=local")
    if SNAPSHOT_VARIABLE in os.environ and (job := slurm.current_job()):
        raise ConfigError(f"this is Slurm job {job}, a cell of a study, and a cell launches none: use a login node")
    known = slurm.nodes()
    for cluster in plan.clusters:
        further_options(cluster)
        check_request(cluster, known)


LeaveRest = Callable[[Collection[str], Collection[str], Snapshot], str]


def submit(
    plan: Plan,
    runner: str,
    order: str,
    retry: Collection[str],
    made: Submitted,
    *,
    leave_rest: LeaveRest | None = None,
    only: Collection[str] | None = None,
    snapshot_given: Snapshot | None = None,
) -> Snapshot | None:
    """Submit every cell that neither is finished nor in somebody's hands nor has to wait for one that is not Slurm's.

    What Slurm has no room for now, but would have later, is left, and counted in `made`.

    Args:
        plan: what to run.
        runner: the module that executes a cell, see `job.start`.
        order: see `order.in_order`.
        retry: classes of failure that are tried again, see `repeat.decide`.
        made: filled in as it goes, so that it tells what was submitted before an error.
        leave_rest: submits the job that goes on with cells, by id, when the jobs given have ended, and returns its id.
            Asked as soon as Slurm has refused an array for want of room, before a part takes what there is.
        only: ids of the cells to submit; None: all.
        snapshot_given: the copy of the sources that the jobs run; None: one is made.

    Returns:
        The copy of the sources that the jobs run; None when there was nothing to submit.

    Raises:
        NoRoom: Slurm takes not a single job, not even the one that submits the rest.
        ConfigError: Slurm refuses; what was reserved for it has been given back.
    """
    waiting = _Waiting(plan, only)
    try:
        ordered = in_order(plan, plan.cells, order)
        for generation in levels(ordered):
            _at_once(lambda cell: waiting.take(cell, retry), generation)
        made.held_up = waiting.held_up
        if not waiting.taken:
            return None
        runs = [cell.run for cell in waiting.taken.values()]
        copy = snapshot_given or snapshot.take(plan.runs, runs)
        if snapshot_given:
            copy.used_by(runs)
        _Submission(plan, runner, copy, waiting, made, leave_rest).submit(ordered)
    finally:
        for cell in waiting.taken.values():  # those that Slurm has are not among them any more
            give_back(plan.directory(cell))
    return copy


@dataclass
class _Submission:
    """Cells on their way to Slurm."""

    plan: Plan
    runner: str
    copy: Snapshot
    waiting: _Waiting
    made: Submitted
    leave_rest: LeaveRest | None
    sizes: dict[str, int] = field(default_factory=dict)  # of the arrays submitted, by job id

    def submit(self, ordered: Sequence[Cell]) -> None:
        """Submit what has been taken, parents first, as far as there is room."""
        largest, taken = slurm.largest_array(), self.waiting.taken
        try:
            levelled = [cell for cell in ordered if cell.id in taken]
            parents = {parent for cell in levelled for parent in cell.parents}
            for level in levels(levelled):
                for array in _cut(level, parents, self.waiting.jobs_before(level), self.sizes, largest):
                    self._in_parts(array)
        except NoRoom:
            if not self.made.follower and (self.leave_rest or not self.made.cells):
                raise
            self.made.left = len(taken)

    def _in_parts(self, array: Array) -> None:
        """All of an array in one go, or in parts half as large each time that Slurm has no room."""
        rest, size = array.units, len(array.units)
        while rest:
            try:
                self._hand_over(array, rest[:size])
            except NoRoom:
                self._leave()  # before a part takes the room for this job
                size = min(size, len(rest))
                if size == 1 or array.dependency.startswith(ONE_TO_ONE):  # a part would be numbered from 0 again
                    raise
                size = (size + 1) // 2
                continue
            rest = rest[size:]

    def _hand_over(self, array: Array, units: Sequence[Unit]) -> None:
        directories = [[self.plan.directory(cell) for cell in unit] for unit in units]
        share = max(1, array.parallelism * len(units) // len(array.units)) if array.parallelism else None
        cluster = replace(units[0][0].config.cluster, parallelism=share)
        name, dependency = self.plan.study.name, array.dependency
        jobs = launcher.submit_slurm(directories, cluster, self.runner, name, dependency=dependency, snapshot=self.copy)
        self.made.jobs.append(jobs[0].split("_")[0])
        self.made.elements += len(jobs)
        self.sizes[self.made.jobs[-1]] = len(jobs)
        pairs = [(cell, job) for unit, job in zip(units, jobs, strict=True) for cell in unit]
        self.made.cells += len(pairs)
        for cell, job in pairs:
            self.waiting.handed_over(cell, job)
        _at_once(lambda pair: submitted(self.plan.directory(pair[0]), pair[1]), pairs)

    def _leave(self) -> None:
        if self.leave_rest and not self.made.follower:
            self.made.follower = self.leave_rest(self.made.jobs, list(self.waiting.taken), self.copy)


def _at_once(work: Callable[[T], None], items: Sequence[T]) -> None:
    """Do it with each, many together: most of the time a disk is waited for."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(work, items):
            pass


def _cut(
    level: Sequence[Cell], parents: Set[str], waits: Mapping[str, Jobs], sizes: Mapping[str, int], largest: int
) -> list[Array]:
    """Arrays of cells that wait for none of each other, by resource shape; one that others wait for shares no job."""
    shapes: dict[tuple[str, int], list[Cell]] = {}
    for cell in level:
        cluster = cell.config.cluster
        shapes.setdefault((repr(cluster), 1 if cell.id in parents else cluster.cells_per_job), []).append(cell)
    return [array for (_, per_job), cells in shapes.items() for array in arrays(cells, waits, sizes, largest, per_job)]


class _Waiting:
    """The cells reserved for this launch, and the Slurm jobs of those that others wait for."""

    def __init__(self, plan: Plan, only: Collection[str] | None) -> None:
        self.plan = plan
        self.only = only  # ids of the cells that may be taken; None: all
        self.taken: dict[str, Cell] = {}  # by id; not yet in Slurm's hands
        self.held_up: Counter[str] = Counter()
        self._jobs: dict[str, str] = {}
        self._blocked: dict[str, str] = {}  # why a cell will not finish as long as nothing else is done
        self._known_jobs = asking_rarely()

    def take(self, cell: Cell, retry: Collection[str]) -> None:
        """Reserve a cell, unless it is done, in other hands, or one of its parents is neither done nor Slurm's."""
        directory = self.plan.directory(cell)
        if parent := next((parent for parent in cell.parents if parent in self._blocked), None):
            self._blocked[cell.id] = self._blocked[parent]
            self.held_up[self._blocked[parent]] += 1
        elif (self.only is None or cell.id in self.only) and reserve(directory, cell, self._known_jobs, retry):
            self.taken[cell.id] = cell
        elif (view := look(directory, self._known_jobs)).alive and view.state.job:
            self._jobs[cell.id] = view.state.job
        elif view.status != "finished":
            self._blocked[cell.id] = f"{cell.run}, which {'runs outside Slurm' if view.alive else 'failed'}"

    def jobs_before(self, cells: Sequence[Cell]) -> dict[str, Jobs]:
        """The jobs of each cell's unfinished parents."""
        return {
            cell.id: frozenset(self._jobs[parent] for parent in cell.parents if parent in self._jobs) for cell in cells
        }

    def handed_over(self, cell: Cell, job: str) -> None:
        """Slurm has it."""
        del self.taken[cell.id]
        self._jobs[cell.id] = job


# --- arrays -----------------------------------------------------------------------------------------------------------
Jobs = frozenset[str]
Unit = tuple[Cell, ...]  # the cells of one job


@dataclass(frozen=True)
class Array:
    """Jobs of one resource shape that one submission starts."""

    units: tuple[Unit, ...]
    dependency: str = ""  # in the words of sbatch
    parallelism: int | None = None  # its share of the cap on cells that run at once


def levels(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by the length of the longest chain of parents among them; parents come before their children in `cells`."""
    depth: dict[str, int] = {}
    for cell in cells:
        depth[cell.id] = max((depth[parent] + 1 for parent in cell.parents if parent in depth), default=0)
    return [[cell for cell in cells if depth[cell.id] == level] for level in sorted(set(depth.values()))]


def arrays(
    cells: Sequence[Cell], waits: Mapping[str, Jobs], sizes: Mapping[str, int], largest: int, per_job: int = 1
) -> list[Array]:
    """Cells of one resource shape, cut into arrays.

    Args:
        cells: in the order in which they are to start.
        waits: the Slurm jobs that a cell's unfinished parents are, by its id; not there or empty where it has none.
        sizes: of every array already submitted, by its job id.
        largest: how many elements an array may have.
        per_job: how many cells that wait for the same jobs an element may hold.
    """
    alike: dict[Jobs, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(waits.get(cell.id, frozenset()), []).append(cell)
    groups = {jobs: _dealt_out(group, per_job) for jobs, group in alike.items()}
    made = [array for parent in sizes for array in _corresponding(groups, parent, sizes[parent], largest)]
    for jobs, group in groups.items():
        dependency = _afterok(jobs, sizes) if jobs else ""
        made += [Array(tuple(group[n : n + largest]), dependency) for n in range(0, len(group), largest)]
    cluster = cells[0].config.cluster
    cap = cluster.parallelism and max(1, cluster.parallelism // cluster.cells_at_once)
    return [replace(array, parallelism=max(1, cap // len(made)) if cap else None) for array in made]


def _dealt_out(cells: Sequence[Cell], per_job: int) -> list[Unit]:
    """Jobs of at most so many cells each, in turns: all begin with cells that are to start early."""
    jobs = math.ceil(len(cells) / per_job)
    return [tuple(cells[first::jobs]) for first in range(jobs)]


def _corresponding(groups: dict[Jobs, list[Unit]], parent: str, size: int, largest: int) -> Iterator[Array]:
    """Arrays whose elements each wait for the element of a parent array with the same number; taken out of `groups`.

    Only where every element has equally many children, and it makes fewer arrays than one for each element.
    """
    keys = [frozenset({f"{parent}_{n}"}) for n in range(size)]
    counts = {len(groups.get(key, ())) for key in keys}
    if len(counts) != 1 or not 0 < (each := counts.pop()) < size <= largest:
        return
    for n in range(each):
        yield Array(tuple(groups[key][n] for key in keys), f"{ONE_TO_ONE}:{parent}")
    for key in keys:
        del groups[key]


def _afterok(jobs: Collection[str], sizes: Mapping[str, int]) -> str:
    """All of these jobs; a whole array under its own id."""
    whole = {array for array, size in sizes.items() if size > 1 and all(f"{array}_{n}" in jobs for n in range(size))}
    rest = [job for job in jobs if job.split("_")[0] not in whole]
    return f"afterok:{':'.join(sorted(whole) + sorted(rest))}"
