"""How does one cell run as a job? Claims the run directory, keeps its record, and ends in a way that others can read.

`start` is all that an executor gets: an importable function of plain strings. It is also safe to call twice at once.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from flanscale import identity
from flanscale.config.compose import load
from flanscale.errors import ConfigError, CutOff, Preempted
from flanscale.orchestration.running import provenance, repeat, slurm
from flanscale.orchestration.running.claim import RECORD, RUN, Lease, claim
from flanscale.orchestration.running.failure import failure_of, file_system_trouble
from flanscale.orchestration.running.liveness import HEARTBEAT_SECONDS, SILENCE_SECONDS, this_host, this_process
from flanscale.orchestration.running.logs import logging_to
from flanscale.orchestration.running.ranks import announce, follow, this_rank
from flanscale.orchestration.running.sharing import environment_of
from flanscale.orchestration.running.stop import StopRequest, leaving_within, stop_requests
from flanscale.run_directory import LOG_FILE, STATE_FILE, Failure, RunState, is_evaluation, read_state, write_state
from flanscale.schema import ClusterConfig, RunConfig

RUNNER = "flanscale.run"
EXIT_FAILED = 1
EXIT_PREEMPTED = 75  # sysexits.h: a temporary failure, try again
EXIT_TAKEN_OVER = 76
PATIENCE_SECONDS = 25  # from a stop signal to leaving in the middle of things; Slurm kills after 30
RECORD_SECONDS = 90.0  # a file system that is away for a minute comes back within this
RECORD_POLL_SECONDS = 2.0

log = logging.getLogger("flanscale.job")


def start(run_dir: str, runner: str = RUNNER, *, echo: bool = False, shares_job: bool = False) -> None:
    """Run the cell of a run directory to its end, from its last checkpoint on where there is one.

    Returns at once when the run is finished already or another process is at it; where that process is on another host
    and may be dead, it waits until that is certain. Of several processes of one job the first does all this, and the
    others work along.

    Args:
        run_dir: a directory with `config.yaml`.
        runner: the module whose function `run(config, run_dir, *, attempt, should_stop)` executes a cell.
        echo: show the log on the terminal too.
        shares_job: its Slurm job has other cells, and their starter is who puts it back.

    Raises:
        SystemExit: the attempt failed (1) or was stopped after a checkpoint (75); `state.json` tells why. Or nothing
            could be recorded (1), or another process took the run over (76); standard error tells so.
    """
    directory = Path(run_dir)
    rank = this_rank(os.environ)
    if rank.index:
        follow(directory, runner, rank)
        return
    terminal = os.dup(2)  # not the log, which may be on the file system that is lost
    try:
        with (
            logging_to(directory / LOG_FILE, echo),
            stop_requests(signal.SIGTERM, signal.SIGINT, signal.SIGUSR2) as stop,  # in place of submitit's handlers
            claim(directory, RUN, outlast=True, give_up=stop) as lease,
        ):
            state = _begin(directory) if lease and (shares_job or not _sent_back(directory)) else None
            announce(directory, rank, state.attempt if state else None)
            if lease and state:
                _Attempt(directory, lease, state, stop, terminal, shares_job).execute(runner)
            elif not lease:
                log.info("process %d: another process runs this cell", os.getpid())
    except OSError as error:
        why = file_system_trouble(error, directory) or f"{directory}: {error}"
        _give_up(directory, terminal, why, shares_job=shares_job)
        raise SystemExit(EXIT_FAILED) from None
    finally:
        os.close(terminal)


def _sent_back(directory: Path) -> bool:
    """Whether Slurm has started this job too early after its last attempt, and it goes back into the queue."""
    before, job = read_state(directory), slurm.current_job()
    if before.state != "preempted":
        return False
    try:
        cluster = load(directory).cluster
    except ConfigError:  # which the attempt itself will record
        return False
    rest = repeat.too_early(before, job, cluster)
    if job is None or not rest or not repeat.put_back(job, rest):
        return False
    log.info("started %.0f s too early: Slurm job %s goes back into the queue", rest, job)
    return True


def _begin(directory: Path) -> RunState | None:
    """Record that an attempt begins; None when there is nothing left to do."""
    me, job, step = this_process(), slurm.current_job(), repeat.reached(directory)
    with claim(directory, RECORD, outlast=True):
        before = read_state(directory)
        if before.state == "finished":
            log.info("already finished in attempt %d: %s", before.attempt, directory)
            return None
        stalled = repeat.stalled_before(before, job=job, reached=step)
        state = before.running(
            host=me.host, pid=me.pid, process_started=me.started, job=job, reached=step, stalled=stalled
        )
        write_state(directory, state)
    return state


@dataclass
class _Attempt:
    """What is known of an attempt while it runs."""

    directory: Path
    lease: Lease
    state: RunState
    stop: StopRequest
    terminal: int  # the file descriptor of standard error
    shares_job: bool
    cluster: ClusterConfig = field(default_factory=ClusterConfig)  # the defaults until it has been read
    began: float = field(default_factory=time.monotonic)

    def execute(self, runner: str) -> None:
        """Run the cell and record how it ended."""
        try:
            cell = load(self.directory)
            self.cluster = cell.cluster
            if self.state.stalled > self.cluster.retries:
                raise CutOff("Slurm started the job again and again after it had been cut off")
            with _heartbeat(self), leaving_within(PATIENCE_SECONDS, self._leave):
                if self.stop():
                    raise Preempted("asked to stop before it began")
                _run(cell, self.directory, runner, self.state.attempt, self.stop)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: whatever ends the attempt is recorded
            step = repeat.reached(self.directory) or None
            failure = failure_of(error, step=step, host=this_host(), run_dir=self.directory)
            ended = self._ended(failure, self.stop.received)
            self._record(ended)
            if ended.state == "preempted":
                log.warning("attempt %d stopped: %s", self.state.attempt, failure.message)
                self._put_back(ended)
                raise SystemExit(EXIT_PREEMPTED) from None
            log.error("attempt %d failed (%s)", self.state.attempt, failure.kind, exc_info=error)
            raise SystemExit(EXIT_FAILED) from None
        self._record(self.state.finished(self._spent()))
        log.info("attempt %d finished", self.state.attempt)

    def leave_without_a_word(self, why: str) -> None:
        """End the process at once: the run is another's now, so nothing may be written."""
        os.write(self.terminal, f"flanscale: {self.directory}: {why}\n".encode())
        os._exit(EXIT_TAKEN_OVER)

    def _leave(self, number: signal.Signals) -> None:
        """End the process in the middle of a compilation or an evaluation; the last checkpoint is where it goes on."""
        message = f"asked to stop, and still busy after {PATIENCE_SECONDS} s: left as it was at the last checkpoint"
        log.warning("attempt %d stopped: %s", self.state.attempt, message)
        failure = Failure("preempted", message, None, repeat.reached(self.directory) or None, this_host())
        ended = self._ended(failure, number)
        self._record(ended)
        self._put_back(ended)
        self.lease.release()
        os._exit(EXIT_PREEMPTED)

    def _spent(self) -> float:
        return time.monotonic() - self.began

    def _ended(self, failure: Failure, received: signal.Signals | None) -> RunState:
        limit = 60.0 * self.cluster.timeout_minutes
        if failure.kind == "preempted" and received == signal.SIGUSR2 and self._spent() > limit / 2:
            failure = replace(failure, kind="timeout")  # Slurm may send the same signal for a preemption
        return repeat.ended(
            self.state, failure, reached=failure.step or 0, retries=self.cluster.retries, spent=self._spent()
        )

    def _record(self, state: RunState) -> None:
        """Write the record, and try again while the file system is away; raises OSError when it stays away."""
        deadline = time.monotonic() + RECORD_SECONDS
        while True:
            try:
                if not self.lease.held():
                    self.leave_without_a_word("another process has taken this run over: left without writing")
                return write_state(self.directory, state)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RECORD_POLL_SECONDS)

    def _put_back(self, ended: RunState) -> None:
        seconds = repeat.wait_seconds(ended, self.cluster)
        if ended.job and not self.shares_job and repeat.put_back(ended.job, seconds):
            log.info("Slurm job %s goes back into the queue, to start in %.0f s at the earliest", ended.job, seconds)


