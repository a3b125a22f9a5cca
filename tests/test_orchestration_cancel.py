"""Cancelling stops what is meant and nothing else, each cell as it is at that moment and not as it was seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from little_study import PATIENCE, attempts, begun, kill, wait_until
from steering import Steering, failed, record

from flanscale.orchestration.planning.ledger import read_ledger, write_ledger
from flanscale.orchestration.running import slurm as scancel
from flanscale.orchestration.running.liveness import this_host, this_process
from flanscale.orchestration.running.withheld import withheld
from flanscale.orchestration.steering import cancel
from flanscale.run_directory import RunState, read_state

LONG = ("trainer.steps=2000", "cluster.parallelism=2")


@pytest.fixture
def steering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steering:
    return Steering(tmp_path, monkeypatch, capsys)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody may signal."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_cancelled_cell_saves_and_is_not_taken_up_again_while_the_others_go_on(steering: Steering) -> None:
    place = steering.place
    with place.launch("little", "trainer.steps=300", "cluster.parallelism=2", "mixture.count=9", "seed=0,1,2") as queue:
        wait_until(lambda: sum(begun(run) for run in place.runs()) == 2)
        first, second = (run for run in place.runs() if begun(run))
        (result,) = json.loads(
            steering.type("cancel", "little", "--state", "queued", "--json")[1]
        )  # it has no slot yet
        assert set(result["waiting"]) - {first.name} != set()
        assert result["processes"] == []
        code, out, _ = steering.type("cancel", first.name[:10])
        assert (code, out.splitlines()[0]) == (
            0,
            "1 cell running on this host: saving a checkpoint, preempted then, and not taken up again",
        )
        queue.communicate(timeout=PATIENCE)
    assert read_state(first).state == "preempted"
    assert [life.last_step for life in attempts(first)] == [int((first / "checkpoint").read_text())]
    assert read_state(second).state == "finished"
    assert sorted(place.statuses().values()) == ["finished", "planned", "preempted"]
    retried = steering.type("retry", "little")
    assert "starts 1 cell again (1 preempted); leaves 2" in retried[1]
    assert [life.first_step for life in attempts(first)] == [0, attempts(first)[0].last_step]
    assert read_state(first).state == "finished"


def test_cancelling_a_study_ends_its_queue_and_two_cancels_at_once_do_no_harm(steering: Steering) -> None:
    place = steering.place
    with place.launch("little", *LONG) as queue:
        wait_until(lambda: sum(begun(run) for run in place.runs()) == 2)
        command = [sys.executable, "-m", "flanscale.cli.main", "cancel", "little", "--json"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [json.loads(each.communicate(timeout=PATIENCE)[0]) for each in both]
        queue.communicate(timeout=PATIENCE)
    assert [each.returncode for each in both] == [0, 0]
    assert sorted(place.statuses().values()) == ["planned", "planned", "preempted", "preempted"]
    assert len({run for (result,) in told for run in result["processes"]}) == 2
    assert all(len(attempts(run)) <= 1 for run in place.runs())


def test_cells_whose_launcher_was_killed_are_cancelled_too(steering: Steering) -> None:
    place = steering.place
    launcher = place.launch("little", *LONG, "mixture.count=9", "seed=0")
    wait_until(lambda: any(begun(run) for run in place.runs()))
    kill(launcher.pid)
    launcher.communicate()
    (run,) = place.runs()
    steering.type("cancel", "little")
    wait_until(lambda: read_state(run).state == "preempted")
    assert attempts(run)[0].last_step is not None


def test_a_process_that_has_the_number_of_a_dead_cell_is_left_alone(
    steering: Steering, bystander: subprocess.Popen[bytes]
) -> None:
    steering.place.pretend_finished("seed=0", "mixture.count=9")
    (run,) = steering.place.runs()
    long_dead = RunState(state="running", attempt=1, host=this_host(), pid=bystander.pid, process_started=1.0)
    record(run, long_dead)
    assert steering.type("cancel", "little")[0] == 0
    time.sleep(0.3)
    assert bystander.poll() is None
    assert read_state(run) == long_dead


def test_a_cell_that_ends_between_looking_and_cancelling_keeps_its_end(
    steering: Steering, bystander: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    steering.place.pretend_finished("seed=0", "mixture.count=9")
    (run,) = steering.place.runs()
    born = psutil.Process(bystander.pid).create_time() - psutil.boot_time()
    record(run, RunState(state="running", attempt=1, host=this_host(), pid=bystander.pid, process_started=born))
    real = cancel.withhold

    def ending(directory: Path) -> None:
        record(directory, RunState(state="finished", attempt=1))
        real(directory)

    monkeypatch.setattr(cancel, "withhold", ending)
    _, out, _ = steering.type("cancel", "little")
    assert out.splitlines() == ["1 cell ended by themselves meanwhile", "nothing cancelled: 1 running"]
    assert bystander.poll() is None
    assert read_state(run).state == "finished"


def test_cancelling_an_evaluation_keeps_back_no_other_of_its_name(tmp_path: Path) -> None:
    one, other = (tmp_path / run / "evaluations" / "flan-0" for run in ("a", "b"))
    before = time.time()
    cancel.withhold(one)
    assert withheld(one, before - 1)
    assert not withheld(other, before - 1)
    assert not withheld(tmp_path / "a", before - 1), "the run that it asks goes on"


def test_a_cell_on_another_host_is_to_be_cancelled_there(steering: Steering) -> None:
    steering.place.pretend_finished("seed=0", "mixture.count=9")
    (run,) = steering.place.runs()
    record(run, RunState(state="running", attempt=1, host="node17", pid=os.getpid(), process_started=1.0))
    _, out, _ = steering.type("cancel", "little")
    assert out.splitlines() == ["1 cell at work on node17: left, cancel them there", "nothing cancelled: 1 running"]


def test_many_cells_are_cancelled_only_when_somebody_confirms(steering: Steering) -> None:
    steering.place.pretend_finished("seed=range(0,6)")
    for run in steering.place.runs():
        record(run, RunState(state="preempted", attempt=1))
    code, out, err = steering.type("cancel", "little")
    assert (code, out) == (2, "")
    assert err == "flanscale: this would cancel 12 cells; add --yes, since there is no terminal to ask on\n"
    code, out, _ = steering.type("cancel", "little", "--yes")
    assert out.startswith("12 cells waiting or stopped: no launch that is under way starts them\n")
    assert code == 0
    assert steering.type("cancel", "little", "--where", "seed=0,1")[0] == 0  # four


def test_only_what_has_left_the_study_is_cancelled_with_removed(steering: Steering) -> None:
    place = steering.place
    place.pretend_finished("seed=0")
    ledger = read_ledger(Path("studies/little.json"))
    gone, stays = (place.run(f"-{count}-direct-s0") for count in (9, 89))
    for run in (gone, stays):
        record(run, RunState(state="running", attempt=1, host="node17", pid=1))
    entries = {entry.run: entry for entry in ledger.entries}
    points = tuple(point for point in ledger.points if point.cell == entries[stays.name].id)
    write_ledger(replace(ledger, points=points, entries=(entries[stays.name],), removed=(entries[gone.name],)))
    (result,) = json.loads(steering.type("cancel", "little", "--removed", "--json")[1])
    assert result["other_hosts"] == {"node17": [gone.name]}
    code, _, err = steering.type("cancel", "little", "--removed", "--where", "seed=0")
    assert code == 2
    assert "--removed --where" in err


def test_a_study_with_nothing_to_cancel_says_so(steering: Steering) -> None:
    steering.place.pretend_finished("seed=0")
    record(steering.place.run("-9-direct-s0"), failed("data"))
    assert steering.type("cancel", "little") == (0, "nothing cancelled: 1 failed, 1 finished\n", "")
    assert not Path("runs/.cancelled").exists()


@pytest.mark.parametrize("state", ["planned", "preempted", "interrupted", "running"])
def test_a_state_means_the_cells_that_the_table_calls_so(steering: Steering, state: str) -> None:
    steering.place.pretend_finished()
    dead = RunState(state="running", attempt=1, host=this_host(), pid=2**22 + 1, process_started=1.0)
    states = {
        "planned": RunState(),
        "preempted": RunState(state="preempted", attempt=1),
        "interrupted": dead,
        "running": replace(dead, host="node17"),
    }
    runs = dict(zip(states, steering.place.runs(), strict=True))
    for name, run in runs.items():
        record(run, states[name])
    (result,) = json.loads(steering.type("cancel", "little", "--state", state, "--json")[1])
    assert [*result["waiting"], *result["other_hosts"].get("node17", [])] == [runs[state].name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["little", "--state", "finished"], "--state finished: not one of running, queued"),
        (["little", "--state", "quued"], "did you mean queued?"),
        (["little", "--where", "mixture.cont=9"], "mixture.cont"),
        (["nothing"], "no study 'nothing' in studies/; nothing: no such run among the "),
        (["runs"], "no study 'runs'"),
    ],
)
def test_a_mistake_is_one_line(steering: Steering, arguments: list[str], message: str) -> None:
    steering.place.pretend_finished("seed=0")
    code, out, err = steering.type("cancel", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


# --- Slurm, by a stand-in for its commands ------------------------------------------------------------------------


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a `scancel` notes what it is told; `squeue` shows job 7 of this folder of runs, and job 8 of another."""
    folder = tmp_path / "bin"
    folder.mkdir()
    told = tmp_path / "told"
    squeue = f"""#!/bin/sh
case "$*" in
  *%o*) [ -f {told} ] || printf '7_3|{tmp_path}/runs/.submitit/little-1/a.sh\\n8|/elsewhere/runs/a.sh\\n' ;;
  *) [ -f {told} ] && printf '8\\n' || printf '7_3\\n8\\n' ;;
esac
"""
    for name, script in (("squeue", squeue), ("scancel", f'#!/bin/sh\necho "$@" >> {told}\n')):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return told


