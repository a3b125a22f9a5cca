"""Held-out tasks as a benchmark: asked as in training, worked examples that are not asked, keys for good."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from niv2_folder import niv2_folder, niv2_record
from test_tasks_templates import FLAN_PYTHON

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.benchmarks import held_out
from flanscale.evaluation.item import Ask, Asked, Benchmark, Floor, Item, Prompt
from flanscale.tasks.jsonl import Jsonl
from flanscale.tasks.niv2 import Niv2
from flanscale.tasks.procedural import Procedural
from flanscale.tasks.task import Collection, Skips
from flanscale.tasks.templates import evaluation_form, load_wordings, render

OWN = load_wordings("own", None)


def asked(collection: Collection, line: str = "", exemplars: int = 0) -> Asked:
    benchmark = held_out.benchmark(collection, OWN, exemplars=exemplars)
    return benchmark.asked(Ask.parse(line or benchmark.name))


def jsonl(folder: Path, **tasks: Sequence[dict[str, Any]]) -> Jsonl:
    """One's own tasks, all of them held out."""
    for name, lines in tasks.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "held_out.txt").write_text("\n".join(tasks))
    return Jsonl(folder, 100)


def numbered(numbers: range, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"n{n}", "input": f"query <{n}>", "output": f"reply {n}", **more} for n in numbers]


def niv2(folder: Path, **changes: Any) -> Niv2:
    """One held-out task."""
    return Niv2(niv2_folder(folder, {"task1_say": niv2_record(**changes)}, test=["task1_say"]), "default", 100)


def keys(given: Asked) -> list[str]:
    return [item.key for item in given.items]


def hash_of(benchmark: Benchmark, *lines: str) -> str:
    """Over every prompt of these settings."""
    prompts = [item.prompt for line in lines for item in benchmark.asked(Ask.parse(line)).items]
    shown = json.dumps([[prompt.preamble, prompt.shots, prompt.question] for prompt in prompts])
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


# --- what is asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["digits", "letters"])
@pytest.mark.parametrize("setting", ["direct", "cot"])
def test_questions_are_worded_as_in_training_and_the_wordings_take_turns(domain: str, setting: str) -> None:
    collection = Procedural(12, domain=domain)
    given = iter(asked(collection, f"procedural/{setting}").items)
    for name in collection.held_out:
        task, form = collection.task(name), evaluation_form(setting == "cot", 0)
        for place, example in enumerate(task.examples):
            item = next(given)
            assert item.prompt.text() == render(task, place, form, place, OWN).input
            assert (item.key, item.subtask, item.references) == (f"{name}/{place}", name, example.references)
    assert next(given, None) is None


def test_a_collection_s_settings_and_metrics_are_its_own(tmp_path: Path) -> None:
    procedural = held_out.benchmark(Procedural(5), OWN)
    assert [(s.name, s.metrics) for s in procedural.settings] == [
        ("direct", ("exact_match",)),
        ("cot", ("exact_match",)),
    ]
    own = held_out.benchmark(jsonl(tmp_path, say=numbered(range(3))), OWN)
    assert [(s.name, s.metrics[0]) for s in own.settings] == [("direct", "exact_match"), ("cot", "exact_match")]
    official = held_out.benchmark(niv2(tmp_path / "niv2"), OWN)
    assert [(s.name, s.metrics) for s in official.settings] == [("direct", ("rouge_l", "exact_match"))]
    with pytest.raises(ConfigError, match="niv2 has no setting 'cot'"):
        official.asked(Ask.parse("niv2/cot"))
    assert procedural.in_order
    assert own.in_order
    assert official.in_order


def test_the_caller_says_how_many_worked_examples_and_how_long_an_answer(tmp_path: Path) -> None:
    own = jsonl(tmp_path, say=numbered(range(9)))
    benchmark = held_out.benchmark(own, OWN, exemplars=2, direct_tokens=5, cot_tokens=50)
    assert [(s.shots, s.max_new_tokens) for s in benchmark.settings] == [(2, 5), (2, 50)]
    assert {len(item.prompt.shots) for item in benchmark.asked(Ask.parse("jsonl")).items} == {2}
    assert {len(item.prompt.shots) for item in benchmark.asked(Ask.parse("jsonl/direct-4shot")).items} == {4}


def test_tasks_have_categories_to_be_averaged_by(tmp_path: Path) -> None:
    lengths = Counter(asked(Procedural(1)).categories.values())
    assert sorted(lengths) == ["length 2", "length 3"]
    assert lengths.total() == 48
    sorting = [{"category": "sorting"}, *numbered(range(2))]
    assert asked(jsonl(tmp_path, sort=sorting, say=numbered(range(2)))).categories == {"sort": "sorting"}
    assert asked(niv2(tmp_path / "niv2", Categories=["Echo"])).categories == {"task1_say": "Echo"}


