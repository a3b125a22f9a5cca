"""Is an attempt repeated? By itself as long as it gets on, or a few times in a row; else by a launch, or when asked."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from flanscale.orchestration.running import slurm
from flanscale.orchestration.running.liveness import View
from flanscale.orchestration.running.progress import read_progress
from flanscale.run_directory import Failure, RunState, checkpoint_steps
from flanscale.schema import ClusterConfig

REPEATED = ("preempted", "timeout", "node")  # classes of failure that are no fault of the cell's
BY_A_LAUNCH = (*REPEATED, "interrupted")  # those that the next launch tries again without being asked
LONGEST_WAIT_SECONDS = 3600.0
CONTROLLER_SECONDS = 120.0  # a restart of Slurm's controller takes less
CONTROLLER_POLL_SECONDS = 5.0

log = logging.getLogger("flanscale.job")


def reached(run_dir: Path) -> int:
    """The step that a run has got to: logged, or saved in a checkpoint."""
    return max([read_progress(run_dir).step or 0, *checkpoint_steps(run_dir)])


def ended(state: RunState, failure: Failure, *, reached: int, retries: int, spent: float) -> RunState:
    """How an attempt that did not finish is recorded: as failed, or as preempted, from where it will go on.

    Args:
        state: of the attempt while it ran.
        failure: why it ended.
        reached: the step it has got to.
        retries: how many attempts in a row may be cut off without having got any further.
        spent: seconds that it took.
    """
    if failure.kind not in REPEATED:
        return state.failed(failure, spent)
    stalled = 0 if reached > state.reached else state.stalled + 1
    state = replace(state, stalled=stalled)
    if stalled <= retries:
        return state.preempted(replace(failure, traceback=None) if failure.kind != "node" else failure, spent)
    advice = "; raise cluster.timeout_minutes" if failure.kind == "timeout" else ""
    message = f"{failure.message} ({stalled} attempts in a row got no further than step {reached}{advice})"
    return state.failed(replace(failure, message=message), spent)


def stalled_before(state: RunState, *, job: str | None, reached: int) -> int:
    """How many attempts in a row got no further, as the next attempt of a run finds it.

    One whose process left no record of its end counts where Slurm started the job again by itself, as it does when a
    node is lost; where a person launched the run again it does not.
    """
    if state.state == "running" and job is not None and job == state.job:
        return 0 if reached > state.reached else state.stalled + 1
    return state.stalled


def wait_seconds(state: RunState, cluster: ClusterConfig) -> float:
    """How long to wait before a preempted run is taken up again: twice as long each time that it got no further."""
    if state.stalled == 0 and (state.failure is None or state.failure.kind != "node"):
        return 0.0
    return min(cluster.backoff_seconds * 2.0 ** max(state.stalled - 1, 0), LONGEST_WAIT_SECONDS)


def restarts() -> int:
    """How often Slurm has started this process's job again: what counts where no record can be written."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def put_back(job: str, seconds: float) -> bool:
    """Put this process's own job back into Slurm's queue, to start in so many seconds at the earliest.

    False when Slurm is not running it any more, or does not answer for two minutes.
    """
    deadline = time.monotonic() + CONTROLLER_SECONDS
    while not slurm.requeue(job):
        if slurm.known_jobs() is not None or time.monotonic() > deadline:
            return False
        time.sleep(CONTROLLER_POLL_SECONDS)
    if seconds >= 1 and not slurm.delay(job, seconds):
        log.warning("Slurm would not let job %s wait: it is sent back if it starts too early", job)
    return True


def too_early(before: RunState, job: str | None, cluster: ClusterConfig) -> float:
    """Seconds that a job which Slurm has started again by itself still ought to have waited.

    Slurm sets a start time of its own when a requeued job has left its node, whatever `put_back` has asked for.
    """
    if before.state != "preempted" or job is None or job != before.job:
        return 0.0
    wait = wait_seconds(before, cluster)
    rest = before.updated + wait - time.time()
    return rest if 1.0 <= rest <= wait else 0.0  # more than all of it: a clock has been set


@dataclass(frozen=True)
class Decision:
    """What a launch does about one cell: start, resume, retry, wait, or nothing because it is done or has failed."""

    action: str
    reason: str

    @property
    def starts(self) -> bool:
        """Whether an attempt has to be started."""
        return self.action in ("start", "resume", "retry")


def decide(view: View, retry: Collection[str] = ()) -> Decision:
    """What a launch does about a run that looks like this.

    Args:
        view: the run.
        retry: classes of failure that are tried again, besides those that always are.
    """
    state, failure = view.state, view.state.failure
    if view.status == "finished":
        return Decision("done", f"finished in attempt {state.attempt}")
    if view.alive:
        where = f"Slurm job {state.job}" if state.job else f"{state.host}, process {state.pid}"
        return Decision("wait", f"{view.status} ({where})")
    if view.status == "failed":
        kind = failure.kind if failure else "unknown"
        again = kind in BY_A_LAUNCH or kind in retry
        return Decision("retry" if again else "failed", f"attempt {state.attempt} failed: {kind}")
    if view.status in ("preempted", "interrupted"):
        return Decision("resume", f"attempt {state.attempt} was {view.status}")
    return Decision("start", "not run yet")
