"""From questions to what is logged: right answers count, what went wrong is counted, errors know what is shared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_model import FakeModel

from analysis.scores import read_scores
from flanscale.evaluation.answering import Answered
from flanscale.evaluation.asking import ask
from flanscale.evaluation.benchmarks import held_out
from flanscale.evaluation.item import Asked, Benchmark, Floor, Item, Prompt, Setting
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.results import result_of
from flanscale.evaluation.suites import Suite, open_suite
from flanscale.tasks.procedural import Procedural
from flanscale.tasks.templates import load_wordings
from flanscale.tracking.keys import evaluation_row, scored

TASKS, EXAMPLES = 48, 10
OWN = load_wordings("own", None)
DIRECT, COT = "procedural/direct", "procedural/cot"
Say = Callable[[int, Item], str]
"""From an item's place in its line, and the item."""


def procedural(**changes: Any) -> Benchmark:
    return replace(held_out.benchmark(Procedural(EXAMPLES), OWN, direct_tokens=99, cot_tokens=99), **changes)


def suite(*asks: str, benchmark: Benchmark | None = None, items: int | None = None) -> Suite:
    opened = benchmark or procedural()
    return open_suite("mine", asks, lambda _: opened, items=items, average=None, sampling=Sampling())


def result(suite: Suite, say: Say, precision: str = "float32", context: int = 512) -> dict[str, Any]:
    answered, model = [], FakeModel()
    for line in suite.lines:
        said = {item.prompt.text(): say(place, item) for place, item in enumerate(line.asked.items)}
        model.says = lambda prompt, sample, said=said: said[prompt]
        found = {record.key: record for batch in ask(line, model, Sampling()) for record in batch}
        answered.append(Answered(line, tuple(found[item.key] for item in line.asked.items)))
    about = {"weights": "0", "source": "a test", "precision": precision, "context": context}
    return result_of(suite, answered, model, about)


def right(_: int, item: Item) -> str:
    return f"so the answer is {item.references[0]}"


def wrong_every(turn: int) -> Say:
    return lambda place, item: right(place, item) if place % turn else "the answer is 0"


def test_a_perfect_model_scores_100_in_both_settings() -> None:
    row = evaluation_row(result(suite(DIRECT, COT), right))
    for line in (DIRECT, COT):
        assert [row[f"eval/{line}/{field}"] for field in ("score", "stderr", "n")] == [100.0, 0.0, TASKS * EXAMPLES]
    assert row["eval/normalized_average"] == 100.0


def test_wrong_answers_lower_the_score_by_their_share() -> None:
    row = evaluation_row(result(suite(DIRECT, COT), wrong_every(5)))
    assert [row[f"eval/{line}/score"] for line in (DIRECT, COT)] == pytest.approx([80.0, 80.0])


def test_the_average_names_its_members_and_its_error_knows_that_they_share_items() -> None:
    row = evaluation_row(result(suite(DIRECT, COT), wrong_every(3)))
    assert row["eval/normalized_average_members"] == [DIRECT, COT]
    normalized = [row[f"eval/{line}/normalized"] for line in (DIRECT, COT)]
    assert row["eval/normalized_average"] == pytest.approx(np.mean(normalized))
    # The same items are wrong in both settings: the members move together.
    assert row["eval/normalized_average_stderr"] == pytest.approx(row[f"eval/{DIRECT}/normalized_stderr"])
    assert row["eval/normalized_average_stderr"] > 0


def test_what_went_wrong_is_counted_and_logged_with_what_was_asked() -> None:
    def say(place: int, item: Item) -> str:
        return {0: "on and " * 50, 1: "nothing of it"}.get(place, right(place, item))

    asked = suite(COT)
    row = evaluation_row(result(asked, say))
    counts = ("failures", "cut", "dropped", "skipped", "contaminated")
    assert [row[f"eval/{COT}/{field}"] for field in counts] == [2, 1, 0, 0, 0]
    assert row[f"eval/{COT}/score"] == pytest.approx(100 * (1 - 2 / (TASKS * EXAMPLES)))
    assert row[f"eval/{COT}/prompts"] == asked.lines[0].fingerprint
    assert row["eval/suite"] == "mine"


def test_a_benchmark_in_part_and_another_metric_have_names_of_their_own_and_what_is_no_number_is_not_logged() -> None:
    def read(*given: Any) -> Any:
        whole = procedural().read(*given)
        name = whole.items[0].subtask
        items = tuple(item for item in whole.items if item.subtask == name)
        return replace(whole, items=items, floors={name: whole.floors[name]}, missing=("gone",))

    direct, cot = procedural().settings
    settings = (replace(direct, metrics=("exact_match", "rouge_l")), cot)
    row = evaluation_row(result(suite(DIRECT, benchmark=procedural(read=read, settings=settings)), right))
    names = {key.split("/")[1] for key in row if key.count("/") == 3}
    assert names == {"procedural_1_of_2", "procedural_rouge_l_1_of_2"}
    assert row["eval/normalized_average_members"] == ["procedural_1_of_2/direct"]
    assert "eval/procedural_1_of_2/direct/stderr_tasks" not in row, "one task tells nothing of how tasks vary"


