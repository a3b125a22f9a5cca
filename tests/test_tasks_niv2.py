"""Super-NaturalInstructions: official files are read as they are; a broken one is named or counted, never learned."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from niv2_folder import niv2_folder, niv2_record

from flanscale.errors import DataError
from flanscale.tasks.catalog import catalogued
from flanscale.tasks.niv2 import TEST_INSTANCES, Niv2
from flanscale.tasks.task import Skips

INSTANCE = {"id": "1", "input": "x", "output": ["y"]}


def collection(folder: Path, split: str = "default", *, skip: bool = False, most: int = 1000) -> Niv2:
    return Niv2(folder, split, most, Skips(skip))


# --- what is read ----------------------------------------------------------------------------------------------------


def test_a_task_file_is_read_with_all_references_plain_or_gzipped(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {"t1": niv2_record()}, train=["t1", "t2"])
    (folder / "tasks" / "t2.json.gz").write_bytes(gzip.compress(json.dumps(niv2_record()).encode()))
    for name in ("t1", "t2"):
        task = collection(folder, most=3).task(name)
        assert [example.input for example in task.examples] == ["in 0", "in 1", "in 2"]
        assert task.examples[1].references == ("out 1", "other")
        assert (task.instruction, task.category, task.licence) == ("Copy it.", "Tiny", "CC0")
        assert (task.dataset, task.style, task.collection) == ("tiny", "instruction", "niv2")


def test_positive_examples_are_exemplars_and_negative_ones_are_kept_apart(tmp_path: Path) -> None:
    niv2 = collection(niv2_folder(tmp_path, {"t": niv2_record()}))
    (shot,) = niv2.task("t").exemplars
    (wrong,) = niv2.negative_examples("t")
    assert (shot.input, shot.target, shot.fields["explanation"]) == ("a", "b", "c")
    assert (wrong.target, wrong.fields["explanation"]) == ("z", "z is not b")


def test_an_empty_answer_counts_only_where_there_is_no_other(tmp_path: Path) -> None:
    instances = [INSTANCE | {"output": [""]}, INSTANCE | {"output": ["", "y", " "]}]
    task = collection(niv2_folder(tmp_path, {"t": niv2_record(Instances=instances)})).task("t")
    assert [example.references for example in task.examples] == [("",), ("y",)]


def test_listed_tasks_are_here_or_missing_with_what_to_do(tmp_path: Path) -> None:
    niv2 = collection(
        niv2_folder(tmp_path, {"t1": niv2_record(), "t2": niv2_record()}, train=["t1", "absent"], test=["t2"])
    )
    assert niv2.groups == {"niv2": ["t1"]}
    assert niv2.held_out == ["t2"]
    assert list(niv2.missing) == ["absent"]
    assert f"`flanscale tasks fetch niv2 --to {tmp_path.parent} --accept-licence` brings it" in niv2.missing["absent"]


def test_a_held_out_task_has_its_official_test_instances_only(tmp_path: Path) -> None:
    many = niv2_record(Instances=[INSTANCE | {"id": str(i), "input": f"in {i}"} for i in range(TEST_INSTANCES + 50)])
    niv2 = collection(niv2_folder(tmp_path, {"train": many, "test": many}, train=["train"], test=["test"]))
    assert len(niv2.task("train").examples) == 150
    assert [example.id for example in niv2.task("test").examples] == [str(i) for i in range(100)]


def test_the_category_is_the_catalogues_and_for_other_tasks_the_files(tmp_path: Path) -> None:
    name = "task1146_country_capital"  # Misc. in its file
    niv2 = collection(niv2_folder(tmp_path, {name: niv2_record(Categories=["Misc."]), "own": niv2_record()}))
    assert niv2.category(name) == niv2.task(name).category == "Country Capital Prediction"
    assert niv2.category("own") == niv2.task("own").category == "Tiny"
    niv2.files[name].write_text("{")
    assert niv2.category(name) == "Country Capital Prediction"  # told without loading the task


# --- the split flan --------------------------------------------------------------------------------------------------


def test_the_flan_split_is_the_catalogue_less_the_test_tasks(tmp_path: Path) -> None:
    first, second, third = list(catalogued("niv2"))[:3]
    folder = niv2_folder(
        tmp_path, {first: niv2_record(), second: niv2_record(), "own": niv2_record()}, test=[second, third]
    )
    niv2 = collection(folder, "flan")
    assert niv2.groups == {"niv2": [first]}
    assert niv2.held_out == [second]
    why = "held out for evaluation: it is in the official default test split"
    assert niv2.reserved[second] == why
    assert niv2.reserved[third].startswith(f"{why}; no file ")  # it takes part on neither side
    assert len(niv2.reserved) == 2
    assert len(niv2.missing) == 1554 - 3


# --- what is broken --------------------------------------------------------------------------------------------------


def write(content: bytes, name: str = "t.json") -> Callable[[Path], None]:
    def to(folder: Path) -> None:
        (folder / "tasks" / name).write_bytes(content)

    return to


def record(**changes: Any) -> bytes:
    return json.dumps(niv2_record(**changes)).encode()


BROKEN = [
    (write(b'{\n"Definition": ["x"]\n"Instances": []}'), r"t\.json:3: not JSON"),
    (write(record(Definition=["Copy \udcff"]).replace(b"\\udcff", b"\xff")), r"t\.json:1: not UTF-8 \(byte 0xff\)"),
    (write(gzip.compress(record())[:-30], "t.json.gz"), r"t\.json\.gz: not readable as JSON: EOFError"),
    (write(b"[" * 100_000), r"t\.json: not readable as JSON: RecursionError"),
    (write(b"[]"), r"t\.json: not a Super-NaturalInstructions task: a JSON list, expected an object"),
    (write(b'{"Definition": ["x"]}'), r"t\.json: not a Super-NaturalInstructions task: no Instances"),
    (write(record(Instances=[])), r"t\.json: not a Super-NaturalInstructions task: no Instances"),
    (write(record(Definition="")), r"t\.json: not a Super-NaturalInstructions task: no Definition"),
    (write(record(Definition=[7])), r"t\.json: not a Super-NaturalInstructions task: Definition is not text"),
    (write(record(Definition="\ud83d")), r"t\.json: not .* task: Definition holds half of a surrogate pair"),
    (write(record(Instances={"a": 1})), r"t\.json: not a Super-NaturalInstructions task: Instances is no list"),
]


@pytest.mark.parametrize(("breaks", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_malformed_file_is_named_or_counted(tmp_path: Path, breaks: Callable[[Path], None], message: str) -> None:
    folder = niv2_folder(tmp_path, {})
    breaks(folder)
    with pytest.raises(DataError, match=message):
        collection(folder).task("t")
    tolerant = collection(folder, skip=True)
    assert list(tolerant.task("t").examples) == []
    assert tolerant.skips.total == 1


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (INSTANCE | {"output": []}, "no output"),
        ({"id": "1", "input": "x"}, "no output"),
        (INSTANCE | {"output": [None]}, "output null is no text"),
        (INSTANCE | {"output": [3]}, "output 3 is no text; a number stands in quotes there"),
        (INSTANCE | {"output": -2.5}, r"output -2\.5 is no text"),
        (INSTANCE | {"output": ["3", 3]}, "output 3 is no text"),
        (INSTANCE | {"output": ["\ud83d"]}, "half of a surrogate pair"),
        (INSTANCE | {"input": "  "}, "no input"),
        (INSTANCE | {"input": ["x"]}, "no text 'input'"),
        ("x", "no text 'input'"),
        (INSTANCE | {"input": "x" * 1_000_001}, "field of more than 1,000,000 characters"),
        (INSTANCE | {"input": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_a_malformed_instance_is_named_or_left_out_alone(tmp_path: Path, bad: Any, why: str) -> None:
    folder = niv2_folder(tmp_path, {"t": niv2_record(Instances=[INSTANCE, bad, INSTANCE | {"id": "3"}])})
    with pytest.raises(DataError, match=rf"t\.json, instance 2: {why}.*mixture\.skip_bad=true"):
        collection(folder).task("t")
    tolerant = collection(folder, skip=True)
    assert [example.id for example in tolerant.task("t").examples] == ["1", "3"]
    assert tolerant.skips.total == 1


def test_an_output_of_plain_text_and_a_byte_order_mark_are_all_right(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {})
    write(b"\xef\xbb\xbf" + record(Instances=[INSTANCE | {"output": " -3 "}]))(folder)
    assert [example.references for example in collection(folder).task("t").examples] == [("-3",)]


def test_a_malformed_example_is_named_too(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {"t": niv2_record(**{"Positive Examples": [{"input": "a"}]})})
    with pytest.raises(DataError, match=r"t\.json, positive example 1: no output"):
        collection(folder).task("t")


def test_two_files_of_one_task_are_named_or_the_plain_one_counts(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {"t": niv2_record()}, train=["t"])
    write(gzip.compress(record(Definition=["Another."])), "t.json.gz")(folder)
    with pytest.raises(DataError, match=r"t\.json\.gz: second file of a task"):
        _ = collection(folder).groups
    tolerant = collection(folder, skip=True)
    assert tolerant.task("t").instruction == "Copy it."
    assert tolerant.skips.total == 1


@pytest.mark.parametrize("name", ["../t", "a/b", "..", r"a\b", ".hidden"])
def test_a_listed_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    niv2 = collection(niv2_folder(tmp_path, {"t": niv2_record()}, train=["t", name]), skip=True)
    with pytest.raises(DataError, match=r"train_tasks\.txt:2: .* is no task name"):
        _ = niv2.groups


def test_a_task_outside_the_folder_cannot_be_asked_for(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path / "niv2", {"t": niv2_record()})
    (tmp_path / "niv2" / "secret.json").write_bytes(record())
    with pytest.raises(DataError, match="has no file"):
        collection(folder).task("../secret")


def test_an_empty_or_absent_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.niv2=.*no folder tasks/"):
        _ = collection(tmp_path).groups
    folder = niv2_folder(tmp_path, {}, train=["t"])
    with pytest.raises(DataError, match=r"holds no \*.json"):
        _ = collection(folder).groups
    (folder / "tasks" / "t.json").write_text("{}")
    with pytest.raises(DataError, match="splits here: default, flan"):
        _ = collection(folder, "xlingual").groups


# --- the fingerprint -------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_the_tasks_content_and_nothing_else(tmp_path: Path) -> None:
    folder = niv2_folder(tmp_path, {"t": niv2_record(), "other": niv2_record(Definition=["Turn it."])})
    before = collection(folder).fingerprint("t")
    assert len(before) == 16
    assert collection(folder).fingerprint("other") != before
    (folder / "tasks" / "other.json").write_text("{}")
    assert collection(folder).fingerprint("t") == before
    (folder / "tasks" / "t.json").write_text(json.dumps(niv2_record(Definition=["Copy."])))
    assert collection(folder).fingerprint("t") != before


# --- the real files --------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "training", "held_out", "missing"),
    [("default", 634, 100, 122), ("xlingual", 1120, 34, 150), ("flan", 1236, 100, 199)],
)
def test_the_real_splits_are_here_as_far_as_they_are(
    shared_data: Path, split: str, training: int, held_out: int, missing: int
) -> None:
    niv2 = collection(shared_data / "niv2", split)
    assert (len(niv2.groups["niv2"]), len(niv2.held_out), len(niv2.missing)) == (training, held_out, missing)
    assert not {*niv2.groups["niv2"]} & {*niv2.held_out}


@pytest.mark.data
def test_every_real_file_loads_without_a_bad_record(shared_data: Path) -> None:
    niv2 = collection(shared_data / "niv2")
    tasks = [niv2.task(name) for name in niv2.files]
    assert len(tasks) == 1395
    assert sum(len(task.examples) for task in tasks) == 138_793
    assert min(len(task.examples) for task in tasks) >= 20
    assert all(task.exemplars and task.instruction and task.dataset for task in tasks)
    assert sum(len(example.references) > 1 for task in tasks for example in task.examples) > 6_000
