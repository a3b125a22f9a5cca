"""What becomes of cells that Slurm had no room for? A small job submits them, bit by bit, and the report after them.

How many jobs a user may have is Slurm's to say: an array that is refused for it is offered in smaller parts, and what
is left when nothing more is taken is this job's, which comes back until nothing is left. It is submitted before the
parts, which may take all the room there is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flanscale.orchestration.dispatch import closing, launcher
from flanscale.orchestration.dispatch.request import NoRoom
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.dispatch.submit import Submitted, submit
from flanscale.orchestration.planning.plan import Plan
from flanscale.orchestration.running import repeat, slurm
from flanscale.orchestration.running.liveness import asking_rarely, look
from flanscale.orchestration.running.withheld import withheld
from flanscale.run_directory import read_state

AGAIN_SECONDS = 300.0  # between two looks for room
EXIT_LATER = 75


@dataclass(frozen=True)
class Rest:
    """Cells of a launch that are still to be submitted, and all that it takes to do so."""

    plan: Plan
    runner: str
    order: str
    retry: tuple[str, ...]
    snapshot: Snapshot
    attempts: Mapping[str, int]  # of each cell when it was left, by id: one that has begun since is not started again
    began: float  # seconds since the epoch; cells cancelled since are left alone
    closing: tuple[str, str, str | None] | None  # the arguments of `closing.close`; None where nobody wants a report

    def ids(self) -> set[str]:
        """The cells that nobody has begun or cancelled since."""
        cells = {cell.id: self.plan.directory(cell) for cell in self.plan.cells if cell.id in self.attempts}
        return {
            cell
            for cell, directory in cells.items()
            if read_state(directory).attempt == self.attempts[cell] and not withheld(directory, self.began)
        }


def leave_rest(rest: Rest, jobs: Collection[str]) -> str:
    """Submit the job that goes on with the rest, some minutes later and when these jobs have ended; returns its id.

    It has no environment of its own, since the jobs that it submits inherit it.

    Raises:
        ConfigError: as `launcher.submit_slurm`.
    """
    cluster, name = rest.plan.clusters[0], f"{rest.plan.study.name}-rest"
    call, runs = (go_on, rest), rest.plan.runs
    return launcher.submit_after(list(jobs), call, runs, cluster, name, rest.snapshot, {}, AGAIN_SECONDS)


def go_on(rest: Rest) -> None:
    """Submit as much of the rest as there is room for: what that job does.

    Raises:
        SystemExit: something is left; the job is back in the queue (75).
    """
    made = Submitted()
    try:
        submit(rest.plan, rest.runner, rest.order, rest.retry, made, only=rest.ids(), snapshot_given=rest.snapshot)
    except NoRoom as error:
        made.left = len(rest.ids())
        print(error)
    for line in made.words():
        print(line)
    if not made.left:
        _close(rest)
    elif (job := slurm.current_job()) and repeat.put_back(job, AGAIN_SECONDS):
        raise SystemExit(EXIT_LATER)


def _close(rest: Rest) -> None:
    """Let the report follow the cells that are in Slurm's hands, or draw it where none is any more."""
    if rest.closing is None:
        return
    known = asking_rarely()
    views = [look(rest.plan.directory(cell), known) for cell in rest.plan.cells]
    jobs = sorted({view.state.job.split("_")[0] for view in views if view.alive and view.state.job})
    if jobs:
        call, cluster = (closing.close, *rest.closing), rest.plan.clusters[0]
        name = f"{rest.plan.study.name}-report"
        launcher.submit_after(jobs, call, rest.plan.runs, cluster, name, rest.snapshot)
    else:
        closing.close(*rest.closing)
