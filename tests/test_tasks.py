"""The tasks room: what is learned is what was declared, and what is held out is never learned."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from flanscale.schema import MixtureConfig
from flanscale.tasks.mixture import build_mixture, select_tasks
from flanscale.tasks.niv2 import Niv2, fingerprint
from flanscale.tasks.procedural import LENGTH, PRIMITIVES, Procedural
from flanscale.tasks.task import DataError, Example, Task
from flanscale.tasks.templates import TEMPLATES, extract_answer, procedural_words, render


@pytest.fixture
def procedural() -> Procedural:
    return Procedural(examples_per_task=200)


# --- the procedural collection -------------------------------------------------------------------------------------


def test_the_groups_have_the_sizes_of_the_paper(procedural: Procedural) -> None:
    assert [len(group) for group in procedural.groups.values()] == [9, 80, 193, 1554]
    assert len(procedural.held_out) == 48


def test_training_and_held_out_tasks_are_disjoint_and_together_all_compositions(procedural: Procedural) -> None:
    train = [name for group in procedural.groups.values() for name in group]
    assert len({*train, *procedural.held_out}) == 12 + 12**2 + 12**3 == len(train) + len(procedural.held_out)


def test_no_held_out_input_is_the_input_of_a_training_example(procedural: Procedural) -> None:
    train = {e.input for name in procedural.groups["second"] for e in procedural.task(name).examples}
    held_out = {e.input for name in procedural.held_out for e in procedural.task(name).examples}
    assert len(train) > 0.8 * 10**LENGTH  # nearly all of the training side has been seen
    assert held_out
    assert not train & held_out


def test_an_answer_follows_from_its_input_step_by_step(procedural: Procedural) -> None:
    for name in procedural.held_out:
        example = procedural.task(name).examples[7]
        value = tuple(map(int, example.input.split()))
        steps = []
        for operation in name.split("-"):
            value = PRIMITIVES[operation](value)
            steps.append(f"{operation} {' '.join(map(str, value))} ;")
        assert example.target == " ".join(map(str, value))
        assert example.rationale == " ".join(steps)


def test_a_task_is_the_same_every_time_and_differs_from_others(procedural: Procedural) -> None:
    first, again = procedural.task("reverse-double"), Procedural(200).task("reverse-double")
    assert list(first.examples) == list(again.examples)
    other = procedural.task("double-reverse")
    assert [e.input for e in first.examples] != [e.input for e in other.examples]


def test_an_unknown_procedural_task_is_refused(procedural: Procedural) -> None:
    with pytest.raises(DataError, match="reverse-fly"):
        procedural.task("reverse-fly")


# --- mixtures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order_seed", [0, 1, 2])
def test_random_subsets_of_one_draw_are_nested(procedural: Procedural, order_seed: int) -> None:
    subsets = [
        set(select_tasks(procedural, MixtureConfig(count=count, order="random", order_seed=order_seed)))
        for count in (9, 100, 1836)
    ]
    assert [len(subset) for subset in subsets] == [9, 100, 1836]
    assert subsets[0] < subsets[1] < subsets[2]


def test_draws_differ_and_the_paper_order_ignores_them(procedural: Procedural) -> None:
    random = [tuple(select_tasks(procedural, MixtureConfig(50, "random", order_seed=seed))) for seed in (0, 1)]
    assert set(random[0]) != set(random[1])
    assert select_tasks(procedural, MixtureConfig(9, "paper")) == procedural.groups["first"]


def test_more_tasks_than_there_are_is_an_error_unless_allowed(
    procedural: Procedural, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match=r"mixture.count=2000.*has 1836.*allow_missing"):
        select_tasks(procedural, MixtureConfig(count=2000))
    names = select_tasks(procedural, MixtureConfig(count=2000, allow_missing=True))
    assert len(names) == 1836
    assert "going on with 1836" in caplog.text


def test_the_cap_bounds_a_tasks_weight_and_weights_sum_to_one() -> None:
    def task(name: str, size: int) -> Task:
        return Task(name, "niv2", "", "", [Example(str(i), "x", ("y",)) for i in range(size)])

    class Two:
        name, groups, held_out, missing = "niv2", {"train": ["small", "large"]}, ["t"], ()

        def task(self, name: str) -> Task:
            return task(name, {"small": 10, "large": 90}[name])

    free = build_mixture(Two(), MixtureConfig(count=2), cot=False)
    capped = build_mixture(Two(), MixtureConfig(count=2, max_per_task=30), cot=False)
    assert free.weights == [0.1, 0.9]
    assert capped.weights == [0.25, 0.75]


def test_rationales_appear_in_their_share_and_only_with_cot(procedural: Procedural) -> None:
    config = MixtureConfig(count=9, cot_fraction=0.25)
    choices = [(i * 0x9E3779B97F4A7C15) % (1 << 63) for i in range(2000)]

    def share(cot: bool) -> float:
        mixture = build_mixture(procedural, config, cot=cot)
        return sum("the answer is" in mixture.prompt(0, 0, choice).target for choice in choices) / len(choices)

    assert share(cot=False) == 0
    assert share(cot=True) == pytest.approx(0.25, abs=0.04)


# --- templates -----------------------------------------------------------------------------------------------------


def test_every_procedural_word_is_in_the_closed_vocabulary(procedural: Procedural) -> None:
    words = set(procedural_words())
    for name in (*procedural.groups["first"], *procedural.held_out):
        task = procedural.task(name)
        for template in range(len(TEMPLATES["procedural"])):
            for cot in (False, True):
                prompt = render(task, task.examples[template], template=template, cot=cot, exemplars=0)
                assert {*prompt.input.split(), *prompt.target.split()} <= words


def test_exemplars_come_before_the_query_and_never_are_the_query() -> None:
    shots = tuple(Example(str(i), f"in{i}", (f"out{i}",)) for i in range(3))
    task = Task("t", "niv2", "", "Say it.", [shots[0]], exemplars=shots)
    prompt = render(task, shots[0], template=0, cot=False, exemplars=2)
    assert "out0" not in prompt.input
    assert prompt.input.index("out1") < prompt.input.index("out2") < prompt.input.index("in0")
    assert prompt.input.startswith("Say it.")
    assert prompt.target == "out0"


@pytest.mark.parametrize(
    ("text", "cot", "answer"),
    [
        ("4 2", False, "4 2"),
        ("reverse 2 4 ; the answer is 2 4", True, "2 4"),
        ("the answer is 1 , no , the answer is 2.", True, "2"),
        ("reverse 2 4 ; sort", True, ""),
        ("The mark was not reached", False, "The mark was not reached"),
    ],
)
def test_the_answer_is_what_follows_the_last_mark(text: str, cot: bool, answer: str) -> None:
    assert extract_answer(text, cot=cot) == answer


# --- Super-NaturalInstructions -------------------------------------------------------------------------------------


def niv2_task(**changes: Any) -> dict[str, Any]:
    shot = {"input": "a", "output": "b", "explanation": "c"}
    record = {
        "Categories": ["Tiny"],
        "Definition": ["Copy it."],
        "Positive Examples": [shot],
        "Instances": [{"id": f"x-{i}", "input": f" in {i} ", "output": [f"out {i}", "other"]} for i in range(5)],
        "Instance License": ["CC0"],
    }
    return record | changes


def niv2_folder(folder: Path, tasks: dict[str, Any], train: list[str], test: list[str]) -> Path:
    (folder / "tasks").mkdir(parents=True)
    (folder / "splits" / "default").mkdir(parents=True)
    for name, record in tasks.items():
        (folder / "tasks" / f"{name}.json").write_text(json.dumps(record))
    (folder / "splits" / "default" / "train_tasks.txt").write_text("\n".join(train) + "\n")
    (folder / "splits" / "default" / "test_tasks.txt").write_text("\n".join(test) + "\n")
    return folder


def test_a_task_file_is_read_with_all_references_plain_or_gzipped(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {"t1": niv2_task()}, ["t1", "t2", "absent"], [])
    (folder / "tasks" / "t2.json.gz").write_bytes(gzip.compress(json.dumps(niv2_task()).encode()))
    collection = Niv2(folder, "default", examples_per_task=3)
    for name in ("t1", "t2"):
        task = collection.task(name)
        assert [e.input for e in task.examples] == ["in 0", "in 1", "in 2"]
        assert task.examples[1].references == ("out 1", "other")
        assert (task.instruction, task.category, task.licence) == ("Copy it.", "Tiny", "CC0")
    assert collection.groups["train"] == ["t1", "t2"]
    assert collection.missing == ["absent"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "t.json: not readable as JSON"),
        (json.dumps({"Definition": ["x"]}).encode(), "t.json: not a Super-NaturalInstructions task: KeyError"),
        (json.dumps(niv2_task(Instances=[{"id": "1", "input": "x", "output": []}])).encode(), "t.json: not a Super"),
        (json.dumps([]).encode(), "t.json: not a Super-NaturalInstructions task"),
    ],
)
def test_a_malformed_task_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    folder = niv2_folder(tmp_path, {}, ["t"], [])
    (folder / "tasks" / "t.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Niv2(folder, "default", 10).task("t")


def test_an_empty_or_absent_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.niv2=.*no folder tasks/"):
        fingerprint(tmp_path, "default")
    folder = niv2_folder(tmp_path, {}, ["t"], [])
    with pytest.raises(DataError, match=r"holds no \*.json"):
        fingerprint(folder, "default")
    (folder / "tasks" / "t.json").write_text("{}")
    with pytest.raises(DataError, match="splits here: default"):
        fingerprint(folder, "xlingual")


def test_the_fingerprint_follows_the_content_of_the_tasks_named(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {"t": niv2_task(), "unlisted": niv2_task()}, ["t"], [])
    before = fingerprint(folder, "default")
    (folder / "tasks" / "unlisted.json").write_text("{}")
    assert fingerprint(folder, "default") == before
    (folder / "tasks" / "t.json").write_text(json.dumps(niv2_task(Definition=["Copy."])))
    assert fingerprint(folder, "default") != before


@pytest.mark.data
def test_every_real_task_of_the_official_splits_loads(shared_data: Path) -> None:
    collection = Niv2(shared_data / "niv2", "default", 100)
    names = [*collection.groups["train"], *collection.held_out]
    assert (len(collection.groups["train"]), len(collection.held_out), len(collection.missing)) == (634, 100, 122)
    for name in names[::7]:
        task = collection.task(name)
        assert len(task.examples) >= 20
        assert all(example.references and example.target is not None for example in task.examples)
        assert task.exemplars
