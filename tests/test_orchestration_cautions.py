"""A study is planned on an empty disk, and what one should know before paying for it is said."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from tiny_data import tiny_data
from told import Command

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.cautions import cautions, mesh_rules
from flanscale.orchestration.planning.plan import plan_study
from flanscale.orchestration.planning.preview import make_plan, print_plan
from flanscale.orchestration.planning.study import available_studies, load_study, parse_study
from flanscale.pipeline.feed import open_feed
from flanscale.pipeline.tokenizers import load_tokenizer


@pytest.fixture(autouse=True)
def _empty_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "study", [s for s in available_studies() if not s.startswith(("quickstart", "fresh_collection", "miniature_"))]
)
def test_every_study_is_planned_without_data_and_launched_only_with_it(study: str) -> None:
    made = make_plan(study, [], insist=False)
    text = io.StringIO()
    print_plan(made, Console(file=text, width=200))
    said = text.getvalue()
    assert f"{len(made.points)} points, {len(made.cells)} distinct cells" in said
    assert all(cell.cost.parameters > 0 for cell in made.cells)
    assert any(cell.cost.flops > 0 for cell in made.cells)
    assert re.search(r"^not here yet: .*data\.", said, re.MULTILINE)
    with pytest.raises(ConfigError) as refused:
        make_plan(study, [])
    assert f"not here yet: {refused.value}" in said


def test_nothing_is_lacking_where_all_data_is_here(tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data")
    overrides = [f"data.root={data}", "mixture.allow_missing=true", f"paths.cache={tmp_path / 'cache'}"]
    whole, strict = (make_plan("flan_t5", overrides, insist=insist) for insist in (False, True))
    assert whole.lacking == ()
    assert [cell.id for cell in whole.cells] == [cell.id for cell in strict.cells]


def test_the_command_says_what_is_lacking_and_leaves_nothing(flanscale: Command, tmp_path: Path) -> None:
    told = flanscale("plan", "flan_t5")
    assert told.returncode == 0
    assert "not here yet: collection=flan has none of its data" in told.stdout
    assert "not here yet: tokenizer.vocabulary" in told.stdout
    assert "a launch refuses until it is" in told.stdout
    assert list(tmp_path.iterdir()) == []
    refused = flanscale("launch", "flan_t5")
    assert refused.returncode == 2
    assert "collection=flan has none of its data" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_of_the_paper_on_random_parameters_is_said_and_so_are_weights_named_flan() -> None:
    made = make_plan("flan_t5", [], insist=False)
    assert "10 of 10 cells start from random parameters" in "\n".join(cautions(made))
    from_flan = cautions(make_plan("flan_t5", ["init.hf=some/flan-t5-small"], insist=False))
    assert "init.hf=some/flan-t5-small: by its name it is finetuned on the Flan collection" in "\n".join(from_flan)
    adapted = "\n".join(cautions(make_plan("flan_t5", ["init.hf=some/t5-small-lm-adapt"], insist=False)))
    assert "random parameters" not in adapted
    assert "by its name" not in adapted
    assert cautions(make_plan("quickstart", [])) == []


def test_stages_that_others_start_from_are_no_start_from_nothing() -> None:
    made = make_plan("flan_upalm", [], insist=False)
    assert "random parameters" not in "\n".join(cautions(made))


def test_tasks_that_the_vocabulary_cannot_spell_are_named_once_the_store_knows_them(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "held_out.txt").write_text("asked\n")
    model = {"type": "WordLevel", "vocab": {"</s>": 0, "<unk>": 1, "2": 2}, "unk_token": "<unk>"}
    end = {"id": 0, "content": "</s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    content = {"version": "1.0", "added_tokens": [end | {"normalized": False}], "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    for name, answer in (("spelt", "2"), ("unspelt", "water"), ("asked", "2")):
        lines = [json.dumps({"input": f"{name} {number}", "output": answer}) for number in range(5)]
        (tmp_path / "tasks" / f"{name}.jsonl").write_text("\n".join(lines))
    base = ["collection=jsonl", "tokenizer=huggingface", "mixture.renderings=1", f"data.jsonl={tmp_path / 'tasks'}"]
    base += [
        f"tokenizer.vocabulary={tmp_path / 'tokenizer.json'}",
        f"paths.cache={tmp_path / 'cache'}",
        "evaluation.asks=[held_out/direct]",
        "model=micro",
    ]
    study = parse_study("own", {"title": "Own", "base": base, "axes": {"mixture.count": [0, 1, 2]}})
    before = plan_study(study, [], Composer())
    assert cautions(before) == []
    largest = max((cell.config for cell in before.cells), key=lambda config: config.mixture.count)
    open_feed(largest, load_tokenizer(largest.tokenizer), workers=1)
    (told,) = cautions(plan_study(study, [], Composer()))
    assert "cannot spell more than half of the answers of 1 of 2 tasks" in told
    assert "unspelt (100%)" in told


def test_the_block_of_meshes_makes_every_size_fit() -> None:
    chip = "cluster.chip=tpu_v4"
    rules = mesh_rules(make_plan("flan_t5", [chip], insist=False))
    block = yaml.safe_load("\n".join(rules[1:]))
    assert [rule["when"]["model"] for rule in block["set"]] == ["t5_large", "t5_xl", "t5_xxl"]
    study = load_study("flan_t5")
    text = yaml.safe_load((Path(__file__).parents[1] / "sweeps" / "flan_t5.yaml").read_text())
    text["set"] += block["set"]
    mended = parse_study("flan_t5", text)
    assert mended.axes == study.axes
    assert mesh_rules(plan_study(mended, [chip], Composer(), insist=False)) == []
    assert mesh_rules(make_plan("flan_t5", [], insist=False)) == []  # of no chip, nobody knows


def test_a_plan_for_programs_needs_no_data_either(flanscale: Command) -> None:
    told = flanscale("plan", "flan_t5", "--json")
    assert told.returncode == 0
    document = json.loads(told.stdout)
    assert len(document["cells"]) == 10
    assert any("collection=flan has none of its data" in line for line in document["lacking"])
    assert json.loads(flanscale("plan", "quickstart", "--json").stdout)["lacking"] == []


def test_every_key_of_a_plan_for_programs_is_documented_and_no_other(flanscale: Command) -> None:
    document = json.loads(flanscale("plan", "quickstart", "--json").stdout)
    text = (Path(__file__).parents[1] / "docs" / "watching.md").read_text(encoding="utf-8")
    _, whole, of_cell, _ = text.split("## plan --json")[1].split("\n## ")[0].split("\n| key")
    for keys, table in ((document, whole), (document["cells"][0], of_cell)):
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(keys)