def test_a_later_suite_takes_no_name_of_an_earlier_one_unless_it_asked_the_same() -> None:
    before = evaluation_row(result(suite(DIRECT, COT), right))
    other = replace(suite(DIRECT, items=5), name="other")
    row = evaluation_row(result(other, right), before)
    assert not row.keys() & before.keys()
    assert row[f"eval/{DIRECT}@other/n"] == TASKS * 5
    assert row["eval/normalized_average@other_members"] == [DIRECT]
    again = evaluation_row(result(suite(DIRECT, COT), right), before)
    assert again == {key: value for key, value in before.items() if key != "eval/suite"}


def test_a_line_of_which_every_question_is_too_long_costs_the_others_nothing() -> None:
    both = suite(DIRECT, COT, items=1)
    answered = []
    for line in both.lines:
        model = FakeModel(says=lambda *_: "the answer is 0", room=20 if line.name == DIRECT else 10_000)
        found = {record.key: record for batch in ask(line, model, Sampling()) for record in batch}
        answered.append(Answered(line, tuple(found[item.key] for item in line.asked.items)))
    made = result_of(both, answered, FakeModel(), {"weights": "0", "source": "a test", "precision": "float32"})
    lost, other = made["lines"]
    assert lost["scores"] == []
    assert lost["notes"][-1] == "All 48 questions are longer than the model's context, so none was asked."
    assert other["scores"][0]["n"] == 48
    assert made["average"]["members"] == [COT]


def test_options_without_a_probability_are_wrong_and_have_no_smooth_measures() -> None:
    ranked = Setting("letters", 0)
    item = Item("a/0", "a", Prompt("", (), "?"), ("b",), (" b", " c"), 0)
    opened = Benchmark("bench", 1, (ranked,), lambda *_: Asked((item,), {"a": Floor(50.0, 50.0)}))
    (line,) = (made := suite("bench", benchmark=opened)).lines
    model = FakeModel(thinks=lambda *_: math.nan)
    (record,) = (record for batch in ask(line, model, Sampling()) for record in batch)
    document = result_of(
        made, [Answered(line, (record,))], model, {"weights": "0", "source": "", "precision": "float32"}
    )
    (found,) = document["lines"]
    assert (found["scores"][0]["score"], found["scores"][0]["failures"], found["smooth"]) == (0.0, 1, {})
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_evaluations_of_one_name_that_ask_other_things_keep_their_scores_apart() -> None:
    logged: dict[str, Any] = {}
    for items in (2, 3, 4):
        row = evaluation_row(result(suite(DIRECT, items=items), right), logged)
        assert not row.keys() & logged.keys()
        logged |= row
    counts = sorted(value for key, value in logged.items() if key.endswith("/n"))
    assert counts == [2 * 48, 3 * 48, 4 * 48]
    assert (
        sum(key.startswith("eval/normalized_average") and not key.endswith(("r", "s", "_asked")) for key in logged) == 3
    )


def test_the_same_prompts_in_another_precision_or_context_keep_their_scores_apart() -> None:
    logged: dict[str, Any] = {}
    for precision, context in (("float32", 512), ("bfloat16", 512), ("float32", 24), ("bfloat16", 24)):
        row = evaluation_row(result(suite(DIRECT, items=2), right, precision, context), logged)
        assert not row.keys() & logged.keys()
        logged |= row
        assert (
            not evaluation_row(result(suite(DIRECT, items=2), right, precision, context), logged).keys() - logged.keys()
        )
    assert sum(key.endswith("/n") for key in logged) == 4


def test_bits_per_byte_of_texts_are_logged_as_a_loss_and_shown_as_no_percent() -> None:
    document = result(suite(DIRECT), right)
    [line] = document["lines"]
    bits = {"value": 1.25, "stderr": 0.02, "n": 40}
    row = evaluation_row(document | {"lines": [line | {"smooth": {"bits_per_byte": bits}}]})
    assert not any("bits" in key for key in row), "those of other settings say nothing"
    row = evaluation_row(document | {"lines": [line | {"setting": "cloze", "smooth": {"bits_per_byte": bits}}]})
    read = read_scores(row)
    [loss] = [measured for measured in read.found if measured[0].endswith("_bits_per_byte")]
    assert loss[1] == "cloze"
    assert read.found[loss]["score"] == 1.25
    assert read.found[loss]["higher_is_better"] == 0
    assert loss not in scored(row)
    assert (loss[0].removesuffix("_bits_per_byte"), "cloze") in scored(row)
    unknown = {"bits_per_byte": bits | {"value": None}}
    assert "bits" not in str(evaluation_row(document | {"lines": [line | {"setting": "cloze", "smooth": unknown}]}))
