"""Every shipped study can be planned, has the paper's recipe, and is as large as the documentation says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from tiny_data import tiny_data

from flanscale.config.compose import Composer
from flanscale.config.places import sweeps_path
from flanscale.orchestration.planning.plan import Plan, plan_study
from flanscale.orchestration.planning.study import available_studies, load_study, parse_study

DOCS = Path(__file__).parents[1] / "docs" / "studies.md"
STEPS = {  # Chung et al. 2022, table 22
    "t5-small": 98_000,
    "t5-base": 84_000,
    "t5-large": 64_000,
    "t5-xl": 38_000,
    "t5-xxl": 14_000,
    "palm-8b": 40_000,
    "palm-62b": 40_000,
    "palm-540b": 21_000,
}
FLOPS = {"palm-8b": 1.6e20, "palm-62b": 1.2e21, "palm-540b": 5.6e21}  # of finetuning, table 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("data"))


COMPOSER = Composer()


@cache
def plan(name: str, data: Path, *overrides: str) -> Plan:
    given = [f"data.root={data}", "mixture.allow_missing=true", f"paths.cache={data / 'cache'}", *overrides]
    if name == "niv2_smollm2":
        given.append(f"tokenizer.vocabulary={data / 'tokenizer' / 'tokenizer.json'}")
    return plan_study(load_study(name), given, COMPOSER)


@pytest.fixture
def documented() -> dict[str, tuple[int, int]]:
    """(points, cells) of every study in the table of docs/studies.md."""
    rows = re.findall(r"^\| `(\w+)` \|.*?\| (\d+) \| (\d+)[^|]*\|", DOCS.read_text(), re.MULTILINE)
    return {name: (int(points), int(cells)) for name, points, cells in rows}


@pytest.mark.parametrize("name", sorted(available_studies()))
def test_every_shipped_study_is_planned_and_is_as_large_as_documented(
    name: str, data: Path, documented: dict[str, tuple[int, int]]
) -> None:
    made = plan(name, data)
    assert documented[name] == (len(made.points), len(made.cells))


def test_the_documented_study_files_are_valid() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    studies = [parse_study("example", yaml.safe_load(text)) for text in examples]
    assert [(len(study.rules), study.parent is not None) for study in studies] == [(3, False), (0, True)]


def test_every_shipped_study_tells_its_source_or_that_it_has_none() -> None:
    for name in available_studies():
        if not name.startswith(("quickstart", "niv2_", "fresh_collection", "miniature_")):
            assert "table 22" in (sweeps_path() / f"{name}.yaml").read_text(), name


@pytest.mark.parametrize("name", ["task_count", "model_size", "cot_ablation", "full_grid", "flan_t5", "flan_palm"])
def test_each_size_has_the_papers_steps_batch_and_learning_rate(name: str, data: Path) -> None:
    trained = [cell.config for cell in plan(name, data).cells if cell.config.mixture.count]
    for config in trained:
        palm = config.model.name.startswith("palm")
        rate = 1e-3 if config.model.name == "palm-540b" else 3e-3 if palm else 5e-4
        assert config.trainer.steps == STEPS[config.model.name]
        assert (config.trainer.batch_rows, config.optimizer.learning_rate) == (32 if palm else 64, rate)
        assert config.model.dropout == (0.1 if config.model.name == "palm-540b" else 0.05)


def test_finetuning_palm_takes_the_flops_that_the_paper_counts(data: Path) -> None:
    cells = {cell.config.model.name: cell for cell in plan("flan_palm", data).cells if cell.config.mixture.count}
    for name, flops in FLOPS.items():
        assert cells[name].cost.flops == pytest.approx(flops, rel=0.12)


def test_cells_that_studies_share_are_the_same_cells(data: Path) -> None:
    both = [cell.id for name in ("flan_t5", "flan_palm") for cell in plan(name, data).cells]
    assert sorted(both) == sorted(cell.id for cell in plan("model_size", data).cells)


def test_the_arms_of_the_chain_of_thought_ablation_are_the_papers(data: Path) -> None:
    made = plan("cot_ablation", data, "model=t5_small")
    arms = {(point.axes["mixture.count"], point.axes["cot"]) for point in made.points}
    assert arms == {(0, False), (0, True), (9, True), (1827, False), (1836, True)}


def test_u_palm_is_trained_once_per_size_before_both_of_its_points(data: Path) -> None:
    made = plan("flan_upalm", data, "init.hf=null")
    cells = {cell.id: cell for cell in made.cells}
    stages = [cells[stage.cell] for stage in made.stages]
    assert [cell.config.model.name for cell in stages] == ["palm-8b", "palm-62b", "palm-540b"]
    for stage in stages:
        assert (stage.config.objective.name, stage.config.trainer.steps, stage.parents) == ("ul2r", 20_000, ())
        children = [cell for cell in made.cells if stage.id in cell.parents]
        assert [cell.config.mixture.count for cell in children] == [0, 1836]
        assert {cell.config.init.run for cell in children} == {str(made.directory(stage))}
        assert {cell.config.model.name for cell in children} == {stage.config.model.name}
    assert stages[2].config.optimizer.learning_rate == 1e-4
    finetuned = {cell.config.model.name: cell.config for cell in made.cells if cell.config.mixture.count == 1836}
    assert (finetuned["palm-540b"].trainer.steps, finetuned["palm-540b"].optimizer.learning_rate) == (30_000, 1e-3)