def test_the_floor_of_free_answers_is_nought_beside_that_of_the_most_frequent_answer(tmp_path: Path) -> None:
    labels = [["yes"], ["no"], ["yes", "of course"], ["yes", "yes"]]
    lines = [{"input": f"query <{n}>", "output": output} for n, output in enumerate(labels)]
    assert asked(jsonl(tmp_path, label=lines)).floors == {"label": Floor(paper=0.0, chance=0.0, majority=75.0)}


# --- worked examples -----------------------------------------------------------------------------------------------


def test_a_task_s_own_worked_examples_are_shown_before_all_of_its_questions(tmp_path: Path) -> None:
    worked = [{"input": f"shown <{n}>", "output": f"told {n}"} for n in range(3)]
    collection = niv2(tmp_path, **{"Positive Examples": worked})
    given = asked(collection, exemplars=2)
    assert keys(given) == keys(asked(collection)) == [f"task1_say/x-{n}" for n in range(5)]
    task = collection.task("task1_say")
    for place, item in enumerate(given.items):
        assert item.prompt.text() == render(task, place, evaluation_form(False, 2), place, OWN).input
        assert [f"shown <{n}>" in shot for n, shot in enumerate(item.prompt.shots)] == [True, True]
        assert "shown" not in item.prompt.text(0)
        assert f"in {place}" in item.prompt.question
    assert given.notes == ()


@pytest.mark.parametrize("setting", ["direct", "cot"])
def test_a_task_without_worked_examples_shows_its_first_ones_and_asks_the_others(tmp_path: Path, setting: str) -> None:
    own = jsonl(tmp_path, say=numbered(range(6)))
    given = asked(own, f"jsonl/{setting}-2shot")
    assert keys(given) == [f"say/n{n}" for n in range(2, 6)]
    for number, item in enumerate(given.items, start=2):
        assert ["query <0>" in item.prompt.shots[0], "query <1>" in item.prompt.shots[1]] == [True, True]
        assert Counter(f"<{n}>" for n in range(6) if f"<{n}>" in item.prompt.text()).keys() == {
            "<0>",
            "<1>",
            f"<{number}>",
        }
    assert given.notes == (
        "1 of 1 held-out tasks (say) have no worked examples: the first 2 of their examples, those with a rationale"
        " before others, are shown before the rest and not asked",
    )
    zero = asked(own, f"jsonl/{setting}")
    assert keys(zero) == [f"say/n{n}" for n in range(6)]
    assert zero.notes == ()


def test_examples_with_rationales_are_shown_first_and_are_the_same_in_all_settings(tmp_path: Path) -> None:
    lines = [*numbered(range(3)), *numbered(range(3, 5), rationale="think")]
    own = jsonl(tmp_path, say=lines)
    direct, cot = asked(own, "jsonl/direct-2shot"), asked(own, "jsonl/cot-2shot")
    assert keys(direct) == keys(cot) == ["say/n0", "say/n1", "say/n2"]
    assert all("think" in shot for item in cot.items for shot in item.prompt.shots)


def test_a_task_that_has_too_few_examples_is_asked_with_what_it_has(tmp_path: Path) -> None:
    given = asked(
        jsonl(tmp_path, pair=numbered(range(2)), lone=numbered(range(1)), many=numbered(range(9))), exemplars=4
    )
    shots = {item.subtask: len(item.prompt.shots) for item in given.items}
    assert shots == {"pair": 1, "lone": 0, "many": 4}
    assert Counter(item.subtask for item in given.items) == {"pair": 1, "lone": 1, "many": 5}
    assert (
        "2 of 3 held-out tasks (pair, lone) have fewer than 4 worked examples, and are asked with what they have"
        in (given.notes)
    )


def test_a_worked_example_inside_flans_question_is_said_to_be_no_shot(tmp_path: Path) -> None:
    (tmp_path / "templates.py").write_text(FLAN_PYTHON)
    flan = load_wordings("flan", tmp_path / "templates.py")
    given = held_out.benchmark(niv2(tmp_path), flan, exemplars=1).asked(Ask.parse("niv2"))
    assert [len(item.prompt.shots) for item in given.items] == [1, 0, 1, 0, 1]
    assert given.notes == ("2 of 5 prompts have no worked example, or in the question itself, as FLAN words it",)
    assert all("a gives b: c" in item.prompt.question for item in given.items if not item.prompt.shots)


# --- keys ----------------------------------------------------------------------------------------------------------


def test_examples_of_one_id_are_several_items(tmp_path: Path) -> None:
    instances = [
        {"id": name, "input": f"in {n}", "output": ["x"]} for n, name in enumerate(["a", "a#3", "a", "b", "a"])
    ]
    whole = keys(asked(niv2(tmp_path / "five", Instances=instances)))
    assert whole == [f"task1_say/{name}" for name in ("a", "a#3", "a#3#3", "b", "a#5")]
    assert keys(asked(niv2(tmp_path / "three", Instances=instances[:3]))) == whole[:3]