def test_a_waiting_job_is_cancelled_and_planned_again_and_a_job_number_given_out_again_is_not_touched(
    steering: Steering, words: Path
) -> None:
    steering.place.pretend_finished("seed=0")
    waiting, reused = (steering.place.run(f"-{count}-direct-s0") for count in (9, 89))
    me = this_process()
    here = {"host": me.host, "pid": me.pid, "process_started": me.started}
    record(waiting, RunState().queued(**here, job="7_3"))
    record(reused, RunState(state="running", attempt=1, job="8", **here))
    _, out, _ = steering.type("cancel", "little")
    assert words.read_text() == "7_[3]\n"
    assert out.splitlines()[:2] == [
        "1 cell waiting in Slurm: taken out of the queue",
        "1 cell whose job's number is another job's by now: left",
    ]
    assert not waiting.exists()  # never begun: nothing half-made stays
    assert steering.place.statuses() == {
        "procedural-nano-9-direct-s0": "planned",
        "procedural-nano-89-direct-s0": "running",
    }


def test_the_elements_of_an_array_are_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(scancel, "_slurm", lambda *command: said.append(command) or [])
    scancel.cancel_jobs(["7_0", "7_2", "7_1", "9", "7_5", "12_3"])
    assert said == [("scancel", "9", "7_[0-2,5]", "12_[3]")]
