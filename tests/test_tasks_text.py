"""Plain text: folders of `.txt` and `.jsonl` files become tasks, and no character of them is lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanscale.errors import DataError
from flanscale.schema import CollectionConfig, DataConfig
from flanscale.tasks.registry import open_collection
from flanscale.tasks.task import Skips
from flanscale.tasks.templates import evaluation_form, load_wordings, render
from flanscale.tasks.text import PIECE_CHARS, Text, pieces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text("One text\nof two lines.\n")
    (tmp_path / "a.jsonl").write_text('{"text": "First.", "url": "x"}\n\n{"text": "Second\\nline."}\n')
    (tmp_path / "deep" / "c.txt.gz").write_bytes(gzip.compress("Packed – text.".encode()))
    (tmp_path / "notes.md").write_text("not read")
    return tmp_path


def test_all_files_under_a_folder_are_one_task(folder: Path) -> None:
    text = Text(folder, 100)
    assert text.groups == {"text": ["text"]}
    assert text.held_out == []
    task = text.task("text")
    shown = [example.input for example in task.examples]
    assert shown == ["First.", "Second\nline.", "One text\nof two lines.\n", "Packed – text.\n"]
    assert [example.id for example in task.examples] == ["a.jsonl:1:0", "a.jsonl:3:0", "b.txt:1:0", "deep/c.txt.gz:1:0"]


def test_or_each_file_is_one(folder: Path) -> None:
    text = Text(folder, 100, task_per_file=True)
    assert text.groups == {"text": ["a", "b", "deep_c"]}
    assert [example.input for example in text.task("deep_c").examples] == ["Packed – text.\n"]
    with pytest.raises(DataError, match=r"no task 'deep_d' in data\.text=.*deep_c"):
        text.task("deep_d")


def test_a_text_is_shown_as_it_stands_and_answers_nothing(folder: Path) -> None:
    collection = open_collection(CollectionConfig(name="text"), DataConfig(text=str(folder)))
    task = collection.task("text")
    prompt = render(task, 1, evaluation_form(False, 2), 7, load_wordings("own", None))
    assert (prompt.input, prompt.target) == ("Second\nline.", "")


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 20))
def test_pieces_add_up_to_the_text_and_are_no_longer_than_allowed(text: str, most: int) -> None:
    found = list(pieces(iter(text.splitlines(keepends=True)), most))
    assert all(0 < len(piece) <= most for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_long_texts_are_cut_at_line_ends_or_spaces(tmp_path: Path) -> None:
    lines = [f"Line {i} " + "word " * (i % 50) + "end.\n" for i in range(3000)]
    (tmp_path / "long.txt").write_text("".join(lines))
    (tmp_path / "one_line.txt").write_text("word " * 10_000)
    shown = [example.input for example in Text(tmp_path, 1000).task("text").examples]
    assert "".join(shown) == "".join(lines) + "word " * 10_000 + "\n"
    assert all(
        piece.endswith(("\n", " ")) and PIECE_CHARS // 2 < len(piece) <= PIECE_CHARS for piece in shown[:-1][:20]
    )


def test_a_long_line_without_spaces_is_cut_anywhere(tmp_path: Path) -> None:
    (tmp_path / "dense.txt").write_text("x" * 8_000_000)
    assert sum(len(example.input) for example in Text(tmp_path, 10_000).task("text").examples) == 8_000_001


def test_no_more_examples_than_asked_for_are_read(folder: Path) -> None:
    assert len(Text(folder, 2).task("text").examples) == 2


def test_fingerprints_follow_content(folder: Path) -> None:
    before = Text(folder, 100).fingerprint("text")
    assert Text(folder, 5).fingerprint("text") == before
    (folder / "b.txt").write_text("Another text.")
    assert Text(folder, 100).fingerprint("text") != before


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"body": "no text"}', "no text 'text'"),
        ('{"text": 7}', "no text 'text'"),
        ("not json", "not JSON"),
        ('{"text": "half \\ud800 pair"}', "half of a surrogate pair"),
    ],
)
def test_bad_records_are_named_or_counted(tmp_path: Path, line: str, why: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": "Good."}) + "\n" + line + "\n")
    with pytest.raises(DataError, match=rf"bad\.jsonl:2: {why}"):
        Text(tmp_path, 100).task("text")
    skips = Skips(allowed=True)
    assert [example.input for example in Text(tmp_path, 100, skips=skips).task("text").examples] == ["Good."]
    assert skips.total == 1


def test_folders_without_text_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.text=.*: no file there that ends in \.txt, \.jsonl"):
        Text(tmp_path, 100).groups  # noqa: B018
    with pytest.raises(DataError, match=r"^data\.text=.*nowhere: no such folder"):
        Text(tmp_path / "nowhere", 100).groups  # noqa: B018
    (tmp_path / "blank.txt").write_text(" \n\n")
    with pytest.raises(DataError, match=r"blank\.txt: no text"):
        Text(tmp_path, 100).task("text")


@pytest.mark.data
def test_real_texts_are_read_whole(shared_data: Path, tmp_path: Path) -> None:
    text = (shared_data / "cot" / "gsm8k_train.tsv").read_text()
    (tmp_path / "gsm8k.txt").write_text(text)
    shown = [example.input for example in Text(tmp_path, 10**9).task("text").examples]
    assert "".join(shown) == text + "\n" * (not text.endswith("\n"))
