"""What failed is started again as it was, by class and place; what is finished, alive or not asked for is left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from little_study import attempts
from steering import Steering, failed, record

from flanscale.config.compose import load, save
from flanscale.identity import identity
from flanscale.orchestration.planning.ledger import read_ledger
from flanscale.orchestration.running.sharing import THREADS, environment_of
from flanscale.orchestration.steering.retry import make_retry
from flanscale.orchestration.steering.targets import Target, look_at
from flanscale.orchestration.watching.selection import Filter
from flanscale.run_directory import RunState, read_state
from flanscale.schema import PathsConfig


@pytest.fixture
def steering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steering:
    made = Steering(tmp_path, monkeypatch, capsys)
    made.place.pretend_finished()
    return made


def test_only_the_failures_asked_for_are_started_again_and_the_others_say_why_not(steering: Steering) -> None:
    place = steering.place
    again = record(place.run("-9-direct-s0"), failed("data"))
    record(place.run("-9-direct-s1"), failed("out_of_memory"))
    record(place.run("-89-direct-s0"), RunState(state="running", attempt=1, host="elsewhere", pid=1))
    index = Path("studies/little.json").read_bytes()
    before = {run: (run / "state.json").read_bytes() for run in place.runs()}
    code, out, _ = steering.type("retry", "little", "--class", "data,config", "cluster.timeout_minutes=77")
    assert out.startswith(
        "starts 1 cell again (1 data); leaves 3: 1 failed (out_of_memory), not asked for, 1 running, 1 finished\n"
    )
    assert code == 1  # of the study, of which one cell has failed still
    assert (read_state(again).state, read_state(again).attempt) == ("finished", 2)
    assert load(again).cluster.timeout_minutes == 77
    assert all((run / "state.json").read_bytes() == before[run] for run in place.runs() if run != again)
    assert Path("studies/little.json").read_bytes() == index


def test_a_retried_cell_goes_on_from_its_checkpoint_with_its_setbacks_forgiven(steering: Steering) -> None:
    stopped = record(steering.place.run("-89-direct-s1"), RunState(state="preempted", attempt=2, stalled=3))
    (stopped / "checkpoint").write_text("12")
    code, out, _ = steering.type("retry", stopped.name[:10])
    assert "starts 1 cell again (1 preempted)\n" in out
    assert code == 0
    assert attempts(stopped)[0].first_step == 12
    assert (read_state(stopped).state, read_state(stopped).stalled) == ("finished", 0)


def test_where_and_state_choose_and_json_tells_what_was_done(steering: Steering) -> None:
    for run in steering.place.runs():
        record(run, failed("unknown"))
    record(steering.place.run("-9-direct-s1"), RunState(state="running", attempt=1, host="elsewhere", pid=1))
    code, out, err = steering.type("retry", "little", "--failed", "--where", "count=9", "--json")
    document = json.loads(out)
    assert [name.split("-", 1)[1] for name in document["started"]] == ["procedural-nano-9-direct-s0"]
    assert {left["run"].split("-", 1)[1]: left["reason"] for left in document["left"]} == {
        "procedural-nano-9-direct-s1": "running",
        "procedural-nano-89-direct-s0": "failed (unknown), not asked for",
        "procedural-nano-89-direct-s1": "failed (unknown), not asked for",
    }
    assert "starts 1 cell again" in err
    assert code == 1


def test_a_cell_waits_for_the_cell_it_starts_from_and_is_started_together_with_it(steering: Steering) -> None:
    parent, child = (steering.place.run(f"-{count}-direct-s0") for count in (9, 89))
    for run in (parent, child):
        record(run, failed("node"))
    path = Path("studies/little.json").absolute()
    ledger = read_ledger(path)
    ids = {entry.run: entry.id for entry in ledger.entries}
    heirs = (
        replace(entry, parents=(ids[parent.name],)) if entry.run == child.name else entry for entry in ledger.entries
    )
    ledger = replace(ledger, entries=tuple(heirs))
    both = look_at(Target(ledger, ledger.entries), Filter(), set)
    (_, plan), *_ = make_retry(both, []).plans
    assert {cell.run: cell.parents for cell in plan.cells} == {parent.name: (), child.name: (ids[parent.name],)}
    alone = [replace(cell, meant=cell.entry.run == child.name) for cell in both]
    assert {
        left.cell.entry.run: left.reason for left in make_retry(alone, []).left if left.cell.entry.run == child.name
    } == {child.name: f"starts from {parent.name}, which is not finished"}
    record(parent, RunState(state="finished", attempt=1))
    assert [cell.parents for _, plan in make_retry(alone, []).plans for cell in plan.cells] == [()]


def test_a_cluster_by_name_replaces_the_whole_section_and_single_keys_come_after_it(steering: Steering) -> None:
    run = record(steering.place.run("-9-direct-s0"), failed("out_of_memory"))
    ledger = read_ledger(Path("studies/little.json"))
    cells = look_at(Target(ledger, ledger.entries), Filter(), set)
    (_, plan), *_ = make_retry(cells, ["cluster.memory_gb=96", "cluster=slurm", "cluster.cpus=4"]).plans
    (cell,) = plan.cells
    assert cell.run == run.name
    assert (cell.config.cluster.name, cell.config.cluster.memory_gb, cell.config.cluster.cpus) == ("slurm", 96, 4)
    (_, plan), *_ = make_retry(cells, ["cluster.cpus=2"]).plans
    assert {plan.cells[0].config.cluster.environment[name] for name in THREADS} == {"2"}
    assert identity(cell.config) == cell.id


def test_what_a_cell_has_of_a_shared_gpu_is_the_same_when_it_is_retried(steering: Steering) -> None:
    run = record(steering.place.run("-9-direct-s0"), failed("out_of_memory"))
    ledger = read_ledger(Path("studies/little.json"))
    cells = look_at(Target(ledger, ledger.entries), Filter(), set)
    shared = ["cluster=slurm", "cluster.cells_per_job=4", "cluster.cells_at_once=4"]
    (_, plan), *_ = make_retry(cells, shared).plans
    save(plan.cells[0].config, run)
    (_, again), *_ = make_retry(cells, ["cluster.timeout_minutes=77"]).plans
    fractions = [
        environment_of(made.cells[0].config.cluster)["XLA_PYTHON_CLIENT_MEM_FRACTION"] for made in (plan, again)
    ]
    assert fractions == ["0.230", "0.230"]


def test_a_run_that_no_study_has_is_retried_alone(steering: Steering) -> None:
    run = record(steering.place.run("-9-direct-s0"), failed("unknown"))
    Path("studies/little.json").unlink()
    code, out, _ = steering.type("retry", str(run))
    assert code == 0
    assert read_state(run).state == "finished"
    assert not list(Path(PathsConfig().studies).glob("*.json"))
    assert "starts 1 cell again (1 unknown)\n" in out


def test_a_cell_of_another_version_is_left_to_launch(steering: Steering, monkeypatch: pytest.MonkeyPatch) -> None:
    run = record(steering.place.run("-9-direct-s0"), failed("unknown"))
    monkeypatch.setattr("flanscale.identity.__version__", "99")
    code, out, _ = steering.type("retry", run.name)
    assert out == (
        "starts nothing again; leaves 1: 1 made by another version of flanscale; `flanscale launch` starts it anew\n"
    )
    assert (code, read_state(run).attempt) == (0, 1)


def test_other_content_under_a_key_that_is_fingerprinted_is_refused(steering: Steering) -> None:
    run, start = steering.place.run("-9-direct-s0"), steering.place.run("-9-direct-s1")
    record(run, failed("unknown"))
    code, out, err = steering.type("retry", run.name, f"init.run={start}")
    assert (code, out) == (2, "")
    assert err == f"flanscale: init.run={start}: other content than {run.name} was planned with\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["little", "trainer.steps=5"], "trainer.steps=5: trainer.steps changes the result, so it makes another cell"),
        (["little", "model=micro"], "model=micro: model (with model.name) changes the result"),
        (["little", "paths.runs=x"], "paths.runs=x: paths says where the run is, and it stays there"),
        (["little", "cluster.memry_gb=3"], "unknown key 'cluster.memry_gb'; did you mean cluster.memory_gb"),
        (["little", "cluster.memory_gb=many"], "cluster.memory_gb=many"),
        (["little", "--class", "dta"], "--class dta: not one of config, data, "),
        (["little", "--state", "running"], "--state running: not one of failed, interrupted, preempted"),
        (["little", "--where", "sead=1"], "sead"),
        (["little", "--where", "seed=7"], "7"),
        (["litle"], "no study 'litle' in studies/; did you mean little?; litle: no such run among the "),
        (["cluster.cpus=2"], "no study or run is named"),
        (["direct"], "direct: 4 runs are called so: "),
        ([""], "no study '' in studies/"),
        (["none.json"], "no study index at none.json"),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(steering: Steering, arguments: list[str], message: str) -> None:
    run = record(steering.place.run("-9-direct-s0"), failed("unknown"))
    code, out, err = steering.type("retry", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert message in line
    assert read_state(run) == failed("unknown")