def test_keys_are_the_same_in_all_settings_and_unique() -> None:
    collection = Procedural(20)
    direct, cot = keys(asked(collection)), keys(asked(collection, "procedural/cot"))
    assert direct == cot
    assert len(set(direct)) == len(direct) == 48 * 20
    assert set(keys(asked(collection, "procedural/cot-3shot"))) < set(direct)


# --- answers -------------------------------------------------------------------------------------------------------

ITEM = Item("t/1", "t", Prompt("", (), "?"), ("4 2",))


@pytest.mark.parametrize(
    ("setting", "text", "answer"),
    [
        ("direct", " 4 2\n", "4 2"),
        ("direct", "So the answer is 4 2.", "4 2"),
        ("direct", " \n", None),
        ("cot", "reverse 2 4 ; the answer is 4 2", "4 2"),
        ("cot", "reverse 2 4 ; sort", None),
        ("cot", "4 2", None),
        ("cot", "reverse 2 4 ; the answer is", None),
    ],
)
def test_a_text_without_an_answer_has_none(setting: str, text: str, answer: str | None) -> None:
    extract = held_out.benchmark(Procedural(1), OWN).setting(Ask("procedural", setting)).extract
    assert extract is not None
    assert extract(text, ITEM) == answer


def test_nothing_is_an_answer_where_nothing_is_right() -> None:
    extract = held_out.benchmark(Procedural(1), OWN).settings[0].extract
    assert extract is not None
    assert extract("", Item("t/1", "t", Prompt("", (), "?"), ("",))) == ""


# --- what is not here ----------------------------------------------------------------------------------------------


def test_official_test_tasks_without_data_are_missing(tmp_path: Path) -> None:
    here, away = "task1390_wscfixed_coreference", "task242_tweetqa_classification"
    folder = niv2_folder(tmp_path, {here: niv2_record()}, test=[away, here])
    given = asked(Niv2(folder, "default", 100))
    assert {item.subtask for item in given.items} == {here}
    assert given.missing == (away,)


def test_a_collection_without_held_out_tasks_cannot_be_evaluated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="niv2 has no held-out task with data here"):
        asked(Niv2(niv2_folder(tmp_path, {"task1_say": niv2_record()}, train=["task1_say"]), "default", 100))


def test_a_held_out_task_without_examples_is_named(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {"task1_say": niv2_record(Instances=[{"input": 5}])}, test=["task1_say"])
    with pytest.raises(DataError, match="held-out task task1_say has no examples"):
        asked(Niv2(folder, "default", 100, Skips(allowed=True)))


# --- prompts are the same within a version -------------------------------------------------------------------------

CHANGED = "prompts have changed: raise held_out.VERSION, and set the new hash here"


def test_prompts_of_a_version_stay_as_they_are(tmp_path: Path) -> None:
    lines = [{"instruction": "Say it."}, *numbered(range(5), rationale="think"), *numbered(range(5, 20))]
    own = held_out.benchmark(jsonl(tmp_path, say=lines), OWN)
    made = held_out.benchmark(Procedural(4), OWN)
    official = held_out.benchmark(niv2(tmp_path / "niv2"), OWN)
    assert (own.version, made.version, official.version) == (1, 1, 1)
    modes = ("direct", "cot", "direct-3shot", "cot-3shot")
    assert hash_of(own, *(f"jsonl/{mode}" for mode in modes)) == "d0fe15b7ca922dd4", CHANGED
    assert hash_of(made, *(f"procedural/{mode}" for mode in modes)) == "25ff5ef6c1c0cb88", CHANGED
    assert hash_of(official, "niv2/direct", "niv2/direct-3shot") == "32fac4cecd88150d", CHANGED


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "items", "tasks", "categories", "missing", "expected"),
    [("default", 9984, 100, 12, 19, "3b96553d80837edd"), ("xlingual", 3400, 34, 3, 1, "2f33f9b63f798a4f")],
)
def test_official_tasks_are_asked_whole_by_category(
    shared_data: Path, split: str, items: int, tasks: int, categories: int, missing: int, expected: str
) -> None:
    benchmark = held_out.benchmark(Niv2(shared_data / "niv2", split, 100), OWN)
    given = benchmark.asked(Ask.parse("niv2"))
    assert (len(given.items), len(set(keys(given))), len(given.floors)) == (items, items, tasks)
    assert given.categories.keys() == given.floors.keys()
    assert (len(set(given.categories.values())), len(given.missing)) == (categories, missing)
    assert hash_of(benchmark, "niv2/direct", "niv2/direct-2shot") == expected, CHANGED
