"""A study is launched with real processes that are really killed: nothing is run twice, nothing is lost."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from fake_cells import GATHER, SLOW_TO_LEAVE
from little_study import PATH_OF_PROCESSES, PATIENCE, Workplace, attempts, begun, kill, open_workplace, wait_until

from flanscale.run_directory import read_state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def assert_all_finished(place: Workplace, cells: int = 4) -> None:
    """Every cell finished, no two processes were ever at the same run, and no step is missing."""
    assert list(place.statuses().values()) == ["finished"] * cells
    for run in place.runs():
        lives = attempts(run)
        assert lives[-1].last_step is not None
        for earlier, later in itertools.pairwise(lives):
            assert earlier.ended is None or earlier.ended <= later.began
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps = [row["step"] for row in rows if "train/loss" in row]
        assert set(steps) == set(range(1, lives[-1].last_step + 1))
        resumed_at = [life.first_step for life in lives]
        assert resumed_at == sorted(resumed_at)


def most_at_once(place: Workplace) -> int:
    """The largest number of attempts that were under way at one moment."""
    spans = [(life.began, life.ended) for run in place.runs() for life in attempts(run)]
    return max(sum(b <= began and (e is None or began < e) for b, e in spans) for began, _ in spans)


def test_a_launch_runs_every_cell_once_as_many_together_as_asked_for_and_a_second_one_starts_nothing(
    place: Workplace,
) -> None:
    (place.folder / GATHER).write_text("3")
    first = place.launched("little", "cluster.parallelism=3", "trainer.steps=30")
    assert first.returncode == 0, first.stderr
    assert_all_finished(place)
    assert most_at_once(place) == 3
    assert "little: 4 finished" in first.stdout
    records = {run: (run / "state.json").read_bytes() for run in place.runs()}
    second = place.launched("little", "trainer.steps=30")
    assert (second.returncode, second.stdout) == (0, "little: 4 finished\n")
    assert {run: (run / "state.json").read_bytes() for run in place.runs()} == records
    assert all(len(attempts(run)) == 1 for run in place.runs())


def test_a_crashed_cell_leaves_the_rest_alone_and_waits_for_somebody_to_ask_for_it_again(place: Workplace) -> None:
    overrides = ("trainer.steps=5", "seed=90,1")
    result = place.launched("little", *overrides)
    assert result.returncode == 1
    crashed = [f"procedural-nano-{count}-direct-s90" for count in (9, 89)]
    whole = [f"procedural-nano-{count}-direct-s1" for count in (9, 89)]
    assert place.statuses() == dict.fromkeys(crashed, "failed") | dict.fromkeys(whole, "finished")
    lines = result.stdout.splitlines()
    for label in crashed:
        line = f"{label}: failed (nonfinite_loss: 6 steps in a row had a non-finite gradient)"
        assert sum(line in said for said in lines) == 2  # once when it happened, once at the end with its log
        assert f"  log: {place.run(label) / 'log.txt'}" in lines
    assert sum(line.startswith("✔ [") and "score 50.0 ± 1.0 in" in line for line in lines) == 2
    assert lines[-2:] == ["little: 2 failed, 2 finished", "try the failed again with: flanscale retry little"]
    again = place.launched("little", *overrides)
    assert again.returncode == 1
    assert again.stdout.startswith("2 cells failed before (2 nonfinite_loss): flanscale retry little\n")
    assert [len(attempts(run)) for run in place.runs()] == [1] * 4


def test_two_launches_at_the_same_moment_share_the_work_and_the_slots(place: Workplace) -> None:
    (place.folder / GATHER).write_text("2")
    launchers = [place.launch("little", "trainer.steps=30", "cluster.parallelism=2") for _ in range(2)]
    results = [launcher.communicate(timeout=PATIENCE) for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], results
    assert all(out.endswith("little: 4 finished\n") for out, _ in results)
    assert_all_finished(place)
    assert all(len(attempts(run)) == 1 for run in place.runs())
    assert most_at_once(place) == 2


def test_ctrl_c_lets_running_cells_save_and_leave_and_the_next_launch_goes_on(place: Workplace) -> None:
    overrides = ("trainer.steps=60", f"seed=0,{SLOW_TO_LEAVE}", "cluster.parallelism=2")
    launcher = place.launch("little", *overrides)
    wait_until(lambda: sum((run / "checkpoint").exists() for run in place.runs()) == 2)
    os.killpg(launcher.pid, signal.SIGINT)  # as a terminal does: everything in the foreground gets it
    out, err = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 130
    assert "Traceback" not in err
    assert "stopped; go on with: launch again" in out
    assert sorted(place.statuses().values()) == ["planned", "planned", "preempted", "preempted"]
    assert len(place.runs()) == 2  # nothing half-made of the cells that had not begun
    assert place.launched("little", *overrides).returncode == 0
    assert_all_finished(place)
    for run in place.runs():
        lives = attempts(run)
        assert [life.first_step for life in lives[1:]] == [life.last_step for life in lives[:-1]]


def test_ctrl_c_twice_does_not_wait(place: Workplace) -> None:
    launcher = place.launch("little", "trainer.steps=200", "cluster.parallelism=1")
    wait_until(lambda: any(begun(run) for run in place.runs()))
    (run,) = place.runs()
    os.kill(attempts(run)[0].pid, signal.SIGSTOP)  # a cell that takes its time
    for _ in range(2):
        launcher.send_signal(signal.SIGINT)
        time.sleep(0.5)
    launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 130
    os.kill(attempts(run)[0].pid, signal.SIGCONT)
    wait_until(lambda: read_state(run).state == "preempted")


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_of_a_cell_at_any_moment_costs_no_more_than_that_attempt(place: Workplace, seed: int) -> None:
    overrides = ("trainer.steps=50", "mixture.count=9")
    launcher = place.launch("little", *overrides)
    wait_until(lambda: len(place.runs()) == 2)
    time.sleep(random.Random(seed).uniform(0.0, 1.5))
    for process in psutil.Process(launcher.pid).children(recursive=True):  # cells, and what makes them
        kill(process.pid)
    out, _ = launcher.communicate(timeout=PATIENCE)
    unfinished = [status for status in place.statuses().values() if status != "finished"]
    assert launcher.returncode == bool(unfinished), out
    assert set(unfinished) <= {"interrupted", "failed"}  # failed: killed before it could claim its run
    again = place.launched("little", *overrides)
    assert again.returncode == 0, again.stdout
    assert set(place.statuses().values()) == {"finished"}
    for run in place.runs():
        assert attempts(run)[-1].last_step == 50
        for earlier, later in itertools.pairwise(attempts(run)):
            assert earlier.ended is None or earlier.ended <= later.began


def test_kill_9_of_the_launcher_leaves_its_cells_running_and_the_next_launch_waits_for_them(place: Workplace) -> None:
    overrides = ("trainer.steps=80", "mixture.count=9", "seed=0,1,2", "cluster.parallelism=2")
    (place.folder / GATHER).write_text("2")
    launcher = place.launch("little", *overrides)
    wait_until(lambda: sum(begun(run) for run in place.runs()) == 2)
    kill(launcher.pid)
    launcher.wait()
    orphans = {run: attempts(run)[0].pid for run in place.runs()}
    assert place.launched("little", *overrides).returncode == 0
    assert_all_finished(place, cells=3)
    assert all(len(attempts(run)) == 1 for run in place.runs())
    assert all(attempts(run)[0].pid == pid for run, pid in orphans.items())
    assert most_at_once(place) == 2


def test_no_wait_returns_at_once_and_the_queue_runs_on_by_itself(place: Workplace) -> None:
    result = place.launched("--no-wait", "little", "trainer.steps=20")
    assert result.returncode == 0
    assert "watch with: flanscale status little --watch" in result.stdout
    wait_until(lambda: set(place.statuses().values()) == {"finished"})
    assert_all_finished(place)
    log = place.folder / "studies" / "little.log"
    wait_until(lambda: log.read_text().endswith("little: 4 finished\n"))


def test_a_queue_of_its_own_stops_like_any_other(place: Workplace) -> None:
    out = place.launched("--no-wait", "little", "trainer.steps=200").stdout
    queue = psutil.Process(int(out.split("process ")[1].split()[0]))
    wait_until(lambda: any(begun(run) for run in place.runs()))
    queue.terminate()
    wait_until(lambda: not queue.is_running() or queue.status() == psutil.STATUS_ZOMBIE)
    assert "running" not in place.statuses().values()
    assert "preempted" in place.statuses().values()


def test_a_cell_that_dies_before_it_has_a_log_tells_why(place: Workplace) -> None:
    (place.folder / "psutil.py").write_text("raise ImportError('broken installation')")
    path = os.pathsep.join([str(place.folder), PATH_OF_PROCESSES])
    result = place.launched("little", "mixture.count=9", "seed=0", f"cluster.environment.PYTHONPATH='{path}'")
    assert result.returncode == 1
    assert "failed (unknown: ImportError: broken installation)" in result.stdout


def test_folders_that_cannot_be_written_are_told_in_one_line_and_nothing_is_left(place: Workplace) -> None:
    (place.folder / "file").write_text("")
    result = place.launched("little", "paths.runs=file/runs")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"flanscale: cannot write to {place.folder}/file/runs: Not a directory; set paths.runs and paths.studies\n"
    )
    assert not (place.folder / "studies").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_runs_folder_is_told_in_one_line(place: Workplace) -> None:
    (place.folder / "runs").mkdir(mode=0o555)
    result = place.launched("little")
    assert result.returncode == 2
    assert "Permission denied" in result.stderr
