"""Only checkpoints that nobody needs are deleted, and whenever that is interrupted each is whole or gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from little_study import wait_until
from steering import Steering, failed, record

from flanscale.config import compose
from flanscale.orchestration.dispatch import snapshot
from flanscale.orchestration.planning.ledger import read_ledger, write_ledger
from flanscale.orchestration.running.claim import RUN, claim
from flanscale.orchestration.running.liveness import this_process
from flanscale.run_directory import RunState, read_state
from flanscale.run_directory.evaluations import write_result

STEPS = (10, 15, 20)
LEAVES = 12  # files of one checkpoint
TWO_HOURS_AGO = time.time() - 7200


@pytest.fixture
def steering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steering:
    made = Steering(tmp_path, monkeypatch, capsys)
    made.place.pretend_finished("seed=0")
    for run in made.place.runs():
        for step in STEPS:
            save(run, step, best=10)
    return made


def save(run: Path, step: int, best: int | None) -> None:
    """A checkpoint as Orbax lays it out."""
    folder = run / "checkpoints" / str(step)
    for leaf in range(LEAVES):
        (folder / "state" / f"{leaf:03d}").mkdir(parents=True)
        (folder / "state" / f"{leaf:03d}" / "data").write_bytes(b"x" * 10)
    (folder / "progress").mkdir()
    (folder / "progress" / "metadata").write_text(json.dumps({"progress": {"best": {"step": best, "loss": 1.0}}}))


def kept(run: Path) -> list[int]:
    """The steps whose checkpoints are there, each of them whole."""
    steps = sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    for step in steps:
        folder = run / "checkpoints" / str(step)
        assert len(list(folder.glob("state/*/data"))) == LEAVES
        assert (folder / "progress" / "metadata").exists()
    return steps


def changed(run: Path, **knobs: object) -> None:
    """Another configuration in a run directory."""
    cell = compose.load(run)
    compose.save(
        replace(cell, **{name: replace(getattr(cell, name), **value) for name, value in knobs.items()}),
        run,
    )


@pytest.mark.parametrize(
    ("policy", "select", "steps"),
    [
        ("best,last", "last", [10, 20]),
        ("final", "last", [20]),
        ("final", "best", [10]),
        ("none", "last", []),
    ],
)
def test_a_policy_says_what_stays_of_a_finished_run(
    steering: Steering, policy: str, select: str, steps: list[int]
) -> None:
    for run in steering.place.runs():
        changed(run, trainer={"select": select}, mixture={"validation_examples": 1})
    code, out, _ = steering.type("prune", "little", "--keep", policy)
    assert [kept(run) for run in steering.place.runs()] == [[*STEPS]] * 2
    assert out.endswith("nothing has been deleted; --yes does it\n")
    code, out, _ = steering.type("prune", "little", "--keep", policy, "--yes", "--json")
    assert code == 0
    assert [kept(run) for run in steering.place.runs()] == [steps] * 2
    (row,) = json.loads(out)["studies"]
    left = sum(path.stat().st_size for path in Path("runs").glob("*/checkpoints/**/*") if path.is_file())
    assert (row["study"], row["runs"], row["bytes_after"]) == ("little", 2, left)
    assert row["bytes_before"] > left
    assert not any((run / ".pruned").exists() for run in steering.place.runs())
    again = json.loads(steering.type("prune", "little", "--keep", policy, "--yes", "--json")[1])
    assert again["studies"][0]["bytes_before"] == again["studies"][0]["bytes_after"] == left


@pytest.mark.parametrize("state", ["failed", "preempted", "running", "queued"])
def test_an_unfinished_run_keeps_all_its_checkpoints_but_not_what_a_dead_attempt_was_writing(
    steering: Steering, state: str
) -> None:
    run = steering.place.run("-9-direct-s0")
    partial = run / "checkpoints" / "25.orbax-checkpoint-tmp"
    partial.mkdir()
    me = this_process()
    alive = {"host": me.host, "pid": me.pid, "process_started": me.started} if state in ("running", "queued") else {}
    record(run, RunState(state=state, attempt=1, **alive))
    steering.type("prune", "little", "--keep", "none", "--yes")
    assert kept(run) == [*STEPS]
    assert partial.exists() == bool(alive)


def test_what_another_cell_starts_from_stays_by_its_configuration_and_by_the_plan(steering: Steering) -> None:
    parent, child = (steering.place.run(f"-{count}-direct-s0") for count in (9, 89))
    shutil.copytree(child, child.with_name("0123456789-of-nobody"))
    other = Path("runs/0123456789-of-nobody")
    changed(other, init={"run": str(parent.absolute())})
    steering.type("prune", "little", "--keep", "none", "--yes")
    assert (kept(parent), kept(child)) == ([20], [])
    shutil.rmtree(other)
    ledger = read_ledger(Path("studies/little.json"))
    ids = {entry.run: entry.id for entry in ledger.entries}
    entries = tuple(
        replace(entry, parents=(ids[parent.name],)) if entry.run == child.name else entry for entry in ledger.entries
    )
    write_ledger(replace(ledger, entries=entries))
    steering.type("prune", "little", "--keep", "none", "--yes")
    assert kept(parent) == [20]
    write_ledger(ledger)
    steering.type("prune", "little", "--keep", "none", "--yes")
    assert kept(parent) == []


def test_a_run_that_somebody_has_claimed_or_that_finished_lately_is_left(steering: Steering) -> None:
    lately, old = (steering.place.run(f"-{count}-direct-s0") for count in (9, 89))
    record(old, replace(read_state(old), updated=time.time() - 3 * 86_400))
    record(lately, replace(read_state(lately), updated=time.time() - 3600))
    with claim(old, RUN) as mine:
        assert mine
        out = steering.type("prune", "little", "--older-than", "2", "--yes")[1]
        assert f"left: {old.name}: somebody is at it\n" in out
        assert kept(old) == [*STEPS]
    steering.type("prune", "little", "--older-than", "2", "--yes")
    assert (kept(old), kept(lately)) == ([10, 20], [*STEPS])


def test_a_checkpoint_that_does_not_tell_the_best_keeps_its_run_as_it_is(steering: Steering) -> None:
    unclear, clear = (steering.place.run(f"-{count}-direct-s0") for count in (9, 89))
    (unclear / "checkpoints" / "20" / "progress" / "metadata").write_text("{torn")
    out = steering.type("prune", "little", "--yes")[1]
    assert "20/progress/metadata cannot be read (JSONDecodeError" in out
    assert ": it does not tell which checkpoint is the best" in out
    assert (len(list((unclear / "checkpoints").iterdir())), kept(clear)) == (3, [10, 20])


def test_what_an_evaluation_has_yet_to_read_stays(steering: Steering) -> None:
    """One that is over, of the run itself or another, keeps nothing."""
    waiting, asked = (steering.place.run(f"-{count}-direct-s0") for count in (9, 89))
    for run in (waiting, asked):
        (run / "evaluations" / "mmlu-0123abcd").mkdir(parents=True)
    write_result(asked / "evaluations" / "mmlu-0123abcd", {})
    out = steering.type("prune", "little", "--keep", "none", "--yes")[1]
    assert (kept(waiting), kept(asked)) == (list(STEPS), [])
    assert f"{waiting.name}.evaluations.mmlu-0123abcd is not over and reads the checkpoints, which stay" in out


def test_kill_9_in_the_middle_leaves_every_checkpoint_whole_or_gone(steering: Steering) -> None:
    slow = (
        "import os, sys, time, shutil\n"
        "real = os.unlink\n"
        "def unlink(*given, **named):\n"
        "    time.sleep(0.01)\n"
        "    real(*given, **named)\n"
        "os.unlink = unlink\n"
        "sys.argv = ['flanscale', 'prune', 'little', '--keep', 'none', '--yes']\n"
        "from flanscale.cli.main import main\n"
        "main()\n"
    )
    runs = steering.place.runs()
    with subprocess.Popen([sys.executable, "-c", slow], start_new_session=True) as process:
        wait_until(lambda: any((run / ".pruned").exists() for run in runs))
        os.kill(process.pid, signal.SIGKILL)
    assert any((run / ".pruned").exists() for run in runs)
    assert set().union(*map(kept, runs)) <= {*STEPS}  # and each of them whole
    steering.type("prune", "little", "--keep", "none", "--yes")
    assert [kept(run) for run in runs] == [[], []]
    assert not any((run / ".pruned").exists() for run in runs)


def test_all_covers_runs_of_no_study_and_what_launches_have_left_behind(steering: Steering) -> None:
    run = steering.place.run("-9-direct-s0")
    shutil.copytree(run, run.with_name("0123456789-of-nobody"))
    ended, fresh = Path(f"runs/.submitit/{run.name}-1"), Path(f"runs/.submitit/{run.name}-2")
    for folder in (ended, fresh):
        folder.mkdir(parents=True)
        (folder / "1_submitted.pkl").write_bytes(b"x" * 1000)
    os.utime(ended, (TWO_HOURS_AGO, TWO_HOURS_AGO))
    unused = snapshot.take(Path("runs").absolute(), [run.name]).path
    os.utime(f"{unused}.runs", (TWO_HOURS_AGO, TWO_HOURS_AGO))
    document = json.loads(steering.type("prune", "--all", "--yes", "--json")[1])
    assert [(row["study"], row["runs"]) for row in document["studies"]] == [("little", 2), ("(of no study)", 1)]
    assert document["bytes_left_over"] > 1000
    assert (ended.exists(), fresh.exists(), unused.exists()) == (False, True, False)
    assert kept(Path("runs/0123456789-of-nobody")) == [10, 20]


def test_an_unfinished_cell_keeps_the_code_and_the_folder_of_its_job(steering: Steering) -> None:
    run = record(steering.place.run("-9-direct-s0"), failed("data"))
    me = this_process()
    record(run, RunState().queued(host=me.host, pid=me.pid, process_started=me.started))
    folder = Path(f"runs/.submitit/{run.name}-1")
    folder.mkdir(parents=True)
    used = snapshot.take(Path("runs").absolute(), [run.name]).path
    for path in (folder, Path(f"{used}.runs")):
        os.utime(path, (TWO_HOURS_AGO, TWO_HOURS_AGO))
    steering.type("prune", "--all", "--yes")
    assert folder.exists()
    assert used.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "prune what? one study, or --all"),
        (["little", "--all"], "prune what? one study, or --all"),
        (["little", "--keep", "last"], "--keep last: must be best,last, final or none"),
        (["litle"], "no study 'litle' in studies/; did you mean little?"),
    ],
)
def test_a_mistake_is_one_line_and_deletes_nothing(steering: Steering, arguments: list[str], message: str) -> None:
    code, out, err = steering.type("prune", *arguments, "--yes")
    assert (code, out) == (2, "")
    assert err.splitlines() == [f"flanscale: {message}"]
    assert [kept(run) for run in steering.place.runs()] == [[*STEPS]] * 2


def test_a_configuration_that_cannot_be_read_stops_everything(steering: Steering) -> None:
    (steering.place.run("-9-direct-s0") / "config.yaml").write_text("{torn")
    code, _, err = steering.type("prune", "little", "--keep", "none", "--yes")
    assert code == 2
    assert "config.yaml cannot be read (ParserError: " in err
    assert ": what it starts from is not known" in err
    assert [kept(run) for run in steering.place.runs()] == [[*STEPS]] * 2
