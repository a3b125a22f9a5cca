"""Open-ended instructions: asked as their authors asked them, in one order for good, and never scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.benchmarks import open_benchmark
from flanscale.evaluation.item import Ask, Asked, Benchmark

FILE = "user_oriented_instructions.jsonl"
CHANGED = "a changed prompt bumps the version; then pin its hash here"
ROWS: list[dict[str, Any]] = [
    {"id": id, "instruction": instruction, "instances": [{"input": given, "output": "…"} for given in inputs]}
    for id, instruction, inputs in (
        ("task_7", "Say it in French.\n", [" Good day. "]),
        ("task_2", "Write a haiku.", [" \n"]),
        ("task_3", "Add.", ["1 1", "2 2"]),
    )
]


def folder_of(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    (tmp_path / FILE).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


def asked(folder: Path, setting: str = "direct") -> Asked:
    return opened(folder).asked(Ask("open_ended", setting))


def opened(folder: Path) -> Benchmark:
    return open_benchmark("open_ended", folder)


def prompts_hash(folder: Path) -> str:
    benchmark = opened(folder)
    prompts = {
        f"{setting.name}/{item.key}": item.prompt.text()
        for setting in benchmark.settings
        for item in asked(folder, setting.name).items
    }
    return hashlib.sha256(json.dumps([benchmark.version, prompts]).encode()).hexdigest()[:16]


def texts(asked: Asked) -> Mapping[str, str]:
    return {item.key: item.prompt.text() for item in asked.items}


def test_the_instruction_comes_first_then_the_input_where_there_is_one(tmp_path: Path) -> None:
    assert texts(asked(folder_of(tmp_path, ROWS))) == {
        "task_7/0": "Say it in French.\n\nInput: Good day.\nOutput:",
        "task_2/0": "Write a haiku.\nOutput:",
        "task_3/0": "Add.\n\nInput: 1 1\nOutput:",
        "task_3/1": "Add.\n\nInput: 2 2\nOutput:",
    }


def test_a_chain_of_thought_is_triggered_by_a_phrase_behind_the_same_prompt(tmp_path: Path) -> None:
    direct, cot = (texts(asked(folder_of(tmp_path, ROWS), setting)) for setting in ("direct", "cot"))
    assert cot == {key: f"{text} Let's think step by step." for key, text in direct.items()}


def test_the_whole_text_is_the_answer_and_blank_text_is_none(tmp_path: Path) -> None:
    (item, *_), settings = asked(folder_of(tmp_path, ROWS)).items, opened(tmp_path).settings
    assert [setting.name for setting in settings] == ["direct", "cot"]
    for setting in settings:
        assert setting.extract is not None
        assert setting.extract(" Bonjour.\n\nInput: more\n", item) == "Bonjour.\n\nInput: more"
        assert setting.extract(" \n", item) is None
        assert setting.stop == (), "where a model does not stop of itself, raters must see it"


def test_nothing_is_scored_and_the_experts_outputs_are_no_references(tmp_path: Path) -> None:
    found = asked(folder_of(tmp_path, ROWS))
    assert {item.references for item in found.items} == {()}
    assert not found.floors
    assert all(setting.metrics == () for setting in opened(tmp_path).settings)
    assert "cannot be compared" in found.notes[0]


def test_instances_of_one_instruction_err_together(tmp_path: Path) -> None:
    found = asked(folder_of(tmp_path, ROWS))
    assert [item.cluster for item in found.items] == ["task_7", "task_2", "task_3", "task_3"]
    assert {item.subtask for item in found.items} == {"user_oriented"}


def test_there_are_no_worked_examples_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^open_ended/cot-3shot: open_ended has no worked examples; ask it with 0"):
        opened(folder_of(tmp_path, ROWS)).asked(Ask.parse("open_ended/cot-3shot"))
    assert opened(tmp_path).asked(Ask.parse("open_ended/cot-0shot-sc5")) == asked(tmp_path, "cot")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "no instructions here"),
        ([*ROWS, ROWS[0]], "task_7 is the id of two instructions"),
        ([{**ROWS[0], "instruction": " \n"}], "task_7 has no words"),
        ([{**ROWS[0], "instances": []}], "task_7 has no instances"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_file_and_id(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(DataError, match=rf"{FILE}: {says}$"):
        asked(folder_of(tmp_path, rows))


def test_a_folder_without_the_file_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{FILE}: no instructions here$"):
        asked(tmp_path)


def test_a_cut_file_is_refused_by_line(tmp_path: Path) -> None:
    whole = (folder_of(tmp_path, ROWS) / FILE).read_text()
    (tmp_path / FILE).write_text(whole[:-20])
    with pytest.raises(DataError, match=rf"{FILE}:3: not JSON"):
        asked(tmp_path)


def test_prompts_are_those_of_this_version(tmp_path: Path) -> None:
    found = prompts_hash(folder_of(tmp_path, ROWS))
    assert found == "74807f30d270abd4", CHANGED


@pytest.mark.data
def test_the_published_instructions_make_the_prompts_of_this_version(shared_data: Path) -> None:
    found = asked(shared_data / "open_ended")
    assert len({item.key for item in found.items}) == len(found.items) == 252
    assert prompts_hash(shared_data / "open_ended") == "2a81da94446cce51", CHANGED
