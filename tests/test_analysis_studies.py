"""Every shipped study gets its answer: simulated from a known truth with its own axes, its report says what is true."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_study import FLAN, OTHERS, simulate
from tiny_data import tiny_data

from analysis import answers, contrasts, panels, sources
from analysis.contrasts import Contrast
from analysis.panels import Panel
from flanscale.config.compose import Composer
from flanscale.orchestration.planning.plan import plan_study
from flanscale.orchestration.planning.study import available_studies, load_study
from flanscale.schema import RunConfig

COMPOSER = Composer()
MIXTURES = {"paper_b": 3.0, "flan2022": 5.0, "without_niv2": -9.0, "without_muffin": -6.0}
SEVERAL = ("seed=0,1,2",)
"""What a study of single runs is launched with to know its noise."""


def truth(config: RunConfig, axes: Mapping[str, Any], setting: str) -> float:
    """More tasks, larger models and rationales help, the latter where they are asked for; so do some mixtures."""
    size = 3 * math.log2(config.model.d_model / 32)
    if config.mixture.count == 0:
        return 4 + size / 2
    rise = 10 + 6 * math.log10(config.mixture.count / 8)
    rationales = {"cot": 12.0, "direct": -1.0}[setting] if config.cot else 0.0
    return rise + size + rationales + MIXTURES.get(str(axes.get("mixture")), 0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("data"))


def read(
    name: str, data: Path, root: Path, *overrides: str, spread: float = 0.1, seed_noise: float | None = None
) -> tuple[Panel, list[Contrast], dict[Any, float]]:
    """The last panel of a simulated study with its contrasts, and the true means."""
    given = [f"data.root={data}", "mixture.allow_missing=true", f"paths.cache={data / 'cache'}", *overrides]
    given += [f"paths.runs={root / 'runs'}", f"paths.studies={root / 'studies'}"]
    if name == "niv2_smollm2":
        given.append(f"tokenizer.vocabulary={data / 'tokenizer' / 'tokenizer.json'}")
    plan = plan_study(load_study(name), given, COMPOSER)
    study = sources.read(simulate(root, plan, truth, spread=spread))
    analysed = panels.analyse(study, seed_noise)
    asked, _ = contrasts.ask(study, analysed)
    configs = {cell.id: cell.config for cell in plan.cells}
    axes = {point.cell: point.axes for point in plan.points}
    settings = [setting for _, setting in (FLAN if configs[plan.points[0].cell].evaluation.suite == "flan" else OTHERS)]
    true = {
        (mean.curve, mean.count): float(
            np.mean([truth(configs[mean.cells[0]], axes[mean.cells[0]], s) for s in settings])
        )
        for mean in analysed[-1].means
    }
    return analysed[-1], asked[-1], true


SEEDED = {name for name in available_studies() if {"seed", "mixture.order_seed"} & load_study(name).axes.keys()}


EFFECTS = {
    "task_count": {"finetuning", "volume", "size", "size_gain"},
    "random_subsets": {"finetuning", "volume", "cot", "size"},
    "model_size": {"finetuning", "size", "size_gain"},
    "cot_ablation": {"finetuning", "volume", "cot", "size"},
    "full_grid": {"finetuning", "volume", "cot", "size"},
    "flan_t5": {"finetuning", "size"},
    "flan_palm": {"finetuning"},
    "flan_upalm": {"finetuning"},
    "fresh_collection": {"finetuning", "volume", "cot", "volume_less_cot", "size"},
    "miniature_palm": {"finetuning", "volume", "cot", "volume_less_cot", "size"},
    "miniature_upalm": {"finetuning", "volume", "cot", "volume_less_cot", "size"},
    "miniature_t5": {"finetuning", "volume", "cot", "volume_less_cot", "size"},
    "miniature_fresh": {"finetuning", "volume", "cot", "volume_less_cot", "size"},
    "quickstart": {"finetuning", "volume", "cot", "volume_less_cot", "size"},
    "niv2_local": {"finetuning", "volume"},
    "niv2_smollm2": {"finetuning", "volume"},
    "mixture_ablation": {"level"},
    "proportions": {"level"},
}
"""What each study's own questions find in this truth, from three seeds."""


@pytest.mark.parametrize("name", sorted(available_studies()))
def test_its_questions_are_answered_with_what_is_true(name: str, data: Path, tmp_path: Path) -> None:
    panel, asked, true = read(name, data, tmp_path, *(() if name in SEEDED else SEVERAL), spread=0.05)
    shown = contrasts.overall(asked)
    found = {each.question.kind for each in shown if each.effect}
    assert found >= EFFECTS[name]
    for each in shown:
        value = sum(weight * true[place] for place, weight in each.question.weights.items())
        assert abs(each.estimate.value - value) < max(4 * each.estimate.se, 0.5), each.question.text
    told = answers.answers(panel, asked)
    for kind in EFFECTS[name] - {"level"}:
        assert any(line.startswith(answers.VERDICTS[kind][0]) for line in told), kind
    assert not any(re.search(r"\bnan\b", line) for line in told)


@pytest.mark.parametrize("name", sorted(set(available_studies()) - SEEDED))
def test_single_runs_give_numbers_and_no_verdict(name: str, data: Path, tmp_path: Path) -> None:
    panel, asked, _ = read(name, data, tmp_path)
    trained = [each for each in asked if any(count for _, count in each.question.weights)]
    assert trained
    assert not any(each.effect or each.estimate.interval for each in trained)
    assert any("of single runs" in line for line in answers.answers(panel, asked))


def test_noise_that_is_stated_gives_single_runs_a_verdict(data: Path, tmp_path: Path) -> None:
    panel, asked, _ = read("task_count", data, tmp_path, seed_noise=1.0)
    assert any(line.startswith("More tasks help") for line in answers.answers(panel, asked))


def test_one_draw_of_tasks_is_a_visible_caveat_and_several_are_none(data: Path, tmp_path: Path) -> None:
    one, asked, _ = read("quickstart", data, tmp_path / "one")
    assert "cannot be told apart" in answers.one_choice_of_tasks(one, asked)
    several, asked, _ = read("fresh_collection", data, tmp_path / "several")
    assert (several.draws, answers.one_choice_of_tasks(several, asked)) == (2, "")
