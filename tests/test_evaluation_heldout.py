"""Held-out evaluation: right answers count, errors are stated, and every item is kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from flanscale.errors import DataError
from flanscale.evaluation import heldout
from flanscale.schema import EvaluationConfig
from flanscale.tasks.niv2 import Niv2
from flanscale.tasks.procedural import Procedural
from flanscale.tasks.task import Example, Task

CONFIG = EvaluationConfig(examples_per_task=10)


class Oracle:
    """Knows every answer; gives wrong ones at the rate asked for, and rationales when asked step by step."""

    def __init__(self, tasks: Sequence[Task], wrong_every: int = 0) -> None:
        self._tasks, self._wrong_every, self._asked = tasks, wrong_every, 0
        self._known = {
            (" then ".join(task.name.split("-")), e.input): e for task in tasks for e in list(task.examples)[:10]
        }

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: str) -> str:
        self._asked += 1
        if self._wrong_every and self._asked % self._wrong_every == 0:
            return "the answer is 0"
        example = max(
            (e for (ops, given), e in self._known.items() if f" {ops} " in f" {prompt} " and given in prompt),
            key=lambda e: len(e.rationale or ""),
        )
        return f"{example.rationale} the answer is {example.target}" if "step by step" in prompt else example.target


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return heldout.held_out_tasks(Procedural(100))


def evaluate(tasks: list[Task], model: Oracle) -> tuple[list[heldout.Answer], list[heldout.Score]]:
    answers = heldout.answer(heldout.build_items(tasks, CONFIG, exemplars=0), model, CONFIG)
    return answers, heldout.summarise(answers, "procedural", CONFIG)


def test_a_perfect_model_scores_100_in_both_prompting_modes(tasks: list[Task]) -> None:
    _, scores = evaluate(tasks, Oracle(tasks))
    assert [(s.benchmark, s.setting, s.score, s.stderr, s.n) for s in scores] == [
        ("procedural", "direct", 100.0, 0.0, 480),
        ("procedural", "cot", 100.0, 0.0, 480),
    ]


def test_few_shot_requests_that_cannot_be_met_are_said(tasks: list[Task], caplog: pytest.LogCaptureFixture) -> None:
    few = dataclasses.replace(tasks[0], name="few", exemplars=(tasks[0].examples[0], tasks[0].examples[1]))
    heldout.build_items([few], CONFIG, exemplars=2)
    assert not caplog.messages
    heldout.build_items([few, tasks[1]], CONFIG, exemplars=3)
    (said,) = caplog.messages
    assert said.startswith("mixture.exemplars=3, but 2 of 2 held-out tasks have fewer of their own")
    assert said.endswith(f": few, {tasks[1].name}")


def test_wrong_answers_lower_the_score_by_their_share(tasks: list[Task]) -> None:
    answers, scores = evaluate(tasks, Oracle(tasks, wrong_every=5))
    assert scores[0].score == pytest.approx(80.0)
    rows = list(heldout.prediction_rows(answers, "exact_match"))
    assert len(rows) == 960
    assert np.mean([row["score"] for row in rows]) == pytest.approx(80.0)
    assert {row["setting"] for row in rows} == {"direct", "cot"}
    assert all(row["prompt_hash"] and row["reference"] for row in rows)


def items_and_answers(by_task: dict[str, list[float]]) -> list[heldout.Answer]:
    return [
        heldout.Answer(heldout.Item("direct", task, Example(str(i), "x", ("y",)), "p"), "", "", {"exact_match": score})
        for task, scores in by_task.items()
        for i, score in enumerate(scores)
    ]


def test_the_standard_error_is_that_of_a_stratified_sample() -> None:
    rng = np.random.default_rng(0)
    rates = np.array([0.1, 0.5, 0.9])
    config = EvaluationConfig(settings=["direct"])

    def draw() -> heldout.Score:
        by_task = {str(t): list(100.0 * (rng.random(50) < rate)) for t, rate in enumerate(rates)}
        return heldout.summarise(items_and_answers(by_task), "procedural", config)[0]

    scores = [draw() for _ in range(400)]
    observed = np.std([s.score for s in scores], ddof=1)
    assert np.mean([s.stderr for s in scores]) == pytest.approx(observed, rel=0.12)
    assert np.mean([s.stderr_tasks for s in scores]) > 4 * observed


def test_the_average_names_its_members_and_its_error_knows_that_they_share_examples(tasks: list[Task]) -> None:
    answers, scores = evaluate(tasks, Oracle(tasks, wrong_every=3))
    average = heldout.normalized_average(scores, answers, "procedural", CONFIG)
    assert average.members == ["procedural/direct", "procedural/cot"]
    assert average.score == pytest.approx(np.mean([s.normalized for s in scores]))
    # Every third prompt of either setting is wrong, the same examples in both: the members move together.
    assert average.stderr == pytest.approx(scores[0].stderr, rel=1e-6)


def test_normalisation_sets_chance_to_zero_and_goes_negative_below() -> None:
    assert heldout.Score("b", "s", 55.0, 0, 0, 1, lower_bound=50.0).normalized == pytest.approx(10.0)
    assert heldout.Score("b", "s", 45.0, 0, 0, 1, lower_bound=50.0).normalized == pytest.approx(-10.0)


def test_a_collection_without_held_out_tasks_cannot_be_evaluated() -> None:
    class Nothing:
        name, held_out = "niv2", ()

    with pytest.raises(DataError, match="niv2 has no held-out task"):
        heldout.held_out_tasks(Nothing())


@pytest.fixture
def niv2_of_equal_ids(tmp_path: Path) -> Niv2:
    """One held-out task whose instances all have the same id."""
    instances = [{"id": "t1-0", "input": f"say {number}", "output": [str(number)]} for number in range(6)]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "splits" / "default").mkdir(parents=True)
    task = {"Definition": ["Say it."], "Instances": instances, "Positive Examples": [], "Categories": ["Echo"]}
    (tmp_path / "tasks" / "task1_echo.json").write_text(json.dumps(task))
    (tmp_path / "splits" / "default" / "test_tasks.txt").write_text("task1_echo\n")
    (tmp_path / "splits" / "default" / "train_tasks.txt").write_text("")
    return Niv2(tmp_path, "default", 100)


def test_items_of_equal_ids_are_several_items(niv2_of_equal_ids: Niv2) -> None:
    class OftenRight:
        def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
            return [str(number) if number % 3 else "no" for number in range(len(prompts))]

    config = EvaluationConfig(examples_per_task=10, settings=["direct"])
    items = heldout.build_items(heldout.held_out_tasks(niv2_of_equal_ids), config, exemplars=0)
    answers = heldout.answer(items, OftenRight(), config)
    scores = heldout.summarise(answers, "niv2", config)
    average = heldout.normalized_average(scores, answers, "niv2", config)
    assert scores[0].stderr == pytest.approx(100 * np.std([0, 1, 1, 0, 1, 1], ddof=1) / np.sqrt(6))
    assert average.stderr == pytest.approx(scores[0].stderr)
    rows = list(heldout.prediction_rows(answers, "exact_match"))
    assert [row["id"] for row in rows] == [f"t1-0#{number}" for number in range(1, 7)]


def test_ids_stay_as_they_are_where_they_are_unique_and_become_so_elsewhere() -> None:
    def ids_of(*ids: str) -> list[str]:
        given = [
            heldout.Answer(heldout.Item(setting, "t", Example(i, "x", ("y",)), "p"), "", "", {"exact_match": 0.0})
            for setting in ("direct", "cot")
            for i in ids
        ]
        rows = [row["id"] for row in heldout.prediction_rows(given, "exact_match")]
        assert rows[: len(ids)] == rows[len(ids) :], "an item has one id in all settings"
        return rows[: len(ids)]

    assert ids_of("a", "b", "a#1") == ["a", "b", "a#1"]
    assert len(set(ids_of("a", "a", "a#2", "a#2#3"))) == 4
