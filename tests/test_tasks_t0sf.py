"""T0-SF templates, in both forms that they come in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import DataError
from flanscale.tasks.catalog import COUNTS
from flanscale.tasks.t0sf import T0sf
from flanscale.tasks.task import Skips

NAME = "sciq_Direct_Question"
P3 = {"inputs_pretokenized": " Ask?\n", "targets_pretokenized": "\n yes ", "answer_choices": ["no", "yes"]}


def lines(records: Iterable[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def test_the_end_mark_goes_and_unusual_line_separators_stay(tmp_path: Path) -> None:
    record = '{"prompt": "a\u2028b?\\n", "completion": "yes\x85no<|endoftext|>"}\n'
    (tmp_path / "sf").mkdir()
    (tmp_path / "sf" / f"{NAME}.jsonl.gz").write_bytes(gzip.compress(record.encode()))

    task = T0sf(tmp_path, 10).task(NAME)

    assert [(example.input, example.target) for example in task.examples] == [("a\u2028b?", "yes\x85no")]
    assert (task.style, task.instruction, task.dataset) == ("rendered", "", "sciq")


@pytest.mark.parametrize("file", [f"{NAME}.jsonl", f"{NAME}.jsonl.gz", f"{NAME}/train.jsonl", f"{NAME}/train/0.json"])
def test_p3_lines_are_read_wherever_the_hub_puts_them(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines([P3]))

    (example,) = T0sf(tmp_path, 10).task(NAME).examples

    assert (example.input, example.references, example.options) == ("Ask?", ("yes",), ("no", "yes"))


def test_choices_that_lack_the_answer_are_no_options(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.jsonl").write_bytes(lines([P3 | {"answer_choices": ["no", "perhaps"]}]))

    assert T0sf(tmp_path, 10).task(NAME).examples[0].options == ()


def test_p3_parquet_is_read_and_other_splits_are_not(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / NAME).mkdir()
    for part, choices in (("train-00000-of-00002", ["no", "yes"]), ("train-00001-of-00002", None), ("test-0", None)):
        table = pyarrow.Table.from_pylist([P3 | {"answer_choices": choices, "inputs": [1, 2]}] * 3)
        parquet.write_table(table, tmp_path / NAME / f"{part}.parquet")

    examples = T0sf(tmp_path, 5).task(NAME).examples

    assert [example.id for example in examples] == ["1", "2", "3", "1-1", "1-2"]
    assert [bool(example.options) for example in examples] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"prompt": "q", "completion": "<|endoftext|>"}, "no output"),
        ({"prompt": "q"}, "no text 'completion'"),
        ({"prompt": 3, "completion": "a"}, "no text 'prompt'"),
        ({"question": "q"}, "neither prompt and completion nor"),
        (P3 | {"answer_choices": "yes"}, "answer_choices is no list"),
    ],
)
def test_a_bad_record_is_named_or_left_out_and_counted(tmp_path: Path, record: dict[str, Any], why: str) -> None:
    (tmp_path / f"{NAME}.jsonl").write_bytes(lines([P3, record, P3]))
    skips = Skips(allowed=True)

    assert [example.id for example in T0sf(tmp_path, 10, skips).task(NAME).examples] == ["1", "3"]
    assert skips.total == 1
    with pytest.raises(DataError, match=rf"{NAME}\.jsonl:2: .*{why}"):
        T0sf(tmp_path, 10).task(NAME)


def test_what_is_not_in_the_catalogue_is_no_task(tmp_path: Path) -> None:
    for name in (NAME, "ag_news_classify", "notes"):
        (tmp_path / f"{name}.jsonl").write_bytes(lines([P3]))
    t0sf = T0sf(tmp_path, 10)

    assert t0sf.groups == {"t0sf": [NAME]}
    assert len(t0sf.missing) == COUNTS["t0sf"] - 1
    assert "bigscience/P3" in t0sf.missing["sciq_Multiple_Choice"]
    with pytest.raises(DataError, match="no task 'ag_news_classify' in t0sf"):
        t0sf.task("ag_news_classify")
    with pytest.raises(DataError, match=r"no task '\.\./sciq"):
        t0sf.task(f"../{NAME}")


def test_a_changed_part_changes_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "train-0.jsonl").write_bytes(lines([P3]))
    before = T0sf(tmp_path, 10).fingerprint(NAME)
    (tmp_path / NAME / "train-1.jsonl").write_bytes(lines([P3]))

    assert T0sf(tmp_path, 10).fingerprint(NAME) != before


@pytest.mark.data
def test_the_real_templates_are_read_without_a_bad_line(shared_data: Path) -> None:
    t0sf = T0sf(shared_data / "t0", 10**6)
    tasks = [t0sf.task(name) for name in t0sf.groups["t0sf"]]

    assert (len(tasks), len(t0sf.missing)) == (148, 45)
    assert sum(len(task.examples) for task in tasks) == 11_929
    assert not any("<|endoftext|>" in example.target for task in tasks for example in task.examples)
    assert len({t0sf.fingerprint(task.name) for task in tasks}) == 148
