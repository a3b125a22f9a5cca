"""How do a run's rows reach W&B while it runs?

Offline, the run itself writes W&B's file. Online, a process beside the run reads `metrics.jsonl` and sends its steps,
so that a server that is away neither stops nor slows the run. What could not be sent stays in `metrics.jsonl`;
`flanscale sync` sends it later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from flanscale.run_directory import WANDB
from flanscale.schema import RunConfig
from flanscale.tracking import wandb_run

LOG_FILE = "mirror.log"
FAREWELL_SECONDS = 20.0  # that a run waits at its end for the server to take the rest
FAREWELL_UNCONNECTED_SECONDS = 5.0
POLL_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 600.0
CONNECTED, AWAY = "connected: ", "away: "
LASTING = 3  # exit code

log = logging.getLogger(__name__)


class Mirror(Protocol):
    """What a tracker tells W&B."""

    def log(self, values: Mapping[str, Any], step: int) -> None: ...

    def close(self, exit_code: int) -> None: ...


def open_mirror(run_dir: Path, metrics: Path, config: RunConfig, *, run_id: str, attempt: int) -> Mirror | None:
    """The W&B side of this attempt; None with `tracker.mode=disabled`."""
    if config.tracker.mode == "disabled":
        return None
    (run_dir / WANDB).mkdir(exist_ok=True)
    described = wandb_run.described_run(run_dir, dataclasses.asdict(config), run_id) | {"dir": str(run_dir)}
    described["config"]["attempt"] = attempt
    return Offline(run_dir, described) if config.tracker.mode == "offline" else Follower(run_dir, metrics, described)


class Offline:
    """W&B's own file, written by the run."""

    def __init__(self, run_dir: Path, described: Mapping[str, Any]) -> None:
        self._run = wandb_run.start(described, run_dir / WANDB, "offline")

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)


class Follower:
    """The process beside an online run, as the run sees it."""

    def __init__(self, run_dir: Path, metrics: Path, described: Mapping[str, Any]) -> None:
        self._run_dir = run_dir
        self._last, self._connected, self._told = "", False, False
        path = run_dir / WANDB / LOG_FILE
        with path.open("ab") as words:
            self._words = path.open("rb")
            self._words.seek(0, os.SEEK_END)
            self._process = start_sender(run_dir, metrics, described, run_dir / WANDB, words)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Nothing to send from here: the row is in `metrics.jsonl`. Warns once if the server is away."""
        self._listen()

    def close(self, exit_code: int) -> None:
        """Let it send the rest, for a while."""
        send_line(self._process, str(exit_code))
        self._listen()
        patience = FAREWELL_SECONDS if self._connected else FAREWELL_UNCONNECTED_SECONDS
        try:
            self._process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            kill(self._process)
            self._warn(f"not all was taken within {patience:.0f} s")
        self._listen()
        self._words.close()

    def _listen(self) -> None:
        ended = self._process.poll()
        for line in self._words.read().decode(errors="replace").splitlines():
            self._last = line or self._last
            self._connected |= line.startswith(CONNECTED)
            if line.startswith(AWAY):
                self._warn(line.removeprefix(AWAY))
        if ended:
            self._warn(self._last)

    def _warn(self, reason: str) -> None:
        if not self._told:
            log.warning("W&B: %s; send what is missing there later: flanscale sync %s", reason, self._run_dir)
        self._told = True


# --- the process beside an online run --------------------------------------------------------------------------------


def start_sender(
    run_dir: Path, metrics: Path, described: Mapping[str, Any], folder: Path, words: BinaryIO
) -> subprocess.Popen[bytes]:
    """A process that sends a run's steps, those to come as well, until it reads the run's exit code or nothing more.

    It ends with 0 when W&B has everything, 1 when it may be tried again, `LASTING` when that is of no use.

    Args:
        run_dir: the run directory, where it notes what has been sent.
        metrics: its rows.
        described: see `wandb_run.described_run`.
        folder: for W&B's own files.
        words: what it prints: `CONNECTED`, `AWAY`, and as the last line why it failed.
    """
    here = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "flanscale.tracking.mirror"],
        stdin=subprocess.PIPE,
        stdout=words,
        stderr=words,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(here)},
        start_new_session=True,  # signals at the run are the run's
    )
    order = {
        "run_dir": str(run_dir),
        "metrics": str(metrics),
        "described": described,
        "folder": str(folder),
        "connect": wandb_run.CONNECT_SECONDS,
    }
    send_line(process, json.dumps(order, default=str))
    return process


def send_line(process: subprocess.Popen[bytes], line: str) -> None:
    """Say something to a sender; one that has ended does not mind."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a sender and what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def main() -> None:
    """Be the sender."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        with open(0, "rb", buffering=0, closefd=False) as ear:  # unbuffered, so that `select` sees every line
            _send(json.loads(ear.readline()), ear)
    except (wandb_run.NotSent, TimeoutError) as error:
        print(error, flush=True)
        os._exit(LASTING if isinstance(error, wandb_run.NotSent) and error.lasting else 1)  # W&B would wait at the end


def _send(order: Mapping[str, Any], ear: BinaryIO) -> None:
    run_dir, described = Path(order["run_dir"]), order["described"]
    where = wandb_run.target(described["project"], described["entity"])
    steps = wandb_run.Steps(wandb_run.first_unsent_step(run_dir, where))
    run = _connected(described, Path(order["folder"]), order["connect"], ear)
    print(f"{CONNECTED}{run.url}", flush=True)
    exit_code = None
    with Path(order["metrics"]).open("rb") as metrics:
        while exit_code is None:
            exit_code = _goodbye(ear, POLL_SECONDS)
            steps.take(_complete_rows(metrics))
            steps.send(run, finished=exit_code == 0)
    run.finish(exit_code=exit_code)
    wandb_run.note_sent(run_dir, where, math.inf if exit_code == 0 else steps.next)


def _connected(described: Mapping[str, Any], folder: Path, seconds: float, ear: BinaryIO) -> Any:
    """The W&B run, tried for again and again for as long as the run lives. Raises `NotSent` where that is in vain."""
    backoff = seconds
    while True:
        try:
            return wandb_run.connect(described, folder, seconds)
        except wandb_run.NotSent as error:
            if error.lasting:
                raise
            print(f"{AWAY}{error}", flush=True)
            if _goodbye(ear, backoff) is not None:
                raise
        backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)


def _goodbye(ear: BinaryIO, seconds: float) -> int | None:
    """The run's exit code, once it has told it; 1 when it went without a word."""
    ready, _, _ = select.select([ear], [], [], seconds)
    return int(ear.readline() or 1) if ready else None


def _complete_rows(metrics: BinaryIO) -> list[dict[str, Any]]:
    """Rows that have been written since the last call; what is still being written comes with the next one."""
    start = metrics.tell()
    complete, newline, _ = metrics.read().rpartition(b"\n")
    metrics.seek(start + len(complete) + len(newline))
    return [json.loads(line) for line in complete.splitlines()]


if __name__ == "__main__":
    main()
