"""A lease has one holder, whoever dies and whatever the clocks say; kill -9 gives it up at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from little_study import kill, wait_until

from flanscale.orchestration.running import claim as claims
from flanscale.orchestration.running.claim import RECORD, RUN, Lease, claim
from flanscale.orchestration.running.liveness import process_alive, this_process

HOUR = 3600.0
SILENCE = 0.6
ROUNDS = 100
DEAD = 2**22 + 1  # above the largest pid there is
HOLDER = (
    "import sys, time, pathlib\n"
    "from flanscale.orchestration.running.claim import claim\n"
    "with claim(pathlib.Path(sys.argv[1]), sys.argv[2]) as mine:\n"
    "    print(bool(mine), flush=True)\n"
    "    time.sleep(60)\n"
)


@contextmanager
def holder(directory: Path, what: str = RUN) -> Iterator[int]:
    """A process that holds a lease; its pid."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(directory), what], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process.pid
    process.kill()
    process.wait()
    process.stdout.close()


def leave_behind(lease: Lease, **changes: object) -> Path:
    """Turn a lease of this process into one of another owner, as if that had taken it."""
    owner = json.loads(lease.path.read_text())
    scratch = lease.path.with_name(f"another.{os.getpid()}")
    scratch.write_text(json.dumps(owner | {"nonce": "another"} | changes))
    scratch.replace(lease.path)
    return lease.path


def foreign(directory: Path, what: str = RUN) -> Path:
    """The lease of a process on another host."""
    with claim(directory, what) as lease:
        assert lease
        return leave_behind(lease, machine="elsewhere", host="elsewhere")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SILENCE_SECONDS", SILENCE)


# --- one holder --------------------------------------------------------------------------------------------------


def race(directory: Path, seed: int, start: Any, rounds: Any, wins: multiprocessing.Queue[str]) -> None:
    """Claim again and again; inside, be alone. One holder in three dies without giving its lease back."""
    rng, alone = random.Random(seed), directory / "alone"
    won = 0
    start.wait(30)  # for all: the first could have finished before another had begun
    while rounds.value < ROUNDS:
        with claim(directory, RUN, patience=0) as lease:
            if lease:
                try:
                    alone.touch(exist_ok=False)
                except FileExistsError:
                    wins.put("two at once")
                    return
                won, rounds.value = won + 1, rounds.value + 1
                time.sleep(rng.choice([0.0, 0.0, 0.001]))
                alone.unlink()
                if rng.random() < 1 / 3:
                    leave_behind(lease, pid=DEAD)
        time.sleep(rng.uniform(0, 0.001))
    wins.put(str(won))


def test_of_many_processes_one_wins_every_round_even_where_holders_die(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    start, rounds = context.Barrier(8), context.Value("i", 0)
    wins: multiprocessing.Queue[str] = context.Queue()
    racers = [context.Process(target=race, args=(tmp_path, seed, start, rounds, wins)) for seed in range(8)]
    for racer in racers:
        racer.start()
    results = [wins.get(timeout=30) for _ in racers]
    for racer in racers:
        racer.join()
    assert "two at once" not in results
    assert sum(map(int, results)) == rounds.value
    assert sum(won != "0" for won in results) > 1, "nobody ever took over from another"
    assert len([path for path in (tmp_path / ".lease").iterdir() if path.name.startswith(RUN)]) == 1


def test_who_decided_long_ago_cannot_win_against_a_later_holder(tmp_path: Path) -> None:
    with claim(tmp_path, RUN) as first:
        assert first
    seen = claims._generations(first.path.parent, RUN)  # it was given back, says somebody who then sleeps
    for _ in range(2):
        with claim(tmp_path, RUN) as later:
            assert later
    with claim(tmp_path, RUN) as holder:
        assert claims._take(first.path.parent, RUN, seen) is None
        assert holder
        assert holder.held()


def test_a_lease_is_not_taken_while_its_process_lives_and_kill_9_gives_it_up_at_once(tmp_path: Path) -> None:
    with holder(tmp_path) as pid:
        with claim(tmp_path, RUN, patience=0.2) as mine:
            assert mine is None
        with claim(tmp_path, RECORD, patience=0) as mine:
            assert mine, "the two kinds do not exclude each other"
        kill(pid)
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)  # dead, though nobody reaped it
        with claim(tmp_path, RUN, patience=0) as mine:
            assert mine


