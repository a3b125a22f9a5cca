"""Disks that are full, read-only or away for a while: a run loses an attempt at most, and says what to do."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from little_study import PATIENCE, Workplace, attempts, open_workplace, wait_until
from test_orchestration_job import make_run, start, start_with

from flanscale.orchestration.running.liveness import look
from flanscale.orchestration.running.logs import logging_to
from flanscale.run_directory import Failure, read_state

LONG = ("trainer.steps=100",)  # two seconds


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A working directory on a small disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "flanscale-test", disk], check=False)
    if mounting.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield open_workplace(disk, monkeypatch)
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; returns the file to delete."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)


def give_up(run: Path) -> str:
    """The last words of an attempt that cannot begin."""
    job = start_with(run)
    _, words = job.communicate(timeout=PATIENCE)
    assert job.returncode == 1
    assert "Traceback" not in words
    return words.strip()


def failure(run: Path) -> Failure:
    found = read_state(run).failure
    assert found is not None
    return found


def test_a_full_disk_costs_an_attempt_that_is_recorded_as_soon_as_there_is_space(place: Workplace) -> None:
    run = make_run(place, *LONG)
    job = start(run)
    wait_until(lambda: (run / "checkpoint").exists())
    filler = fill(place.folder)
    time.sleep(1)
    assert job.poll() is None, "it waits for the disk"
    filler.unlink()
    assert job.wait(timeout=PATIENCE) == 75
    assert (read_state(run).state, failure(run).kind) == ("preempted", "node")
    assert "No space left on device; free space there" in failure(run).message
    assert start(run).wait() == 0
    assert read_state(run).state == "finished"
    assert attempts(run)[-1].first_step > 0


def test_a_disk_that_stays_full_or_read_only_ends_the_process_with_a_line_and_shows_as_interrupted(
    place: Workplace,
) -> None:
    run = make_run(place, *LONG)
    job = start_with(run, RECORD_SECONDS=0.2, RECORD_POLL_SECONDS=0.1)
    wait_until(lambda: (run / "checkpoint").exists())
    filler = fill(place.folder)
    _, words = job.communicate(timeout=PATIENCE)
    assert job.returncode == 1
    full = "No space left on device; free space there, or launch with other paths.runs and paths.cache"
    assert words.splitlines()[-1].startswith(f"flanscale: {run.name}: nothing can be recorded: {run}")
    assert words.splitlines()[-1].endswith(full)
    assert look(run).status == "interrupted"
    assert give_up(run).endswith(full)
    filler.unlink()

    remount(place.folder, "ro")
    assert give_up(run).endswith("Read-only file system; see that it is mounted and writable on this host")
    remount(place.folder, "rw")
    assert start(run).wait() == 0
    assert read_state(run).state == "finished"


def test_a_file_system_that_is_lost_for_good_ends_the_process(place: Workplace) -> None:
    run = make_run(place, *LONG)
    job = start_with(run, RECORD_SECONDS=0.2, RECORD_POLL_SECONDS=0.1)
    wait_until(lambda: (run / "checkpoint").exists())
    run.rename(run.with_name(".away"))  # as where it is unmounted: the path leads nowhere
    _, words = job.communicate(timeout=PATIENCE)
    assert job.returncode == 1
    assert "nothing can be recorded" in words
    run.with_name(".away").rename(run)
    assert start(run).wait() == 0


def test_words_that_the_log_has_no_room_for_are_lost_and_nothing_else(tmp_path: Path) -> None:
    script = (
        "import logging, os, pathlib, sys\n"
        "from flanscale.orchestration.running.logs import logging_to\n"
        "with logging_to(pathlib.Path('/dev/full'), echo=False):\n"
        "    logging.getLogger('flanscale.x').info('lost')\n"
        "    print('lost', flush=True); print('lost', file=sys.stderr)\n"
        "print('goes on')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")


def test_a_log_that_cannot_be_opened_goes_to_standard_error(tmp_path: Path) -> None:
    script = (
        "import logging, pathlib, sys\n"
        "from flanscale.orchestration.running.logs import logging_to\n"
        "with logging_to(pathlib.Path(sys.argv[1]), echo=False):\n"
        "    logging.getLogger('flanscale.x').info('what it would say')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "nowhere" / "log.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first == f"flanscale: cannot write {tmp_path}/nowhere/log.txt: No such file or directory; its words follow"
    assert second.endswith("INFO flanscale.x: what it would say")


def test_an_attempt_begins_its_words_on_a_line_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("a word that was cut o")
    script = (
        "import logging, pathlib, sys\n"
        "from flanscale.orchestration.running.logs import logging_to\n"
        "with logging_to(pathlib.Path(sys.argv[1]), echo=False):\n"
        "    print('printed')\n"
        "    logging.getLogger('flanscale.x').info('logged')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(log)], check=True)
    first, second, third = log.read_text().splitlines()
    assert (first, second) == ("a word that was cut o", "printed")
    assert third.endswith("logged")


def test_a_process_that_goes_on_after_a_job_logs_as_before(tmp_path: Path) -> None:
    loggers = [logging.getLogger(), logging.getLogger("flanscale")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    with logging_to(tmp_path / "log.txt", echo=True):
        assert loggers[1].level == logging.INFO
    assert [(logger.level, logger.handlers) for logger in loggers] == before
