"""A partial study is useful early: cells start in the order that is asked for, and parents before their children."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.order import ORDERS, halvings, in_order
from flanscale.orchestration.planning.plan import Cell, Plan, plan_study
from flanscale.orchestration.planning.study import Parent, Study

GRID = Study(
    "grid", {"mixture.count": (1, 9, 20, 89, 282), "cot": (False, True), "seed": (0, 1, 2)}, base=("model=nano",)
)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(study: Study = GRID) -> Plan:
    return plan_study(study, (), Composer())


def places(cells: list[Cell]) -> list[tuple[int, bool, int]]:
    return [(cell.config.mixture.count, cell.config.cot, cell.config.seed) for cell in cells]


@pytest.mark.parametrize(
    ("count", "levels"), [(1, [0]), (2, [0, 0]), (3, [0, 1, 0]), (5, [0, 2, 1, 2, 0]), (6, [0, 2, 1, 3, 2, 0])]
)
def test_the_ends_of_a_row_take_no_halving_and_the_middle_one(count: int, levels: list[int]) -> None:
    assert sorted(halvings(count)) == sorted(levels)
    assert halvings(count)[0] == halvings(count)[-1] == 0
    if count % 2 == 1:
        assert halvings(count) == levels


def test_coarse_begins_with_the_corners_of_the_grid_at_one_seed() -> None:
    cells = in_order(plan(), plan().cells, "coarse")
    assert set(places(cells)[:4]) == {(count, cot, 0) for count in (1, 282) for cot in (False, True)}


def test_coarse_refines_axes_and_repeats_seeds_in_step() -> None:
    ordered = places(in_order(plan(), plan().cells, "coarse"))
    first = [place for place in ordered if place[0] in (1, 20, 282) and place[2] < 2]
    assert set(ordered[:12]) == set(first)  # one halving and a second seed, before any quarter or third seed
    assert {seed for _, _, seed in ordered[:12]} == {0, 1}
    for stop in range(1, len(ordered)):
        seeds = [sum(seed == wanted for _, _, seed in ordered[:stop]) for wanted in (0, 1, 2)]
        assert seeds == sorted(seeds, reverse=True)


def test_draws_count_as_repetitions_too() -> None:
    study = Study("s", {"mixture.order_seed": (0, 1, 2)}, base=("model=nano", "mixture=random", "mixture.count=9"))
    draws = [cell.config.mixture.order_seed for cell in in_order(plan(study), plan(study).cells, "coarse")]
    assert draws == [0, 1, 2]  # not 0, 2, 1, as the ends of a scale would be


def test_true_and_one_are_different_places() -> None:
    study = Study("s", {"cot": (True, False), "seed": (1, 0)}, base=("model=nano", "mixture.count=9"))
    assert places(in_order(plan(study), plan(study).cells, "coarse"))[0] == (9, True, 1)


def test_grid_is_the_order_of_the_file() -> None:
    made = plan()
    assert in_order(made, made.cells, "grid") == list(made.cells)


@pytest.mark.parametrize("how", ORDERS)
def test_every_order_has_every_cell_once_and_parents_before_children(how: str) -> None:
    first = Parent((), ("model=nano", "mixture.count=9", "trainer.steps=900"))
    stage = Parent(("seed",), ("model=nano", "mixture.count=89", "trainer.steps=1"), parent=first)
    made = plan(replace(GRID, parent=stage))
    backwards = list(reversed(made.cells))
    ordered = [cell.id for cell in in_order(made, backwards, how)]
    assert sorted(ordered) == sorted(cell.id for cell in made.cells)
    for cell in made.cells:
        assert all(ordered.index(parent) < ordered.index(cell.id) for parent in cell.parents)


def test_a_parent_that_is_not_among_the_cells_is_not_added() -> None:
    made = plan(replace(GRID, parent=Parent((), ("model=nano", "mixture.count=9"))))
    children = [cell for cell in made.cells if cell.parents]
    assert len(in_order(made, children, "longest")) == len(children) == len(made.cells) - 1


def test_an_unknown_order_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--order=random: must be one of coarse, longest, grid"):
        in_order(plan(), (), "random")
