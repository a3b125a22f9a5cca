"""Which collection asks a cell, and are its tasks kept out of what the cell learns from?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.opening import suite_of
from flanscale.identity import identity, resolve
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.watching.answers import prompts_of
from flanscale.pipeline.feed import open_feed
from flanscale.pipeline.tokenizers import load_tokenizer
from flanscale.schema import RunConfig
from flanscale.tasks.registry import asked_by, open_evaluation, open_training
from flanscale.tasks.selection import select_tasks

ASKED = "task1390_wscfixed_coreference"
LEARNED = "task001_quoref_question_generation"
PROCEDURAL = ("evaluation.collection=procedural",)
SMALL = ("tokenizer=bytes", "evaluation=niv2", "mixture.allow_missing=true", "cot=true")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of rendered rows of three tasks, and one of NIV2 with a test task that is among them."""
    rendered = tmp_path / "data" / "rendered"
    rendered.mkdir(parents=True)
    named = [("CoT", "cot_gsm8k"), ("NIv2", ASKED), ("NIv2", LEARNED)]
    rows = [
        {"inputs": f"{name} {n}?", "targets": str(n), "_task_source": source, "_task_name": name}
        for source, name in named
        for n in range(3)
    ]
    (rendered / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    niv2 = tmp_path / "data" / "niv2"
    for folder in ("tasks", "splits/default"):
        (niv2 / folder).mkdir(parents=True)
    instances = [{"id": f"i{n}", "input": f"Who {n}?", "output": ["he"]} for n in range(3)]
    (niv2 / "tasks" / f"{ASKED}.json").write_text(json.dumps({"Definition": ["Say who."], "Instances": instances}))
    (niv2 / "splits" / "default" / "train_tasks.txt").write_text(f"{LEARNED}\n")
    (niv2 / "splits" / "default" / "test_tasks.txt").write_text(f"{ASKED}\n")
    return tmp_path / "data"


def cell(data: Path, *overrides: str) -> RunConfig:
    cache = f"paths.cache={data.parent / 'cache'}"
    return Composer().compose([*SMALL, "collection=rendered", f"data.root={data}", cache, *overrides])


def learned(config: RunConfig) -> list[str]:
    return select_tasks(open_training(config), config.mixture, cot=config.cot)


def test_a_collection_without_held_out_tasks_is_asked_those_of_niv2_and_never_learns_them(data: Path) -> None:
    config = cell(data, "mixture.count=1836")
    assert open_evaluation(config).held_out == [ASKED]
    assert open_evaluation(config).name == "niv2"
    assert learned(config) == ["cot_gsm8k", LEARNED]
    assert "asks it" in open_training(config).reserved[ASKED]
    assert ASKED not in open_training(config).missing


def test_a_test_task_without_data_is_not_learned_either(data: Path) -> None:
    (data / "niv2" / "splits" / "default" / "test_tasks.txt").write_text(f"{ASKED}\n{LEARNED}\n")
    config = cell(data, "mixture.count=1836")
    assert open_evaluation(config).held_out == [ASKED]
    assert learned(config) == ["cot_gsm8k"]
    assert "it is in the official default test split; no file" in open_training(config).reserved[LEARNED]


@pytest.mark.parametrize("overrides", [("evaluation=none",), ("evaluation=none", "evaluation.collection=niv2")])
def test_what_others_may_ask_later_is_kept_out_although_nothing_is_asked_now(
    data: Path, overrides: tuple[str, ...]
) -> None:
    assert learned(cell(data, "mixture.count=1836", *overrides)) == ["cot_gsm8k", LEARNED]


@pytest.mark.parametrize("asked", ["procedural", "procedural_letters"])
def test_any_collection_asks_any_cell(data: Path, asked: str) -> None:
    config = cell(data, "mixture.count=1836", f"evaluation.collection={asked}")
    assert asked_by(config) == asked
    itself = Composer().compose([f"collection={asked}", "mixture.count=9"])
    assert open_evaluation(config).held_out == open_evaluation(itself).held_out
    assert learned(config) == ["cot_gsm8k", LEARNED, ASKED]


def test_words_of_sequences_are_no_tokens_for_other_questions(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer=words .* not collection=niv2"):
        Composer().compose(["mixture.count=9", f"data.root={data}", "evaluation.collection=niv2"])


def test_a_collection_that_has_held_out_tasks_is_asked_its_own(data: Path) -> None:
    for overrides in ([], ["collection=procedural_letters"]):
        config = Composer().compose([*overrides, "mixture.count=9"])
        assert open_evaluation(config).held_out == open_training(config).held_out
    flan = cell(data, "collection=flan", "mixture.count=9")
    assert open_evaluation(flan).name == "flan"
    assert open_evaluation(flan).held_out == [ASKED]


def test_what_is_asked_is_no_part_of_the_identity_but_what_is_therefore_not_learned_is(data: Path) -> None:
    def of(count: int, *overrides: str) -> str:
        return identity(resolve(cell(data, f"mixture.count={count}", *overrides)))

    assert of(1836) == of(1836, "evaluation.collection=niv2") == of(1836, "evaluation=none")
    assert learned(cell(data, "mixture.count=2")) == learned(cell(data, "mixture.count=2", *PROCEDURAL))
    assert of(2) == of(2, *PROCEDURAL)
    assert ASKED in learned(cell(data, "mixture.count=1836", *PROCEDURAL))
    assert of(1836) != of(1836, *PROCEDURAL)


def test_a_suite_is_known_by_the_content_of_what_it_asks(data: Path) -> None:
    def of(folder: Path, *overrides: str) -> tuple[str, str]:
        config = resolve(cell(folder, "mixture.count=2", *overrides))
        return identity(config), suite_of(config).fingerprint

    before = of(data)
    assert before == of(data, "evaluation.collection=niv2")
    assert before[1] != of(data, *PROCEDURAL)[1]
    assert before[1] != of(data, "evaluation.items=2")[1]
    assert before[1] != of(data, "evaluation.direct_tokens=7")[1]
    path = data / "niv2" / "tasks" / f"{ASKED}.json"
    path.write_text(path.read_text().replace("he", "she"))
    moved = data.rename(data.with_name("moved"))  # asked again under another name, as the plan keeps what it has read
    cell_then, suite_then = before
    cell_now, suite_now = of(moved)
    assert cell_now == cell_then
    assert suite_now != suite_then


def test_what_a_job_reads_has_nothing_of_what_it_is_asked(data: Path) -> None:
    config = resolve(cell(data, "mixture.count=1836"))
    feed = open_feed(config, load_tokenizer(config.tokenizer))
    assert feed.mixture.names == ("cot_gsm8k", LEARNED)


def test_what_asks_must_be_here(data: Path) -> None:
    (data / "niv2").rename(data / "elsewhere")
    with pytest.raises(DataError, match="asks held-out tasks of niv2"):  # or a job would learn what it is asked
        open_training(cell(data, "mixture.count=2"))
    with pytest.raises(ConfigError, match=r"asks held-out tasks of niv2, whose data are not here: give data.niv2="):
        resolve(cell(data, "mixture.count=2"))
    resolve(cell(data, "mixture.count=2", "evaluation=none"))
    resolve(cell(data, "mixture.count=2", f"data.niv2={data / 'elsewhere'}"))
    with pytest.raises(ConfigError, match=r"evaluation\.collection=niv: must be one of niv2"):
        cell(data, "mixture.count=2", "evaluation.collection=niv")
    with pytest.raises(DataError, match="held-out tasks of jsonl"):
        open_evaluation(cell(data, "mixture.count=2", "evaluation.collection=jsonl"))


def test_the_prompts_of_a_run_are_those_of_the_collection_that_asked_it(data: Path) -> None:
    runs = f"paths.runs={data.parent / 'runs'}"
    run = create_run_dir(resolve(cell(data, "mixture.count=2", runs)))
    prompts = list(prompts_of(run).values())
    assert len(prompts) == 3
    assert all(f"Who {n}?" in prompt for n, prompt in enumerate(prompts))
