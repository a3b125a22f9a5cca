"""Planning is pure and quick: points, the distinct cells behind them, and what a launch would do about each."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.identity import identity, run_name
from flanscale.orchestration.planning.cost import estimated_seconds
from flanscale.orchestration.planning.ledger import ledger_of, read_ledger, write_ledger
from flanscale.orchestration.planning.order import in_order
from flanscale.orchestration.planning.plan import Plan, plan_study
from flanscale.orchestration.planning.preview import print_plan
from flanscale.orchestration.planning.study import Study
from flanscale.orchestration.running.liveness import View
from flanscale.orchestration.running.repeat import decide
from flanscale.run_directory import Failure, RunState, write_state

COUNTS = Study(
    "counts", {"mixture.count": (0, 9), "cot": (False, True), "seed": (0, 1)}, title="Counts", base=("model=nano",)
)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(study: Study = COUNTS, *overrides: str) -> Plan:
    return plan_study(study, overrides, Composer())


def test_points_with_the_same_result_share_one_cell() -> None:
    made = plan()
    assert (len(made.points), len(made.cells)) == (8, 6)
    cell_of = {tuple(point.axes.values()): point.cell for point in made.points}
    assert cell_of[0, False, 0] == cell_of[0, True, 0]  # nothing is trained at count 0, with or without rationales
    assert cell_of[0, False, 0] != cell_of[0, False, 1]
    assert cell_of[9, False, 0] != cell_of[9, True, 0]


def test_a_cell_is_named_by_its_identity_and_belongs_to_the_studys_wandb_group() -> None:
    for cell in plan().cells:
        assert (cell.id, cell.run) == (identity(cell.config), run_name(cell.config))
        assert cell.config.tracker.group == "counts"


def test_overrides_change_every_cell_and_axes() -> None:
    made = plan(COUNTS, "seed=3", "trainer.steps=7")
    assert {point.axes["seed"] for point in made.points} == {3}
    assert {cell.config.trainer.steps for cell in made.cells} == {0, 7}


def test_planning_touches_nothing(tmp_path: Path) -> None:
    plan()
    assert list(tmp_path.iterdir()) == []


def test_costs_are_counted_per_cell() -> None:
    free, paid = plan(COUNTS, "seed=0", "cot=false", "trainer.steps=10").cells
    assert free.cost.parameters == paid.cost.parameters > 0
    assert (free.cost.flops, free.cost.tokens) == (0, 0)
    trainer = paid.config.trainer
    assert paid.cost.tokens == 10 * trainer.batch_rows * (trainer.input_tokens + trainer.target_tokens)
    twice = plan(COUNTS, "seed=0", "cot=false", "trainer.steps=20").cells[1]
    assert twice.cost.flops == pytest.approx(2 * paid.cost.flops)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("paths.runs=a,b", "paths.runs=a and paths.runs=b: it changes no result"),
        ("cluster=local,slurm", "cluster.name=local and cluster.name=slurm: it changes no result"),
        ("trainer.steps=-1,5", "trainer.steps=-1: must be at least 0"),
        ("mixture.templates=flan", "data.flan"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan(COUNTS, override)
    assert "\n" not in str(caught.value)


# --- the index ---------------------------------------------------------------------------------------------------


def test_the_index_names_points_cells_and_runs(tmp_path: Path) -> None:
    made = plan(COUNTS, "seed=0")
    ledger = ledger_of(made)
    ledger.path.parent.mkdir()
    write_ledger(ledger)
    index = json.loads((tmp_path / "studies" / "counts.json").read_text())
    assert (index["format"], index["study"], index["title"]) == (1, "counts", "Counts")
    assert index["overrides"] == ["seed=0"]
    assert index["axes"] == {"mixture.count": [0, 9], "cot": [False, True], "seed": [0]}
    assert index["points"][1] == {
        "axes": {"mixture.count": 0, "cot": True, "seed": 0},
        "cell": made.cells[0].id,
        "run": made.cells[0].run,
    }
    assert (tmp_path / "studies" / index["runs"]).resolve() == tmp_path / "runs"
    assert read_ledger(ledger.path) == ledger


def test_the_index_still_finds_the_runs_when_both_folders_have_moved(tmp_path: Path) -> None:
    ledger = ledger_of(plan())
    ledger.path.parent.mkdir()
    write_ledger(ledger)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "studies").rename(tmp_path / "elsewhere" / "studies")
    moved = read_ledger(tmp_path / "elsewhere" / "studies" / "counts.json")
    assert moved.runs == tmp_path / "elsewhere" / "runs"


def test_an_index_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    ledger = ledger_of(plan())
    ledger.path.parent.mkdir()
    write_ledger(ledger)
    document = json.loads(ledger.path.read_text())
    del document["removed"]
    for record in document["cells"].values():
        del record["run"], record["parents"]
    ledger.path.write_text(json.dumps(document))
    assert read_ledger(ledger.path) == ledger


def test_the_index_keeps_cells_that_left_the_study_while_they_are_begun_and_unfinished() -> None:
    before = ledger_of(plan(COUNTS, "seed=0,1,2,3"))
    before.path.parent.mkdir()
    write_ledger(before)
    for label, state in (("9-cot-s3", "preempted"), ("9-direct-s3", "finished"), ("9-cot-s2", "failed")):
        (entry,) = [entry for entry in before.entries if entry.label.endswith(label)]
        before.directory(entry).mkdir(parents=True)
        write_state(before.directory(entry), RunState(state=state, attempt=1))
    kept = {"procedural-nano-9-cot-s3", "procedural-nano-9-cot-s2"}
    smaller = ledger_of(plan())
    assert {entry.label for entry in smaller.removed} == kept
    write_ledger(smaller)
    assert {entry.label for entry in ledger_of(plan()).removed} == kept  # and the next time, too
    assert read_ledger(smaller.path) == smaller
    assert ledger_of(plan(COUNTS, "seed=0,1,2,3")).removed == ()


def test_the_plan_tells_what_left_the_study_and_what_its_rules_did() -> None:
    before = ledger_of(plan(COUNTS, "seed=0,1,2"))
    before.path.parent.mkdir()
    write_ledger(before)
    (entry,) = [entry for entry in before.entries if entry.label.endswith("9-cot-s2")]
    before.directory(entry).mkdir(parents=True)
    study = replace(COUNTS, exclude=({"mixture.count": (0,), "cot": (True,)}, {"seed": (1,), "cot": (True,)}))
    text = io.StringIO()
    print_plan(plan(study), Console(file=text, width=200))
    assert (
        f"no longer in the study, begun and unfinished: {entry.run}; flanscale cancel counts --removed\n"
        in text.getvalue()
    )
    assert "exclude removes 3 of 8 points: count=0, cot=true 2; seed=1, cot=true 2\n" in text.getvalue()


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"format": 1}')
    with pytest.raises(ConfigError, match=r"x.json is not a study index \(KeyError: 'points'\)"):
        read_ledger(path)


# --- deciding ----------------------------------------------------------------------------------------------------

RAN = RunState(attempt=1, host="h", pid=1)


@pytest.mark.parametrize(
    ("state", "alive", "action", "reason"),
    [
        (RunState(), False, "start", "not run yet"),
        (replace(RAN, state="finished"), False, "done", "finished in attempt 1"),
        (replace(RAN, state="running"), True, "wait", "running (h, process 1)"),
        (replace(RAN, state="running"), False, "resume", "attempt 1 was interrupted"),
        (replace(RAN, state="queued", job="7_1"), True, "wait", "queued (Slurm job 7_1)"),
        (replace(RAN, state="preempted", job="7_1"), True, "wait", "preempted (Slurm job 7_1)"),
        (replace(RAN, state="preempted"), False, "resume", "attempt 1 was preempted"),
        (replace(RAN, state="failed", failure=Failure("data", "x")), False, "failed", "attempt 1 failed: data"),
        (replace(RAN, state="failed", failure=Failure("timeout", "x")), False, "retry", "attempt 1 failed: timeout"),
        (RunState(state="queued", host="h", pid=1), False, "start", "not run yet"),
    ],
)
def test_a_launch_starts_only_what_is_neither_finished_nor_in_somebodys_hands(
    state: RunState, alive: bool, action: str, reason: str
) -> None:
    decision = decide(View(state, alive))
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.starts == (action in ("start", "resume", "retry"))


def test_a_class_of_failure_that_is_asked_for_is_tried_again() -> None:
    view = View(replace(RAN, state="failed", failure=Failure("data", "x")), alive=False)
    assert [decide(view, retry).action for retry in ((), ("config",), ("config", "data"))] == [
        "failed",
        "failed",
        "retry",
    ]


def test_the_cheapest_training_goes_first_then_the_longest() -> None:
    study = Study("s", {"model": ("nano", "micro"), "mixture.count": (0, 9)}, base=("seed=0",))
    names = [
        (cell.config.model.name, cell.config.mixture.count)
        for cell in in_order(plan(study), plan(study).cells, "longest")
    ]
    assert names == [("nano", 9), ("micro", 9), ("nano", 0), ("micro", 0)]


def test_the_time_of_a_cell_is_estimated_from_measured_ones_only() -> None:
    weights = {"a": 10.0, "b": 20.0, "c": 0.0}
    assert estimated_seconds(weights, {}) is None
    assert estimated_seconds(weights, {"a": 5.0}) == {"b": 10.0, "c": 5.0}
