"""How is a study launched? Check, index, dispatch, follow, report: the one way, for the command line and for Hydra."""

from __future__ import annotations

import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch import closing, launcher, snapshot
from flanscale.orchestration.dispatch.closing import Report
from flanscale.orchestration.dispatch.follow import Rest, leave_rest
from flanscale.orchestration.dispatch.local import Done, Start, detached, run_queue
from flanscale.orchestration.dispatch.process import Starter
from flanscale.orchestration.dispatch.reserve import check_writable
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.dispatch.submit import Submitted, check_slurm, held_up_words, submit
from flanscale.orchestration.planning.ledger import Ledger, ledger_of, write_ledger
from flanscale.orchestration.planning.plan import Plan
from flanscale.orchestration.running.job import RUNNER
from flanscale.orchestration.running.launchers import launching
from flanscale.orchestration.running.repeat import decide
from flanscale.orchestration.running.stop import stop_requests
from flanscale.orchestration.watching.live import following, open_console
from flanscale.orchestration.watching.monitor import CellStatus, Observer
from flanscale.orchestration.watching.words import counts, outcome
from flanscale.run_directory import LOG_FILE, is_evaluation, read_state
from flanscale.schema import PathsConfig

WATCH_SECONDS = 1.0
LEAVING = "stopping: running cells save a checkpoint and leave (again: leave them to it)"


def launch(
    plan: Plan,
    console: Console,
    *,
    again: str,
    wait: bool | None = None,
    runner: str = RUNNER,
    report: Report | None = None,
    order: str = "longest",
    retry: Collection[str] = (),
    index: Ledger | None = None,
) -> int:
    """Start every cell of a plan that is neither finished nor in somebody's hands, and has not failed for good.

    Args:
        plan: what to run.
        console: where to say it.
        again: the command that does the same once more, to be shown when there is more to do.
        wait: follow to the end and report; by default on this machine, not on Slurm.
        runner: the module that executes a cell, see `job.start`.
        report: what draws the curves when all cells have ended.
        order: in which cells start, see `order.in_order`.
        retry: classes of failure that are tried again, besides those that always are.
        index: the study that the cells belong to, when they are not all of it; its file stays as it is.

    Returns:
        The exit code: 0 when all is well, 1 when a cell ended without a result, 128 + n when stopped by signal n.

    Raises:
        ConfigError: results cannot be written, or the executor refuses; nothing has been left half-made.
    """
    ledger, on_slurm = index or ledger_of(plan), plan.clusters[0].name == "slurm"
    if on_slurm:
        check_slurm(plan)
    check_writable(plan.runs)
    check_writable(ledger.path.parent)
    _say_what_is_left(ledger, retry, index is None, console)
    write_index = partial(write_ledger, ledger) if index is None else lambda: None
    conclude = partial(_conclude, plan, ledger, again, report)
    if on_slurm:
        made, copy = _submit(_submission(plan, runner, order, retry, ledger, report), write_index, again, console)
        if _settled(ledger, wait, console):
            return conclude(console, notify=made.cells > 0)
        if not made.follower:  # which does this when all are submitted
            _leave_to_slurm(plan, ledger, report, made.jobs, copy, console)
        return _say_what_next(ledger, console)
    write_index()

    def run(copy: Snapshot | None, console: Console) -> int:
        with Starter(runner, copy) as start:
            queue, stopped = _follow_queue(plan, ledger, start, order, retry, console)
        if stopped:
            _say(console, f"stopped; go on with: {again}")
            return 128 + stopped
        return conclude(console, notify=queue.started > 0)

    if wait is not False:
        return run(None, console)
    copy = snapshot.take(plan.runs, [cell.run for cell in plan.cells])
    log = ledger.path.with_suffix(".log")
    pid = detached(lambda: run(copy, open_console()), log)
    _say(console, f"runs on as process {pid} (to stop it: kill {pid}), log {log}")
    return _say_what_next(ledger, console)


# --- on this machine --------------------------------------------------------------------------------------------------


def _follow_queue(
    plan: Plan, ledger: Ledger, start: Start, order: str, retry: Collection[str], console: Console
) -> tuple[Done, signal.Signals | None]:
    """What the queue has done, and the signal that stopped it."""
    leaving = partial(_say, console, LEAVING)
    with (
        launching(ledger.path) as beat,
        stop_requests(signal.SIGINT, signal.SIGTERM) as stop,
        following(Observer(ledger), console) as follow,
    ):

        def tick() -> None:
            beat()
            follow()

        done = run_queue(plan, start, stop, tick=tick, leaving=leaving, order=order, retry=retry)
    for line in held_up_words(done.held_up):
        _say(console, line)
    return done, stop.received


# --- on Slurm ---------------------------------------------------------------------------------------------------------


