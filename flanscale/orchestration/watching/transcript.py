"""What has a run said? Its log, followed across attempts to the run's end, or what was kept of a run that had none."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flanscale.errors import ConfigError
from flanscale.orchestration.running.liveness import KnownJobs, View, asking_rarely, look
from flanscale.orchestration.running.logs import JOBS_FOLDER, WORDS_FILE
from flanscale.orchestration.watching.words import one_line
from flanscale.run_directory import LOG_FILE, RunState, name_among_runs, runs_of

BLOCK = 65_536
POLL_SECONDS = 0.25
LOOK_SECONDS = 1.0
QUIET_SECONDS = 5.0  # a queue takes a preempted run up again sooner than that

Write = Callable[[bytes], None]
Note = Callable[[str], None]


@dataclass(frozen=True)
class Transcript:
    """Where a run's words lie."""

    run_dir: Path
    rank: int = 0

    @property
    def log(self) -> Path:
        """The log of this rank."""
        return self.run_dir / (LOG_FILE if self.rank == 0 else f"log.{self.rank}.txt")

    def ranks(self) -> list[int]:
        """The ranks that have a log."""
        numbers = [path.name.split(".")[1] for path in self.run_dir.glob("log.*.txt")]
        first = [0] if (self.run_dir / LOG_FILE).exists() else []
        return first + sorted(int(number) for number in numbers if number.isdigit())


def show(run: Transcript, lines: int, write: Write, note: Note) -> None:
    """The last lines of a run's log; of a run without one, what its processes printed before they had it.

    Raises:
        ConfigError: this rank has no log, but others have; or the run's record is damaged.
    """
    if run.log.exists():
        write(_last_lines(run.log, lines)[0])
        return
    _check_rank(run)
    view = look(run.run_dir)
    note(state_words(run, view))
    show_kept(run, view.state, lines, write, note)


def show_kept(run: Transcript, state: RunState, lines: int, write: Write, note: Note) -> None:
    """The last lines of each file in which the launcher kept what the run's processes printed outside of their log."""
    files = list(kept(run.run_dir, state))
    for file in files:
        write(f"==> {file} <==\n".encode())
        write(_last_lines(file, lines)[0])
    if not files:
        note(f"{run.run_dir.name}: nothing kept of what its processes printed outside of its log")


def kept(run_dir: Path, state: RunState) -> Iterator[Path]:
    """Files with words of a run's processes, oldest first: of its local starts by its name, of Slurm's by job."""
    folder = runs_of(run_dir) / JOBS_FOLDER
    own = folder.glob(f"{name_among_runs(run_dir)}-*/{WORDS_FILE}")
    jobs = [file for job in state.job_ids for file in folder.glob(f"*/{job}_*_log.*")]
    found = {file: file.stat() for file in (*own, *jobs) if file.suffix in (".out", ".err", ".log")}
    yield from sorted((file for file in found if found[file].st_size), key=lambda file: found[file].st_mtime_ns)


def follow(run: Transcript, lines: int, write: Write, note: Note, known_jobs: KnownJobs | None = None) -> None:
    """The last lines of a run's log and every line that comes, through its attempts, until the run has ended.

    A run that has not started yet is waited for. Returns when it is finished or failed, or nobody is at it any more.

    Raises:
        ConfigError: the run's record is damaged.
    """
    reader = _Reader(run.log, lines)
    known_jobs = known_jobs or asking_rarely()
    told, due, quiet_since, ended = "", 0.0, math.inf, False
    while True:
        something = reader.pass_on(write)
        if ended:
            break
        if (now := time.monotonic()) >= due:
            view = look(run.run_dir, known_jobs)
            due = now + LOOK_SECONDS
            quiet_since = min(quiet_since, now) if _quiet(view) else math.inf
            ended = view.status in ("finished", "failed") or now - quiet_since >= QUIET_SECONDS
            words = state_words(run, view)
            if not ended and view.status != "running" and words != told:
                note(words)
                told = words
        if not something and not ended:
            time.sleep(POLL_SECONDS)
    if not reader.opened:
        show_kept(run, view.state, lines, write, note)
    if state_words(run, view) != told:
        note(state_words(run, view))


def _quiet(view: View) -> bool:
    """Whether it was begun and nobody is at it; a run that nobody has begun is waited for."""
    return view.status in ("interrupted", "preempted") and not view.alive


def state_words(run: Transcript, view: View) -> str:
    """Where a run stands, in one line."""
    state, name = view.state, run.run_dir.name
    where = f" (Slurm job {state.job})" if state.job else ""
    if view.status in ("planned", "queued") and not state.attempt:
        return f"{name}: has not started yet: {view.status}{where}"
    why = f": {state.failure.kind}: {one_line(state.failure.message)}" if state.failure else ""
    gone = "" if view.alive or view.status in ("finished", "failed") else "; nobody is at it"
    return f"{name}: {view.status}, attempt {state.attempt}{where}{why}{gone}"


def _check_rank(run: Transcript) -> None:
    if run.rank and (ranks := run.ranks()):
        there = ", ".join(map(str, ranks))
        raise ConfigError(f"--rank {run.rank}: {run.run_dir.name} has no log of that rank; there are {there}")


class _Reader:
    """Passes on what is appended to a file that may not be there yet, and may be put in place of another."""

    def __init__(self, path: Path, lines: int) -> None:
        self._path, self._lines = path, lines
        self._file: BinaryIO | None = None
        self.opened = False

    def pass_on(self, write: Write) -> bool:
        """Whether there was anything new."""
        if self._file is None or self._replaced(self._file):
            return self._open(write)
        something = False
        while block := self._file.read(BLOCK):
            write(block)
            something = True
        return something

    def _open(self, write: Write) -> bool:
        if self._file is not None:
            self._file.close()
        try:
            self._file = self._path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            self._file = None
            return False
        text, end = _last_lines(self._path, self._lines) if not self.opened else (b"", 0)
        self._file.seek(end)
        write(text)
        self.opened = True
        return True

    def _replaced(self, file: BinaryIO) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return True
        return now.st_ino != os.fstat(file.fileno()).st_ino or now.st_size < file.tell()


def _last_lines(path: Path, lines: int) -> tuple[bytes, int]:
    """The last lines of a file of any length, and where they end."""
    with path.open("rb") as file:
        end = start = file.seek(0, os.SEEK_END)
        text = b""
        while start > 0 and text.count(b"\n", 0, -1) < lines:
            step = min(BLOCK, start)
            start -= step
            file.seek(start)
            text = file.read(step) + text
    whole = text.splitlines(keepends=True)
    return b"".join(whole[len(whole) - lines :] if lines < len(whole) else whole), end


def to_stdout(text: bytes) -> None:
    """Write bytes to standard output at once, whatever its encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def to_stderr(line: str) -> None:
    """A remark that is no part of the log."""
    print(f"flanscale: {line}", file=sys.stderr, flush=True)