def _run(cell: RunConfig, directory: Path, runner: str, attempt: int, stop: StopRequest) -> None:
    os.environ.update(environment_of(cell.cluster))  # before JAX is imported, which reads it once
    provenance.record_attempt(directory, attempt)
    log.info("attempt %d of %s on %s, process %d", attempt, directory.name, this_host(), os.getpid())
    if not is_evaluation(directory):  # which needs nothing of what was learnt
        identity.verify(cell)
    try:
        importlib.import_module(runner).run(cell, directory, attempt=attempt, should_stop=stop)
    finally:
        provenance.record_devices(directory)


def _give_up(directory: Path, terminal: int, why: str, *, shares_job: bool) -> None:
    """Say what could not be recorded, and let Slurm try again: how often is counted by Slurm where nobody else can."""
    os.write(terminal, f"flanscale: {directory.name}: nothing can be recorded: {why}\n".encode())
    job, restarts = slurm.current_job(), repeat.restarts()
    cluster = ClusterConfig()  # its own may be out of reach
    if job and not shares_job and restarts <= cluster.retries:
        repeat.put_back(job, min(cluster.backoff_seconds * 2.0**restarts, repeat.LONGEST_WAIT_SECONDS))


@contextmanager
def _heartbeat(attempt: _Attempt) -> Iterator[None]:
    """Show others that the attempt lives, and leave when they have taken it for dead or are about to."""
    over = threading.Event()

    def beat() -> None:
        beaten = time.monotonic()
        while not over.wait(HEARTBEAT_SECONDS):
            try:
                if not attempt.lease.held():
                    attempt.leave_without_a_word("another process has taken this run over: left without writing")
                attempt.lease.beat()
                os.utime(attempt.directory / STATE_FILE)
                beaten = time.monotonic()
            except OSError as error:
                silent = time.monotonic() - beaten
                if silent > SILENCE_SECONDS - 2 * HEARTBEAT_SECONDS:
                    why = file_system_trouble(error, attempt.directory) or str(error)
                    _give_up(attempt.directory, attempt.terminal, why, shares_job=attempt.shares_job)
                    attempt.leave_without_a_word(f"its file system was out of reach for {silent:.0f} s")

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