def test_a_job_waits_for_a_dispatcher_that_is_just_letting_go(tmp_path: Path) -> None:
    with holder(tmp_path, RECORD) as pid:
        began = time.monotonic()
        threading.Timer(0.5, kill, [pid]).start()
        with claim(tmp_path) as mine:
            assert mine
        assert time.monotonic() - began > 0.4


def test_another_process_with_the_same_pid_is_not_taken_for_the_owner(tmp_path: Path) -> None:
    with claim(tmp_path, RUN) as lease:
        assert lease
        leave_behind(lease, started=this_process().started - HOUR)
        with claim(tmp_path, RUN, patience=0) as mine:
            assert mine


# --- owners on other hosts ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_impatient")
def test_a_silent_owner_elsewhere_is_outlasted_and_its_lease_taken(tmp_path: Path) -> None:
    foreign(tmp_path)
    with claim(tmp_path, RUN, patience=0) as mine:
        assert mine is None  # who does not wait cannot know
    began = time.monotonic()
    with claim(tmp_path, RUN, patience=0, outlast=True) as mine:
        assert mine
    assert time.monotonic() - began > SILENCE / 2


@pytest.mark.usefixtures("_impatient")
def test_who_looks_now_and_then_sees_the_silence_too(tmp_path: Path) -> None:
    foreign(tmp_path)
    with claim(tmp_path, RUN, patience=0) as mine:
        assert mine is None
    time.sleep(SILENCE)
    with claim(tmp_path, RUN, patience=0) as mine:
        assert mine


@pytest.mark.usefixtures("_impatient")
def test_an_owner_elsewhere_whose_heart_beats_is_left_alone(tmp_path: Path) -> None:
    path, over = foreign(tmp_path), threading.Event()

    def beat() -> None:
        while not over.wait(SILENCE / 4):
            os.utime(path)

    heart = threading.Thread(target=beat)
    heart.start()
    with claim(tmp_path, RUN, patience=0, outlast=True) as mine:
        assert mine is None
    over.set()
    heart.join()


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_clock_that_jumps_does_not_end_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    path = foreign(tmp_path)
    now = time.time()
    os.utime(path, (now + jump, now + jump))
    with claim(tmp_path, RUN, patience=0) as mine:
        assert mine is None
    own = tmp_path / "own"
    own.mkdir()
    with claim(own, RUN) as lease:
        monkeypatch.setattr(time, "time", lambda: now + jump)
        monkeypatch.setattr(psutil, "boot_time", lambda: 1.0)
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: now + jump)
        assert process_alive(this_process().pid, this_process().started)
        with claim(own, RUN, patience=0) as mine:
            assert mine is None
        assert lease
        assert lease.held()


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_the_short_lease_of_a_launcher_that_died_elsewhere_is_judged_by_the_file_systems_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    path = foreign(tmp_path, RECORD)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # nobody asks this host's
    with claim(tmp_path, RECORD, patience=0) as mine:
        assert mine is None
    stamp = path.stat().st_mtime + jump
    os.utime(path, (stamp, stamp))
    with claim(tmp_path, RECORD, patience=0) as mine:
        assert mine


@pytest.mark.usefixtures("_impatient")
def test_half_a_lease_is_nobodys_only_after_a_silence(tmp_path: Path) -> None:
    with claim(tmp_path, RUN) as lease:
        assert lease
        lease.path.write_text('{"nonce": "a')
    with claim(tmp_path, RUN, patience=0) as mine:
        assert mine is None
    with claim(tmp_path, RUN, patience=0, outlast=True) as mine:
        assert mine


def test_who_is_asked_to_stop_does_not_wait_on(tmp_path: Path) -> None:
    foreign(tmp_path)
    with claim(tmp_path, RUN, patience=60, outlast=True, give_up=lambda: True) as mine:
        assert mine is None


# --- fencing -----------------------------------------------------------------------------------------------------


def test_an_owner_taken_for_dead_knows_it_and_cannot_give_back_what_is_anothers(tmp_path: Path) -> None:
    with claim(tmp_path, RUN) as first:
        assert first
        words = first.path.read_text()
        leave_behind(first, pid=DEAD)
        with claim(tmp_path, RUN, patience=0) as second:
            assert second
            assert not first.held()
            first.path.write_text(words)  # even where its file is still there
            assert not first.held()
            first.release()
            assert second.held()
            with claim(tmp_path, RUN, patience=0) as third:
                assert third is None
