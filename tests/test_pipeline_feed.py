"""The feed: a cell reads the same texts from the store as it would render, and no cell makes what another has made."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flanscale import identity
from flanscale.config.compose import Composer
from flanscale.pipeline.feed import Feed, Renderer, open_feed, unspelt_in_store
from flanscale.pipeline.tokenizers import load_tokenizer
from flanscale.schema import RunConfig
from flanscale.tasks import settling

CELL = ["collection=jsonl", "tokenizer=bytes", "evaluation.asks=[held_out/direct]", "mixture.count=3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four tasks of twenty examples, one of them held out."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for number, name in enumerate(["add", "double", "letters", "unseen"]):
        lines: list[dict[str, Any]] = [{"instruction": f"Do what {name} does."}]
        lines += [
            {"id": f"{name}-{i}", "input": f"{name} number {i} of this task", "output": str(i * (number + 1))}
            for i in range(20)
        ]
        (tasks / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tasks / "held_out.txt").write_text("unseen\n")
    return tasks


def cell(folder: Path, *overrides: str) -> RunConfig:
    where = [f"data.jsonl={folder}", f"paths.cache={folder.parent / 'cache'}"]
    return identity.resolve(Composer().compose([*CELL, *where, *overrides]))


def feed_of(config: RunConfig) -> Feed:
    return open_feed(config, load_tokenizer(config.tokenizer), workers=1)


def stored_files(folder: Path) -> set[Path]:
    return set((folder.parent / "cache" / "store").rglob("*.tokens"))


def drawn(config: RunConfig, feed: Feed, task: int, example: int, choice: int) -> tuple[str, str]:
    """The text of one draw, back from its tokens."""
    tokenizer = load_tokenizer(config.tokenizer)
    at = (np.array([task]), np.array([example]), np.array([choice], np.uint64))
    inputs, targets = feed.source.tokens(*at)
    return tokenizer.decode(inputs[0].tolist()), tokenizer.decode(targets[0].tolist())


def test_stored_texts_are_the_rendered_ones_and_draws_take_turns_with_the_renderings(folder: Path) -> None:
    config = cell(folder, "mixture.renderings=3")
    feed, renderer = feed_of(config), Renderer(config)
    for task, name in enumerate(feed.mixture.names):
        texts = renderer(name)
        for example in (0, 7, 19):
            for choice in range(6):
                at = example * 3 + choice % 3
                assert drawn(config, feed, task, example, choice) == (texts.inputs[at], texts.targets[at])
    assert len(set(Renderer(config)("add").inputs)) == 60  # renderings differ


def test_on_demand_and_stored_feeds_hold_the_same_mixture(folder: Path) -> None:
    on_demand, stored = feed_of(cell(folder)), feed_of(cell(folder, "mixture.renderings=1"))
    assert on_demand.mixture.names == stored.mixture.names
    assert on_demand.mixture.weights.tolist() == stored.mixture.weights.tolist()
    assert list(on_demand.source.sizes) == list(stored.source.sizes) == [20, 20, 20]
    assert stored.tokens_per_draw is not None
    assert on_demand.tokens_per_draw is None


def test_cells_share_what_they_can_and_nothing_else(folder: Path) -> None:
    feed_of(cell(folder, "mixture.renderings=1"))
    first = stored_files(folder)
    assert len(first) == 3
    feed_of(cell(folder, "mixture.renderings=1", "mixture.count=2", "seed=5", "mixture.weighting=equal"))
    assert stored_files(folder) == first
    feed_of(cell(folder, "mixture.renderings=1", "mixture.exemplars=2"))
    assert len(stored_files(folder)) == 6


def test_a_changed_task_is_another_cell_and_is_tokenised_again(folder: Path) -> None:
    before = cell(folder, "mixture.renderings=1")
    feed_of(before)
    text = (folder / "add.jsonl").read_text()
    (folder / "add.jsonl").write_text(text.replace("number 3 of", "number three of"))
    for cached in (settling._collections, settling._task_fingerprint, settling._fingerprint):
        cached.cache_clear()
    after = cell(folder, "mixture.renderings=1")
    assert identity.identity(after) != identity.identity(before)
    feed = feed_of(after)
    assert "number three of" in drawn(after, feed, feed.mixture.names.index("add"), 3, 0)[0]
    assert len(stored_files(folder)) == 4


@pytest.mark.parametrize("renderings", [0, 2])
def test_held_in_examples_are_never_trained_on(folder: Path, renderings: int) -> None:
    config = cell(folder, f"mixture.renderings={renderings}", "mixture.validation_examples=4")
    feed = feed_of(config)
    assert list(feed.source.sizes) == [16, 16, 16]
    inputs, targets = feed.held_in
    assert len(inputs) == len(targets) == 12
    tokenizer = load_tokenizer(config.tokenizer)
    queries = {f"{name} number {i} of this task" for name in feed.mixture.names for i in range(20)}
    held_in = {q for q in queries if any(q in tokenizer.decode(ids.tolist()) for ids in inputs)}
    trained = {
        q
        for task in range(3)
        for example in range(16)
        for q in queries
        if q in drawn(config, feed, task, example, 0)[0]
    }
    assert len(held_in) == 12
    assert held_in | trained == queries
    assert not held_in & trained


@pytest.mark.parametrize("renderings", [0, 1])
def test_a_benchmark_text_in_the_training_data_is_dropped_and_told(folder: Path, renderings: int) -> None:
    planted = "which of the seven rivers that rise in these old hills is the longest one of all"
    benchmarks = folder.parent / "benchmarks"
    benchmarks.mkdir()
    (benchmarks / "quiz.txt").write_text(planted + "\n")
    with (folder / "add.jsonl").open("a") as file:
        file.write(json.dumps({"id": "copy", "input": planted, "output": "the third"}) + "\n")
    asked = [f"mixture.renderings={renderings}", f"data.benchmarks={benchmarks}"]
    for mode, size in (("drop", 20), ("warn", 21)):
        feed = feed_of(cell(folder, *asked, f"mixture.contamination={mode}"))
        assert feed.source.sizes[feed.mixture.names.index("add")] == size
        assert [(hit["task"], hit["example"], hit["benchmark"]) for hit in feed.contamination] == [
            ("add", "copy", "quiz")
        ]
    assert not feed_of(cell(folder, *asked)).contamination


# --- what the vocabulary cannot spell ---------------------------------------------------------------------------------


def half_known(folder: Path) -> list[str]:
    """A vocabulary of words that spells `add` whole, one answer of `double` and nothing of `letters`."""
    known = ["</s>", "<unk>", "0", *(str(i) for i in range(60))]
    model = {
        "type": "WordLevel",
        "vocab": {word: i for i, word in enumerate(dict.fromkeys(known))},
        "unk_token": "<unk>",
    }
    special = {"id": 0, "content": "</s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    content = {"version": "1.0", "added_tokens": [special | {"normalized": False}], "model": model}
    path = folder.parent / "tokenizer.json"
    path.write_text(json.dumps(content))
    return ["tokenizer=huggingface", f"tokenizer.vocabulary={path}"]


@pytest.mark.parametrize("renderings", [0, 1])
def test_tasks_whose_answers_the_vocabulary_cannot_spell_are_named(
    folder: Path, renderings: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "letters.jsonl"
    path.write_text(path.read_text().replace('"output": "', '"output": "x'))
    path = folder / "double.jsonl"
    path.write_text(path.read_text().replace('"output": "4"', '"output": "four"'))
    feed = feed_of(cell(folder, *half_known(folder), f"mixture.renderings={renderings}"))
    assert feed.unspelt["add"] == 0
    assert feed.unspelt["letters"] == 1
    assert 0 < feed.unspelt["double"] <= 0.5
    with caplog.at_level(logging.INFO):
        feed.log_to(logging.getLogger("flanscale"))
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert "more than half of the answers of 1 of 3 tasks" in told[0][1]
    assert "letters (100%)" in told[0][1]
    assert "some answers of 1 of 3 tasks: double" in told[1][1]


def test_the_store_tells_a_plan_what_cannot_be_spelt(folder: Path) -> None:
    config = cell(folder, *half_known(folder), "mixture.renderings=1")
    tokenizer = load_tokenizer(config.tokenizer)
    assert unspelt_in_store(config, tokenizer) is None
    feed = feed_of(config)
    assert unspelt_in_store(config, tokenizer) == feed.unspelt
    assert unspelt_in_store(cell(folder, *half_known(folder)), tokenizer) is None, "nothing of it is stored"
