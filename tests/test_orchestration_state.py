"""A run's record survives whatever happens to its writers, and tells the truth about processes that are gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from little_study import kill, wait_until

from flanscale.errors import ConfigError
from flanscale.orchestration.running import liveness
from flanscale.orchestration.running.claim import RECORD, RUN, claim
from flanscale.orchestration.running.liveness import SILENCE_SECONDS, look, this_process
from flanscale.run_directory import Failure, RunState, read_state, write_state

HERE = socket.gethostname()
FAILURE = Failure("data", "no instances", "Traceback …", step=3, host="h")


def running(pid: int, started: float, **changes: object) -> RunState:
    state = RunState().running(host=HERE, pid=pid, process_started=started)
    return replace(state, **changes)  # type: ignore[arg-type]


# --- the record --------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = RunState().running(host="h", pid=3, process_started=1.5, job="4_2").failed(FAILURE)
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state


def test_the_file_has_the_agreed_form(tmp_path: Path) -> None:
    write_state(tmp_path, RunState().running(host="h", pid=3, process_started=1.5, job="4_2").failed(FAILURE))
    record = json.loads((tmp_path / "state.json").read_text())
    assert record["format"] == 2
    assert (record["state"], record["attempt"], record["job_ids"]) == ("failed", 1, ["4_2"])
    assert set(record["failure"]) == {"class", "message", "traceback", "step", "host"}
    assert record["updated"] == pytest.approx(time.time(), abs=10)


def test_a_run_without_a_record_is_planned(tmp_path: Path) -> None:
    assert read_state(tmp_path / "nothing") == RunState()
    assert look(tmp_path / "nothing").status == "planned"


def test_a_record_of_a_newer_flanscale_is_told_in_one_line_that_tells_nobody_to_delete_it(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"format": 3, "state": "hibernating"}')
    with pytest.raises(ConfigError) as caught:
        read_state(tmp_path)
    path = tmp_path / "state.json"
    assert str(caught.value) == f"{path} is from a newer flanscale (format 3, not 2): update flanscale"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2}', '{"format": "2"}', '{"format": 1, "state": "asleep", "failure": null}']
)
def test_a_damaged_record_is_named_and_not_taken_for_a_fresh_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ConfigError, match=r"state.json cannot be read .*: delete the run directory") as caught:
        read_state(tmp_path)
    assert "\n" not in str(caught.value)


def test_attempts_are_counted_and_their_time_is_added_up() -> None:
    state = RunState()
    for expected in (1, 2, 3):
        state = state.queued(host="h", pid=1, process_started=0.0)
        state = state.running(host="h", pid=1, process_started=0.0, job=f"9_{expected}")
        assert (state.state, state.attempt, state.failure) == ("running", expected, None)
        state = state.preempted(Failure("preempted", "x"), spent=10.0)
    assert state.seconds == pytest.approx(30)
    assert state.job_ids == ("9_1", "9_2", "9_3")
    assert state.finished().seconds == state.seconds


def test_a_transition_that_a_fast_clock_dates_into_the_future_is_no_negative_time_ago() -> None:
    state = RunState().queued(host="h", pid=1, process_started=0.0)
    assert replace(state, updated=time.time() + 3600).age == 0.0
    assert replace(state, updated=time.time() - 60).age == pytest.approx(60, abs=5)


def test_somebody_who_has_a_failed_run_tried_again_starts_its_count_anew() -> None:
    here = {"host": "h", "pid": 1, "process_started": 0.0}
    stalled = replace(RunState().running(**here), stalled=4)
    assert stalled.failed(FAILURE).queued(**here).stalled == 0
    assert stalled.preempted(FAILURE).queued(**here).stalled == 4
    assert stalled.finished().stalled == 0


def test_a_writer_that_is_killed_leaves_the_old_record_or_the_new_one(tmp_path: Path) -> None:
    write_state(tmp_path, RunState())
    writer = (
        "import sys, pathlib\n"
        "from flanscale.run_directory import Failure, RunState, write_state\n"
        "state, n = RunState(), 0\n"
        "while True:\n"
        "    n += 1\n"
        "    state = RunState(state='failed', attempt=n, failure=Failure('data', 'x' * n))\n"
        "    write_state(pathlib.Path(sys.argv[1]), state)\n"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path)])
        before = read_state(tmp_path).updated
        wait_until(lambda before=before: read_state(tmp_path).attempt > 3 or read_state(tmp_path).updated > before)
        kill(process.pid)
        process.wait()
        state = read_state(tmp_path)
        assert state.failure is not None
        assert state.failure.message == "x" * state.attempt
        write_state(tmp_path, RunState())


# --- liveness ----------------------------------------------------------------------------------------------------


def test_a_run_is_running_while_its_process_lives_and_interrupted_after(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    write_state(tmp_path, running(process.pid, psutil.Process(process.pid).create_time() - psutil.boot_time()))
    assert (look(tmp_path).status, look(tmp_path).alive) == ("running", True)
    kill(process.pid)
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert (look(tmp_path).status, look(tmp_path).alive) == ("interrupted", False)  # dead, though nobody reaped it
    process.wait()
    assert look(tmp_path).status == "interrupted"


def test_another_process_with_the_same_pid_is_not_mistaken_for_the_runs(tmp_path: Path) -> None:
    me = this_process()
    write_state(tmp_path, running(me.pid, me.started - 3600))
    assert look(tmp_path).status == "interrupted"


def test_a_run_queued_by_a_dispatcher_that_died_counts_as_planned(tmp_path: Path) -> None:
    write_state(tmp_path, RunState().queued(host=HERE, pid=2**22 + 1, process_started=1.0))
    assert look(tmp_path).status == "planned"


def test_a_run_on_another_host_lives_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    write_state(tmp_path, replace(running(1, 0.0), host="another"))
    assert look(tmp_path).status == "running"
    silent = time.time() - SILENCE_SECONDS - 1
    os.utime(tmp_path / "state.json", (silent, silent))
    assert look(tmp_path).status == "interrupted"


@pytest.mark.parametrize(
    ("state", "status"),
    [("queued", "planned"), ("running", "interrupted"), ("preempted", "preempted")],
)
def test_a_run_of_slurm_lives_as_long_as_slurm_knows_its_job(tmp_path: Path, state: str, status: str) -> None:
    attempt = 0 if state == "queued" else 1
    write_state(tmp_path, RunState(state=state, attempt=attempt, host="another", pid=1, job="7_3", job_ids=("7_3",)))
    assert look(tmp_path, lambda: {"7_3": "None"}).alive
    gone = look(tmp_path, lambda: {"7_4": "Resources"})
    assert (gone.alive, gone.status) == (False, status)


def test_a_job_that_slurm_holds_back_is_told(tmp_path: Path) -> None:
    write_state(tmp_path, RunState(state="queued", job="7_3"))
    assert look(tmp_path, lambda: {"7_3": "launch failed requeued held"}).held == "launch failed requeued held"
    assert look(tmp_path, lambda: {"7_3": "Resources"}).held is None


def test_slurm_is_not_asked_about_runs_that_are_not_in_its_hands(tmp_path: Path) -> None:
    def known_jobs() -> None:
        raise AssertionError("asked")

    for state in (running(1, 0.0), RunState(), RunState(state="finished", job="7")):
        write_state(tmp_path, state)
        look(tmp_path, known_jobs)


def test_a_beat_in_the_future_is_as_little_worth_as_one_long_past(tmp_path: Path) -> None:
    write_state(tmp_path, replace(running(1, 0.0), host="another"))
    ahead = time.time() + 2 * SILENCE_SECONDS
    os.utime(tmp_path / "state.json", (ahead, ahead))
    assert look(tmp_path).status == "interrupted"


def test_an_observer_whose_clock_is_wrong_asks_the_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path, replace(running(1, 0.0), host="another"))
    liveness._clock_ahead.cache_clear()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert look(tmp_path).status == "running"


def test_looking_asks_for_no_lease(tmp_path: Path) -> None:
    write_state(tmp_path, running(os.getpid(), this_process().started))
    with claim(tmp_path, RECORD) as one, claim(tmp_path, RUN) as other:
        assert one
        assert other
        assert look(tmp_path).status == "running"