def _submission(
    plan: Plan, runner: str, order: str, retry: Collection[str], ledger: Ledger, report: Report | None
) -> Callable[[Submitted], Snapshot | None]:
    """Submits the plan, and leaves what Slurm has no room for to a job."""
    notice, began = plan.clusters[0].notify, time.time()
    close = (str(ledger.path), str(_reports(plan)), notice) if report or notice else None

    def leave(jobs: Collection[str], cells: Collection[str], copy: Snapshot) -> str:
        attempts = {cell.id: read_state(plan.directory(cell)).attempt for cell in plan.cells if cell.id in set(cells)}
        return leave_rest(Rest(plan, runner, order, tuple(retry), copy, attempts, began, close), jobs)

    return partial(submit, plan, runner, order, retry, leave_rest=leave)


def _submit(
    put: Callable[[Submitted], Snapshot | None], write_index: Callable[[], None], again: str, console: Console
) -> tuple[Submitted, Snapshot | None]:
    """Submit; what is queued already when the rest is refused belongs to the study all the same."""
    made, copy, refused = Submitted(), None, None
    try:
        copy = put(made)
    except BaseException as error:
        if not made.cells and not made.follower:
            raise
        refused = error
    write_index()
    for line in made.words():
        _say(console, line)
    if refused:
        raise ConfigError(f"{refused}; the rest has not been submitted: {again}") from refused
    return made, copy


def _settled(ledger: Ledger, wait: bool | None, console: Console) -> bool:
    """Whether all cells have ended; with `wait` they are followed until they have, or Ctrl-C is typed."""
    observer = Observer(ledger)
    study = observer.look()
    if not wait and not study.settled:
        _say(console, counts(study))
        return False
    with stop_requests(signal.SIGINT) as stop, following(observer, console) as follow:
        while not follow.study.settled and not stop():
            follow()
            time.sleep(WATCH_SECONDS)
    return not stop()


def _leave_to_slurm(
    plan: Plan, ledger: Ledger, report: Report | None, jobs: Sequence[str], copy: Snapshot | None, console: Console
) -> None:
    """Let the report and the notice come by themselves when all jobs have ended."""
    cluster = plan.clusters[0]
    if not jobs or not (report or cluster.notify):
        return
    call = (closing.close, str(ledger.path), str(_reports(plan)), cluster.notify)
    try:
        job = launcher.submit_after(jobs, call, plan.runs, cluster, f"{plan.study.name}-report", copy)
    except ConfigError as error:
        _say(console, f"no report will be drawn by itself: {error}")
    else:
        _say(console, f"the report is drawn by job {job}, when these have ended")


# --- everywhere -------------------------------------------------------------------------------------------------------


def _conclude(plan: Plan, ledger: Ledger, again: str, report: Report | None, console: Console, notify: bool) -> int:
    """Say how it ended."""
    study = Observer(ledger).look()
    closing.draw(study, report, _reports(plan), console)
    for cell in study.lost:
        log = ledger.directory(cell.entry) / LOG_FILE
        _say(console, f"✘ {outcome(cell)}\n  log: {log}", style="red")
    _say(console, f"{ledger.study}: {counts(study)}")
    for_good = [cell for cell in study.lost if decide(cell.view).action == "failed"]
    if len(study.lost) > len(for_good):
        _say(console, f"go on with: {again}")
    if any(_kind(cell) == "data" for cell in for_good):
        launched = shlex.join(["flanscale", "launch", ledger.study, *ledger.overrides])
        _say(console, f"where data is mended, which makes new cells: {launched}")
    if for_good:
        retried = again if all(is_evaluation(ledger.directory(cell.entry)) for cell in for_good) else None
        _say(console, f"try the failed again with: {retried or f'flanscale retry {_name(ledger)}'}")
    if notify and study.settled:
        closing.notify(plan.clusters[0].notify, study, partial(_say, console))
    return 1 if study.lost else 0


def _say_what_is_left(ledger: Ledger, retry: Collection[str], whole: bool, console: Console) -> None:
    """What this launch of a whole study, or of some of its cells, does not start, though nobody else does either."""
    before = Observer(ledger).look()
    failed = [cell for cell in before.cells if decide(cell.view, retry).action == "failed"]
    if failed and whole:
        kinds = Counter(_kind(cell) for cell in failed)
        shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        _say(console, f"{_cells(len(failed))} failed before ({shown}): flanscale retry {_name(ledger)}")
    if removed := len([cell for cell in before.removed if cell.view.alive]):
        words = f"{_cells(removed)} of an earlier launch left the study and run on"
        _say(console, f"{words}: flanscale cancel {_name(ledger)} --removed")


def _say_what_next(ledger: Ledger, console: Console) -> int:
    _say(console, f"watch with: flanscale status {_name(ledger)} --watch")
    _say(console, f"stop with: flanscale cancel {_name(ledger)}")
    return 0


def _reports(plan: Plan) -> Path:
    return Path(plan.paths.reports).expanduser().absolute()


def _name(ledger: Ledger) -> str | Path:
    """What other commands call the study."""
    usual = Path(PathsConfig().studies).absolute()
    return ledger.study if ledger.path.parent == usual else ledger.path


def _kind(cell: CellStatus) -> str:
    failure = cell.view.state.failure
    return failure.kind if failure else "unknown"


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
