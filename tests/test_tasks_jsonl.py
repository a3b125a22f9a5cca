"""Tasks of one's own: the documented format works as documented, and nothing misspelt is passed over."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from told import Command

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError, DataError
from flanscale.identity import resolve
from flanscale.tasks.jsonl import FACTS, KEYS, STYLES, Jsonl
from flanscale.tasks.task import Skips

DOCUMENT = Path(__file__).parents[1] / "docs" / "own_tasks.md"
GOOD = {"input": "q", "output": "a"}


def folder_with(tmp_path: Path, *records: Any, name: str = "mine.jsonl") -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_document_s_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_tasks").mkdir()
    files = re.findall(r"`(my_tasks/[\w.]+)`[^`]*?:\n\n```(?:json|text)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in files] == [
        f"my_tasks/{f}" for f in ("capitals.jsonl", "change.jsonl", "rivers.jsonl")
    ] + ["my_tasks/held_out.txt"]
    for name, content in files:
        Path(name).write_text(content, encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    exec(compile(code, str(DOCUMENT), "exec"), {})

    (message,) = re.findall(r"```text\n(my_tasks/.*?)\n```", text)
    broken = Path("my_tasks/capitals.jsonl").read_text(encoding="utf-8").replace("output", "ouput", 1)
    Path("my_tasks/capitals.jsonl").write_text(broken, encoding="utf-8")
    with pytest.raises(DataError) as error:
        Jsonl(Path("my_tasks"), 10).task("capitals")
    assert str(error.value) == message


def test_the_document_names_every_key_and_style() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == {*FACTS, *KEYS}
    assert all(f"`{style}`" in text for style in STYLES)


def test_a_task_without_header_has_the_documented_facts(tmp_path: Path) -> None:
    jsonl = Jsonl(folder_with(tmp_path, GOOD, "", GOOD), 10)
    task = jsonl.task("mine")

    assert (task.instruction, task.style, task.category, task.licence) == ("", "instruction", "unknown", "unknown")
    assert [example.id for example in task.examples] == ["1", "3"]
    assert jsonl.category("mine") == "unknown"


def test_a_header_is_read_without_the_examples(tmp_path: Path) -> None:
    jsonl = Jsonl(folder_with(tmp_path, {"category": "Maths", "style": "question"}, "broken"), 10)

    assert jsonl.category("mine") == "Maths"
    with pytest.raises(DataError, match=r"mine\.jsonl:2: not JSON"):
        jsonl.task("mine")


def test_a_packed_file_and_empty_optional_keys_are_fine(tmp_path: Path) -> None:
    record = GOOD | {"id": None, "rationale": None, "options": None}
    (tmp_path / "mine.jsonl.gz").write_bytes(gzip.compress(json.dumps(record).encode()))

    (example,) = Jsonl(tmp_path, 10).task("mine").examples

    assert (example.id, example.rationale, example.options) == ("1", None, ())


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"input": "q", "ouput": "a"}, "unknown key 'ouput'; did you mean output"),
        ({"inputs": "q", "targets": "a"}, "unknown key 'inputs'; did you mean input?"),
        (GOOD | {"zzz": 1}, "unknown key 'zzz'; known are input, output"),
        ({"output": "a"}, "no input"),
        ({"input": "q"}, "no output"),
        (GOOD | {"output": []}, "no output"),
        (GOOD | {"output": ["a", ""]}, "no output"),
        (GOOD | {"output": 4}, "output is a number, expected a text or a list of texts"),
        (GOOD | {"output": ["a", 4]}, "output is or holds a number"),
        (GOOD | {"input": ["q"]}, "input is or holds a list"),
        (GOOD | {"rationale": " "}, "empty rationale"),
        (GOOD | {"options": "a"}, "options is a text, expected a list of texts"),
        (GOOD | {"options": ["b", "c"]}, "output is not among the options"),
        (GOOD | {"id": 1.5}, "id is a number, expected a text or a whole number"),
        (GOOD | {"id": "1"}, "its id names an earlier example"),
        (GOOD | {"input": "x" * 1_000_001}, "more than 1,000,000 characters"),
        ("[]", "a JSON list, expected an object"),
        ('{"input": "q", "output": "\\ud800"}', "half of a surrogate pair"),
    ],
)
def test_a_bad_line_is_named_or_left_out_and_counted(tmp_path: Path, record: Any, why: str) -> None:
    folder, skips = folder_with(tmp_path, GOOD, record, GOOD), Skips(allowed=True)

    assert [example.id for example in Jsonl(folder, 10, skips).task("mine").examples] == ["1", "3"]
    assert skips.total == 1
    with pytest.raises(DataError) as error:
        Jsonl(folder, 10).task("mine")
    assert f"mine.jsonl:2: {why}" in str(error.value).replace("field of ", "")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"instruction": "x", "categroy": "y"}, "unknown key 'categroy' in the header; did you mean category?"),
        ({"instuction": "x"}, "unknown key 'instuction'; did you mean instruction"),
        ({"instruction": ["x"]}, "header: instruction is a list, expected a text"),
        ({"style": "poem"}, "style 'poem', expected one of instruction, question"),
    ],
)
def test_a_bad_header_stops(tmp_path: Path, header: Any, why: str) -> None:
    with pytest.raises(DataError) as error:
        Jsonl(folder_with(tmp_path, header, GOOD), 10).task("mine")
    assert f"mine.jsonl:1: {why}" in str(error.value)


def test_folders_and_files_without_anything_are_one_line_of_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl=.*no \*\.jsonl or \*\.jsonl\.gz file there"):
        _ = Jsonl(tmp_path, 10).groups
    with pytest.raises(DataError, match=r"data\.jsonl=.*no such folder"):
        _ = Jsonl(tmp_path / "x", 10).groups
    with pytest.raises(DataError, match=r"mine\.jsonl: no examples"):
        Jsonl(folder_with(tmp_path), 10).task("mine")
    with pytest.raises(DataError, match=r"mine\.jsonl: no examples"):
        Jsonl(folder_with(tmp_path, {"instruction": "x"}), 10).task("mine")


def test_names_are_safe_and_unambiguous(tmp_path: Path) -> None:
    jsonl = Jsonl(folder_with(tmp_path, GOOD), 10)
    for name in ("../mine", "mine.jsonl", "/etc/passwd"):
        with pytest.raises(DataError, match=f"no task {name!r} in data.jsonl"):
            jsonl.task(name)
    with pytest.raises(DataError, match="did you mean mine"):
        jsonl.task("minne")
    folder_with(tmp_path, GOOD, name="mine.jsonl.gz")
    with pytest.raises(DataError, match=r"task mine is also in mine\.jsonl"):
        _ = Jsonl(tmp_path, 10).files
    (tmp_path / "mine.jsonl.gz").rename(tmp_path / "my task.jsonl")
    with pytest.raises(DataError, match="rename it my_task"):
        _ = Jsonl(tmp_path, 10).files


def test_held_out_tasks_are_never_in_a_group(tmp_path: Path) -> None:
    for name in "abc":
        folder_with(tmp_path, GOOD, name=f"{name}.jsonl")
    (tmp_path / "held_out.txt").write_text("# mine\n\nb  # the hard one\n")

    assert Jsonl(tmp_path, 10).groups == {"jsonl": ["a", "c"]}
    assert Jsonl(tmp_path, 10).held_out == ["b"]
    (tmp_path / "held_out.txt").write_text("a\nbb\n")
    with pytest.raises(DataError, match=r"held_out\.txt:2: no task 'bb' here"):
        _ = Jsonl(tmp_path, 10).groups


def test_split_lists_order_the_tasks_and_name_the_missing(tmp_path: Path) -> None:
    for name in ("apples", "berries", "cherries", "dates"):
        folder_with(tmp_path, GOOD, name=f"{name}.jsonl")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train_tasks.txt").write_text("cherries\napplse\napples\ncherries\n")
    (tmp_path / "splits" / "test_tasks.txt").write_text("dates\n")
    jsonl = Jsonl(tmp_path, 10)

    assert jsonl.groups == {"jsonl": ["cherries", "apples"]}
    assert jsonl.held_out == ["dates"]
    assert list(jsonl.missing) == ["applse"]
    assert "train_tasks.txt:2" in jsonl.missing["applse"]
    assert "did you mean apples" in jsonl.missing["applse"]
    (tmp_path / "splits" / "test_tasks.txt").write_text("apples\n")
    with pytest.raises(DataError, match="apples is held out as well"):
        _ = Jsonl(tmp_path, 10).groups
    (tmp_path / "held_out.txt").write_text("dates\n")
    with pytest.raises(DataError, match=r"held_out\.txt: .*test_tasks\.txt names held-out tasks too"):
        _ = Jsonl(tmp_path, 10).held_out


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    before = Jsonl(folder_with(tmp_path, GOOD), 10).fingerprint("mine")

    assert Jsonl(folder_with(tmp_path, GOOD), 20).fingerprint("mine") == before
    assert Jsonl(folder_with(tmp_path, GOOD, GOOD), 10).fingerprint("mine") != before


def test_check_lists_what_is_wrong_with_every_file_and_a_plan_names_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flanscale: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    folder_with(tmp_path / "mine", {"instruction": "Say it."}, {**GOOD, "x": 1}, GOOD, {**GOOD, "x": 2}, name="a.jsonl")
    folder_with(tmp_path / "mine", {"input": "q", "output": 3}, name="b.jsonl")
    folder_with(tmp_path / "mine", GOOD, {"input": "q", "output": "a", "rationale": ""}, name="held.jsonl")
    (tmp_path / "mine" / "held_out.txt").write_text("held\n")
    told = flanscale("tasks", "check", "collection=jsonl", "data.jsonl=mine")
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == ["mine/a.jsonl:2", "mine/b.jsonl:1", "mine/held.jsonl:2"]
    assert lines[0].endswith("(2 such)")
    assert lines[-1] == "3 tasks of jsonl, 3 faults"

    config = ["collection=jsonl", "data.jsonl=mine", "tokenizer=bytes", "evaluation.asks=[held_out/direct]"]
    cell = Composer().compose([*config, "mixture.count=2"])
    with pytest.raises(ConfigError, match=r"a\.jsonl:2: unknown key 'x'.*\(and 2 more: flanscale tasks check lists"):
        resolve(cell)
    resolve(Composer().compose([*config, "mixture.count=2", "mixture.skip_bad=true", "mixture.allow_missing=true"]))

    for name, content in (("a", [GOOD]), ("b", [GOOD]), ("held", [GOOD])):
        folder_with(tmp_path / "mine", *content, name=f"{name}.jsonl")
    told = flanscale("tasks", "check", "collection=jsonl", "data.jsonl=mine")
    assert (told.returncode, told.stdout) == (0, "3 tasks of jsonl, 0 faults\n")
