"""Pretrain once, finetune many: what points start from is planned with them, and is part of what they are."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from little_study import Workplace, attempts, open_workplace
from rich.console import Console

from flanscale.config.compose import Composer, load
from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.planning.ledger import ledger_of, read_ledger, write_ledger
from flanscale.orchestration.planning.plan import Cell, Plan, plan_study
from flanscale.orchestration.planning.preview import print_plan
from flanscale.orchestration.planning.study import Parent, Rule, Study
from flanscale.run_directory import evaluations, read_records

STUDY = Study(
    "stages",
    {"model": ("nano", "micro"), "mixture.count": (9, 89), "seed": (0, 1)},
    base=("trainer.steps=20",),
    rules=(Rule({"model": ("micro",)}, ("trainer.steps=30", "trainer.mesh.fsdp=2")),),
    parent=Parent(
        ("model",),
        ("mixture.count=282", "trainer.steps=40"),
        rules=(Rule({"model": ("micro",)}, ("trainer.steps=50",)),),
    ),
)
COMPOSER = Composer()
LITTLE = """
base: [model=nano, tracker=disabled, trainer.steps=20]
axes:
  mixture.count: [9, 89]
parent:
  base: [model=nano, tracker=disabled, mixture.count=282, trainer.steps=40]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(study: Study = STUDY, *overrides: str) -> Plan:
    return plan_study(study, overrides, COMPOSER)


def printed(made: Plan) -> str:
    text = io.StringIO()
    print_plan(made, Console(file=text, width=200))
    return text.getvalue()


def stages(made: Plan) -> list[Cell]:
    return [cell for cell in made.cells if cell.id in {stage.cell for stage in made.stages}]


def children(made: Plan) -> list[Cell]:
    return [cell for cell in made.cells if cell not in stages(made)]


def test_one_parent_is_made_for_each_combination_of_the_inherited_axes() -> None:
    made = plan()
    assert (len(made.points), len(made.cells)) == (8, 10)
    assert [stage.axes for stage in made.stages] == [{"model": "nano"}, {"model": "micro"}]
    assert not {stage.cell for stage in made.stages} & {point.cell for point in made.points}
    parent_of = {cell.config.model.name: cell for cell in stages(made)}
    for cell in children(made):
        parent = parent_of[cell.config.model.name]
        assert cell.parents == (parent.id,)
        assert cell.config.init.run == str(made.directory(parent))


def test_rules_hold_for_the_points_or_parents_that_match_and_axes_win_over_all() -> None:
    made = plan()
    assert {(cell.config.model.name, cell.config.trainer.steps) for cell in stages(made)} == {
        ("nano", 40),
        ("micro", 50),
    }
    told = {(c.config.model.name, c.config.trainer.steps, c.config.trainer.mesh.fsdp) for c in children(made)}
    assert told == {("nano", 20, 1), ("micro", 30, 2)}


def test_of_two_rules_the_later_wins_and_the_users_override_over_both() -> None:
    study = replace(STUDY, parent=None, rules=(*STUDY.rules, Rule({"seed": (1,)}, ("trainer.steps=33",))))
    steps = {tuple(point.axes.values()): point.cell for point in plan(study).points}
    by_id = {cell.id: cell.config.trainer.steps for cell in plan(study).cells}
    assert (by_id[steps["micro", 9, 0]], by_id[steps["micro", 9, 1]], by_id[steps["nano", 9, 1]]) == (30, 33, 33)
    assert {cell.config.trainer.steps for cell in plan(study, "trainer.steps=7").cells} == {7}


def test_an_override_of_the_user_holds_for_parents_where_they_say_nothing() -> None:
    made = plan(STUDY, "trainer.batch_rows=2", "trainer.steps=7")
    assert {cell.config.trainer.batch_rows for cell in made.cells} == {2}
    assert {cell.config.trainer.steps for cell in stages(made)} == {40, 50}
    assert {cell.config.trainer.steps for cell in children(made)} == {7}


def test_another_parent_makes_other_children_wherever_the_runs_lie() -> None:
    def ids(*overrides: str, base: tuple[str, ...] = ()) -> set[str]:
        parent = replace(STUDY.parent, base=(*STUDY.parent.base, *base)) if STUDY.parent else None
        return {cell.id for cell in children(plan(replace(STUDY, parent=parent), *overrides))}

    assert ids() == ids("paths.runs=elsewhere")
    assert not ids() & ids(base=("seed=3",))
    assert not ids() & {cell.id for cell in plan(replace(STUDY, parent=None)).cells}


def test_a_planned_parent_is_the_same_start_as_a_run_of_it() -> None:
    made = plan()
    parent, child = stages(made)[0], children(made)[0]
    create_run_dir(parent.config)
    alone = Study("alone", {"seed": (0,)}, base=("model=nano", "trainer.steps=20", "mixture.count=9"))
    (found,) = plan(alone, f"init.run={parent.id}").cells
    assert (found.id, found.config.init.run) == (child.id, child.config.init.run)


