"""How does a plan become Slurm jobs? Its cells are reserved, cut into arrays and submitted, parents before children."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch import launcher, snapshot
from flanscale.orchestration.dispatch.options import further_options
from flanscale.orchestration.dispatch.request import check_request
from flanscale.orchestration.dispatch.reserve import give_back, reserve, submitted
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.planning.order import in_order
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.orchestration.running import slurm
from flanscale.orchestration.running.liveness import asking_rarely, look
from flanscale.orchestration.running.sources import SNAPSHOT_VARIABLE

T = TypeVar("T")

THREADS = 8
SHOWN = 6  # job ids in a line


@dataclass
class Submitted:
    """What Slurm has been given, and what it has not."""

    jobs: list[str] = field(default_factory=list)  # of whole arrays
    cells: int = 0
    held_up: Counter[str] = field(default_factory=Counter)  # cells that wait for a later launch, by what they wait for

    def words(self) -> list[str]:
        """What to tell."""
        shown = [*self.jobs[:SHOWN], *([f"{len(self.jobs) - SHOWN} more"] if len(self.jobs) > SHOWN else [])]
        told = [f"submitted {self.cells} cells to Slurm: job{'s' * (len(self.jobs) > 1)} {', '.join(shown)}"]
        return [*(told if self.cells else []), *held_up_words(self.held_up)]


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


def submit(plan: Plan, runner: str, order: str, retry: Collection[str], made: Submitted) -> Snapshot | None:
    """Submit every cell that neither is finished nor in somebody's hands nor has to wait for one that is not Slurm's.

    Args:
        plan: what to run.
        runner: the module that executes a cell, see `job.start`.
        order: see `order.in_order`.
        retry: classes of failure that are tried again, see `repeat.decide`.
        made: filled in as it goes, so that it tells what was submitted before an error.

    Returns:
        The copy of the sources that the jobs run; None when there was nothing to submit.

    Raises:
        ConfigError: Slurm refuses; what was reserved for it has been given back.
    """
    waiting = _Waiting(plan)
    try:
        ordered = in_order(plan, plan.cells, order)
        for generation in levels(ordered):
            _at_once(lambda cell: waiting.take(cell, retry), generation)
        made.held_up = waiting.held_up
        if not waiting.taken:
            return None
        copy = snapshot.take(plan.runs, [cell.run for cell in waiting.taken.values()])
        sizes: dict[str, int] = {}
        largest = slurm.largest_array()
        for level in levels([cell for cell in ordered if cell.id in waiting.taken]):
            for array in _cut(level, waiting.jobs_before(level), sizes, largest):
                directories = [plan.directory(cell) for cell in array.cells]
                cluster = replace(array.cells[0].config.cluster, parallelism=array.parallelism)
                jobs = launcher.submit_slurm(
                    directories, cluster, runner, plan.study.name, dependency=array.dependency, snapshot=copy
                )
                made.jobs.append(jobs[0].split("_")[0])
                made.cells += len(jobs)
                sizes[made.jobs[-1]] = len(jobs)
                for cell, job in zip(array.cells, jobs, strict=True):
                    waiting.handed_over(cell, job)
                _at_once(lambda pair: submitted(*pair), list(zip(directories, jobs, strict=True)))
    except BaseException:
        for cell in waiting.taken.values():
            give_back(plan.directory(cell))
        raise
    return copy


def _at_once(work: Callable[[T], None], items: Sequence[T]) -> None:
    """Do it with each, many together: most of the time a disk is waited for."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(work, items):
            pass


def _cut(level: Sequence[Cell], waits: Mapping[str, Jobs], sizes: Mapping[str, int], largest: int) -> list[Array]:
    """Arrays of cells that wait for none of each other, by resource shape."""
    shapes: dict[str, list[Cell]] = {}
    for cell in level:
        shapes.setdefault(repr(cell.config.cluster), []).append(cell)
    return [array for cells in shapes.values() for array in arrays(cells, waits, sizes, largest)]


class _Waiting:
    """The cells reserved for this launch, and the Slurm jobs of those that others wait for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
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
        elif reserve(directory, cell, self._known_jobs, retry):
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


@dataclass(frozen=True)
class Array:
    """Cells of one resource shape that one submission starts."""

    cells: tuple[Cell, ...]
    dependency: str = ""  # in the words of sbatch
    parallelism: int | None = None  # its share of the cap on cells that run at once


def levels(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by the length of the longest chain of parents among them; parents come before their children in `cells`."""
    depth: dict[str, int] = {}
    for cell in cells:
        depth[cell.id] = max((depth[parent] + 1 for parent in cell.parents if parent in depth), default=0)
    return [[cell for cell in cells if depth[cell.id] == level] for level in sorted(set(depth.values()))]


def arrays(cells: Sequence[Cell], waits: Mapping[str, Jobs], sizes: Mapping[str, int], largest: int) -> list[Array]:
    """Cells of one resource shape, cut into arrays.

    Args:
        cells: in the order in which they are to start.
        waits: the Slurm jobs that a cell's unfinished parents are, by its id; not there or empty where it has none.
        sizes: of every array already submitted, by its job id.
        largest: how many elements an array may have.
    """
    groups: dict[Jobs, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(waits.get(cell.id, frozenset()), []).append(cell)
    made = [array for parent in sizes for array in _corresponding(groups, parent, sizes[parent], largest)]
    for jobs, group in groups.items():
        dependency = _afterok(jobs, sizes) if jobs else ""
        made += [Array(tuple(group[n : n + largest]), dependency) for n in range(0, len(group), largest)]
    cap = cells[0].config.cluster.parallelism
    return [replace(array, parallelism=max(1, cap // len(made)) if cap else None) for array in made]


def _corresponding(groups: dict[Jobs, list[Cell]], parent: str, size: int, largest: int) -> Iterator[Array]:
    """Arrays whose elements each wait for the element of a parent array with the same number; taken out of `groups`.

    Only where every element has equally many children, and it makes fewer arrays than one for each element.
    """
    keys = [frozenset({f"{parent}_{n}"}) for n in range(size)]
    counts = {len(groups.get(key, ())) for key in keys}
    if len(counts) != 1 or not 0 < (each := counts.pop()) < size <= largest:
        return
    for n in range(each):
        yield Array(tuple(groups[key][n] for key in keys), f"aftercorr:{parent}")
    for key in keys:
        del groups[key]


def _afterok(jobs: Collection[str], sizes: Mapping[str, int]) -> str:
    """All of these jobs; a whole array under its own id."""
    whole = {array for array, size in sizes.items() if size > 1 and all(f"{array}_{n}" in jobs for n in range(size))}
    rest = [job for job in jobs if job.split("_")[0] not in whole]
    return f"afterok:{':'.join(sorted(whole) + sorted(rest))}"
