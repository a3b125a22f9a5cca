"""How is a study launched? Check, index, dispatch, follow, report: the one way, for the command line and for Hydra."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch import closing, launcher, snapshot
from flanscale.orchestration.dispatch.closing import Report
from flanscale.orchestration.dispatch.local import Start, detached, run_queue
from flanscale.orchestration.dispatch.process import CellProcess, start_process
from flanscale.orchestration.dispatch.reserve import check_writable
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.dispatch.submit import Submitted, check_slurm, held_up_words, submit
from flanscale.orchestration.planning.ledger import Ledger, ledger_of, write_ledger
from flanscale.orchestration.planning.plan import Plan
from flanscale.orchestration.running.job import RUNNER
from flanscale.orchestration.running.repeat import decide
from flanscale.orchestration.running.stop import stop_requests
from flanscale.orchestration.watching.live import following, open_console
from flanscale.orchestration.watching.monitor import CellStatus, Observer, StudyStatus
from flanscale.orchestration.watching.words import counts, outcome
from flanscale.run_directory import LOG_FILE
from flanscale.schema import ClusterConfig, PathsConfig

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
        console: where to tell.
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
    study = _Launch(plan, index or ledger_of(plan), index is None, again, runner, report, order, retry)
    return study.on_slurm(console, wait) if plan.clusters[0].name == "slurm" else study.here(console, wait)


@dataclass(frozen=True)
class _Launch:
    plan: Plan
    ledger: Ledger
    new_index: bool
    again: str
    runner: str
    report: Report | None
    order: str
    retry: Collection[str]

    # --- on this machine ---------------------------------------------------------------------------------------

    def here(self, console: Console, wait: bool | None) -> int:
        self._check_folders()
        self._tell_what_is_left(console)
        self._write_index()
        if wait is not False:
            return self._queue(console, partial(start_process, runner=self.runner))
        copy = snapshot.take(self.plan.runs, [cell.run for cell in self.plan.cells])
        log = self.ledger.path.with_suffix(".log")
        pid = detached(lambda: self._queue(open_console(), partial(_start_from, copy, self.runner)), log)
        _say(console, f"runs on as process {pid} (to stop it: kill {pid}), log {log}")
        return self._tell_what_next(console)

    def _queue(self, console: Console, start: Start) -> int:
        with (
            stop_requests(signal.SIGINT, signal.SIGTERM) as stop,
            following(Observer(self.ledger), console) as follow,
        ):
            queue = run_queue(
                self.plan,
                start,
                stop,
                tick=follow,
                leaving=partial(_say, console, LEAVING),
                order=self.order,
                retry=self.retry,
            )
        for line in held_up_words(queue.held_up):
            _say(console, line)
        if stop.received:
            _say(console, f"stopped; go on with: {self.again}")
            return 128 + stop.received
        return self._conclude(console, notify=queue.started > 0)

    # --- on Slurm ----------------------------------------------------------------------------------------------

    def on_slurm(self, console: Console, wait: bool | None) -> int:
        check_slurm(self.plan)
        self._check_folders()
        self._tell_what_is_left(console)
        made, copy = self._submit(console)
        observer = Observer(self.ledger)
        if not wait and not observer.look().settled:
            _say(console, counts(observer.look()))
            return self._leave_to_slurm(console, made, copy)
        with stop_requests(signal.SIGINT) as stop, following(observer, console) as follow:
            while not follow.study.settled and not stop():
                follow()
                time.sleep(WATCH_SECONDS)
        return self._leave_to_slurm(console, made, copy) if stop() else self._conclude(console, notify=made.cells > 0)

    def _submit(self, console: Console) -> tuple[Submitted, Snapshot | None]:
        made = Submitted()
        try:
            copy = submit(self.plan, self.runner, self.order, self.retry, made)
        except BaseException as error:
            if not made.cells:
                raise
            self._write_index()  # of what is queued already
            for line in made.words():
                _say(console, line)
            raise ConfigError(f"{error}; the rest has not been submitted: {self.again}") from error
        self._write_index()
        for line in made.words():
            _say(console, line)
        return made, copy

    def _leave_to_slurm(self, console: Console, made: Submitted, copy: Snapshot | None) -> int:
        """Let the report and the notice come by themselves when all jobs have ended."""
        notify = self.plan.clusters[0].notify
        if made.jobs and (self.report or notify):
            call = (closing.close, str(self.ledger.path), str(self._reports), notify)
            name = f"{self.plan.study.name}-report"
            try:
                job = launcher.submit_after(made.jobs, call, self.plan.runs, self.plan.clusters[0], name, copy)
            except ConfigError as error:
                _say(console, f"no report will be drawn by itself: {error}")
            else:
                _say(console, f"the report is drawn by job {job}, when these have ended")
        return self._tell_what_next(console)

    # --- everywhere --------------------------------------------------------------------------------------------

    @property
    def _reports(self) -> Path:
        return Path(self.plan.paths.reports).expanduser().absolute()

    @property
    def _name(self) -> str | Path:
        """What other commands call the study."""
        usual = Path(PathsConfig().studies).absolute()
        return self.ledger.study if self.ledger.path.parent == usual else self.ledger.path

    def _check_folders(self) -> None:
        check_writable(self.plan.runs)
        check_writable(self.ledger.path.parent)

    def _write_index(self) -> None:
        if self.new_index:
            write_ledger(self.ledger)

    def _tell_what_is_left(self, console: Console) -> None:
        """What this launch does not start, though nobody else does either."""
        before = Observer(self.ledger).look()
        failed = [cell for cell in before.cells if decide(cell.view, self.retry).action == "failed"]
        if failed and self.new_index:
            kinds = Counter(_kind(cell) for cell in failed)
            shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            _say(console, f"{_cells(len(failed))} failed before ({shown}): flanscale retry {self._name}")
        if removed := len([cell for cell in before.removed if cell.view.alive]):
            words = f"{_cells(removed)} of an earlier launch left the study and run on"
            _say(console, f"{words}: flanscale cancel {self._name} --removed")

    def _conclude(self, console: Console, notify: bool) -> int:
        """Tell how it ended."""
        study = Observer(self.ledger).look()
        closing.draw(study, self.report, self._reports, console)
        for cell in study.lost:
            log = self.ledger.directory(cell.entry) / LOG_FILE
            _say(console, f"✘ {outcome(cell)}\n  log: {log}", style="red")
        _say(console, f"{self.ledger.study}: {counts(study)}")
        self._tell_how_to_go_on(study, console)
        if notify and study.settled:
            closing.tell(self.plan.clusters[0].notify, study, partial(_say, console))
        return 1 if study.lost else 0

    def _tell_how_to_go_on(self, study: StudyStatus, console: Console) -> None:
        for_good = [cell for cell in study.lost if decide(cell.view).action == "failed"]
        if len(study.lost) > len(for_good):
            _say(console, f"go on with: {self.again}")
        if for_good:
            _say(console, f"try the failed again with: flanscale retry {self._name}")

    def _tell_what_next(self, console: Console) -> int:
        _say(console, f"watch with: flanscale status {self._name} --watch")
        _say(console, f"stop with: flanscale cancel {self._name}")
        return 0


def _start_from(copy: Snapshot, runner: str, run_dir: Path, cluster: ClusterConfig) -> CellProcess:
    copy.used_by([run_dir.name])
    return start_process(run_dir, cluster, runner, copy)


def _kind(cell: CellStatus) -> str:
    failure = cell.view.state.failure
    return failure.kind if failure else "unknown"


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