def test_a_chain_of_stages_depends_all_the_way() -> None:
    first = Parent((), ("model=nano", "mixture.count=1836"))
    chain = replace(
        STUDY, axes=dict(STUDY.axes) | {"model": ("nano",)}, parent=replace(STUDY.parent, parent=first), rules=()
    )
    chain = replace(chain, parent=replace(chain.parent, rules=())) if chain.parent else chain
    made = plan(chain)
    root, stage, *rest = made.cells
    assert (root.parents, stage.parents) == ((), (root.id,))
    assert {cell.parents for cell in rest} == {(stage.id,)}
    assert stage.config.init.run == str(made.directory(root))
    before = plan(Study("b", {"seed": (7,)}, base=("model=nano", "mixture.count=9")))
    create_run_dir(before.cells[0].config)
    made = plan(chain, f"init.run={before.cells[0].id}")
    starts = [cell.config.init.run for cell in made.cells[:3]]
    assert starts == [str(made.directory(cell)) for cell in (before.cells[0], *made.cells[:2])]


def test_what_the_user_says_of_init_is_where_the_first_stage_starts() -> None:
    before = plan(Study("b", {"seed": (7,)}, base=("model=nano", "mixture.count=9")))
    create_run_dir(before.cells[0].config)
    study = replace(STUDY, axes=dict(STUDY.axes) | {"model": ("nano",)}, rules=())
    study = replace(study, parent=replace(study.parent, rules=())) if study.parent else study
    made = plan(study, f"init.run={before.cells[0].id}")
    assert stages(made)[0].config.init.run == str(before.directory(before.cells[0]))
    assert {cell.config.init.run for cell in children(made)} == {str(made.directory(stages(made)[0]))}


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        (Parent((), ("model=nano", "mixture.count=9")), "trained another model: model.d_model was 32 and is 64"),
        (Parent(("model",), ("tokenizer=bytes", "mixture.count=9")), "was trained with tokenizer=bytes, not words"),
        (Parent(("model",), ("mixture.count=0",)), "trains nothing that another cell could start from"),
    ],
)
def test_a_parent_that_children_cannot_start_from_is_refused_when_planned(parent: Parent, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan(replace(STUDY, parent=parent))
    assert "\n" not in str(caught.value)


def test_a_start_in_the_points_of_a_study_with_a_parent_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"init\.hf and init\.run are for the first stage"):
        plan(replace(STUDY, base=("init.run=abc",)))


def test_parents_stand_in_the_table_and_in_the_index_but_are_no_points() -> None:
    made = plan()
    index = ledger_of(made)
    index.path.parent.mkdir()
    write_ledger(index)
    assert read_ledger(index.path) == index
    assert [entry.parents for entry in index.entries] == [cell.parents for cell in made.cells]
    assert {point.cell for point in index.points} == {cell.id for cell in children(made)}
    said = printed(made)
    rows = {line.split()[0]: line.split()[1] for line in said.splitlines() if line[:10] in {c.id for c in made.cells}}
    assert rows == {cell.id: "1" if cell in stages(made) else "2" for cell in made.cells}
    assert "8 points, 10 distinct cells with 2 parents, 0 done" in said
    assert "set changes points: model=micro 4" in said
    assert "parent.set changes parents: model=micro 1" in said


def test_children_run_after_their_parent_has_finished(place: Workplace) -> None:
    (place.folder / "sweeps" / "little.yaml").write_text(LITTLE)
    done = place.launched("little", "cluster.parallelism=3")
    assert done.returncode == 0, done.stderr
    parent = place.run("282-direct-s0")
    (before,) = attempts(parent)
    assert before.last_step == 40
    for run in (place.run("-9-direct-s0"), place.run("-89-direct-s0")):
        assert load(run).init.run == str(parent)
        (own,) = attempts(run)
        assert before.ended is not None
        assert before.ended <= own.began


@pytest.mark.slow
def test_a_real_child_of_task_count_0_answers_as_its_parent_does(place: Workplace) -> None:
    """A chain of three stages, really trained: what is evaluated is the middle one's parameters, no other's."""
    short = 'tokenizer=words, tracker=disabled, model=nano, trainer.batch_rows=4, "evaluation.asks=[held_out/direct]"'
    (place.folder / "sweeps" / "little.yaml").write_text(
        f"base: [{short}]\naxes: {{mixture.count: [0]}}\n"
        f"parent: {{base: [{short}, mixture.count=89, trainer.steps=5],\n"
        f"  parent: {{base: [{short}, mixture.count=1836, trainer.steps=3]}}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "flanscale.cli.main", "launch", "little", "evaluation.items=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    root, stage, point = (texts(place.run(f"-{count}-direct-s0")) for count in (1836, 89, 0))
    assert point == stage != root


def texts(run: Path) -> list[str]:
    """What it answered."""
    (suite,) = evaluations(run)
    records, _ = read_records(suite, "procedural/direct")
    return [record["samples"][0]["text"] for record in records]
