"""Strangers' files: every oddity is an error that names file and line, or is left out and counted."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest

from flanscale.errors import DataError
from flanscale.tasks import reading
from flanscale.tasks.reading import (
    MAX_FIELD_CHARS,
    BadRecord,
    byte_lines,
    content_fingerprint,
    existing_folder,
    gather,
    json_document,
    json_lines,
    safe_name,
    sound,
    text_lines,
)
from flanscale.tasks.tables import csv_rows, parquet_rows
from flanscale.tasks.task import Example, Skips


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_lines_end_at_the_line_feed_only(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "a\u2028b\x0bc\x85d\rå\r\nlast".encode())

    assert list(text_lines(path, Skips())) == [(1, "a\u2028b\x0bc\x85d\rå"), (2, "last")]


def test_gzip_is_told_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    packed = write(tmp_path / "a.jsonl", gzip.compress(b"one\ntwo\n"))
    unpacked = write(tmp_path / "b.jsonl.gz", b"one\ntwo\n")

    assert list(text_lines(packed, Skips())) == list(text_lines(unpacked, Skips())) == [(1, "one"), (2, "two")]


def test_a_byte_order_mark_is_dropped_once(tmp_path: Path) -> None:
    path = write(tmp_path / "x", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")

    assert list(text_lines(path, Skips())) == [(1, "one"), (2, "\ufefftwo")]


def test_a_truncated_gzip_gives_its_whole_lines_and_then_a_bad_record(tmp_path: Path) -> None:
    lines = [f"{i * 7919 % 10007} {'x' * (i % 50)}\n" for i in range(20_000)]
    whole = gzip.compress("".join(lines).encode())
    path = write(tmp_path / "x.gz", whole[: len(whole) // 2])
    skips = Skips(allowed=True)

    read = [text + "\n" for _, text in text_lines(path, skips)]

    assert len(read) > 5_000
    assert read == lines[: len(read)]
    assert skips.total == 1
    with pytest.raises(DataError, match=rf"x\.gz:{len(read) + 1}: damaged gzip"):
        list(text_lines(path, Skips()))


@pytest.mark.parametrize("damage", ["header", "body"])
def test_a_gzip_with_a_flipped_byte_is_a_bad_record(tmp_path: Path, damage: str) -> None:
    data = bytearray(gzip.compress(b"some text that repeats itself\n" * 1000))
    data[2 if damage == "header" else len(data) // 2] ^= 0xFF
    path = write(tmp_path / "x.gz", bytes(data))

    with pytest.raises(DataError, match=r"x\.gz:\d+: damaged gzip"):
        list(text_lines(path, Skips()))


def test_a_line_that_is_no_utf_8_is_bad_and_the_others_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x", b"good\nbad \xe9\ngood\n")
    skips = Skips(allowed=True)

    assert [number for number, _ in text_lines(path, skips)] == [1, 3]
    assert skips.counts == {"not UTF-8 (byte 0xe9)": 1}
    with pytest.raises(DataError, match="x:2: not UTF-8"):
        list(text_lines(path, Skips()))


def test_a_line_too_long_for_memory_is_bad_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 8)
    path = write(tmp_path / "x", b"1234567\n" + b"y" * 50 + b"\nnext\n")
    skips = Skips(allowed=True)

    assert list(byte_lines(path, skips)) == [(1, 0, b"1234567\n"), (3, 59, b"next\n")]
    assert skips.total == 1


def test_an_absent_file_is_one_line_of_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: No such file"):
        list(text_lines(tmp_path / "nowhere", Skips()))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "a JSON list, expected an object"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_what_is_no_json_object_is_bad(tmp_path: Path, line: bytes, why: str) -> None:
    path = write(tmp_path / "x", b'{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
    skips = Skips(allowed=True)

    assert list(json_lines(path, skips)) == [(1, {"a": 1}), (4, {"a": 2})]
    with pytest.raises(DataError, match=f"x:3: {why}"):
        list(json_lines(path, Skips()))


def test_a_broken_document_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x:2: not JSON"):
        json_document(write(tmp_path / "x", b'{"a": 1,\n nonsense}'))
    with pytest.raises(DataError, match="x:2: not UTF-8"):
        json_document(write(tmp_path / "x", b'{"a":\n "\xff"}'))
    with pytest.raises(DataError, match="x: not readable as JSON"):
        json_document(write(tmp_path / "x", gzip.compress(b"[1, 2, 3]" * 1000)[:-20]))


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (Example("1", " \n", ("a",)), "no input"),
        (Example("1", "q", ()), "no output"),
        (Example("1", "q", ("a", " ")), "no output"),
        (Example("1", "x" * (MAX_FIELD_CHARS + 1), ("a",)), "more than 1,000,000 characters"),
        (Example("1", "q", ("a",), "x" * (MAX_FIELD_CHARS + 1)), "more than 1,000,000 characters"),
        (Example("1", "q", ("a",), options=("a", json.loads(r'"\ud800"'))), "surrogate"),
    ],
)
def test_an_example_that_cannot_be_learned_from_is_told(example: Example, why: str) -> None:
    with pytest.raises(BadRecord, match=why):
        sound(example)


def test_a_field_of_a_million_characters_is_still_sound() -> None:
    assert sound(Example("1", "x" * MAX_FIELD_CHARS, ("a",)))


def test_gathering_stops_at_the_limit_and_refuses_nothing_at_all(tmp_path: Path) -> None:
    def parse(line: int, text: str) -> Example:
        return Example(str(line), text, (text,))

    records = enumerate("abc", start=1)
    assert [example.id for example in gather(tmp_path, records, parse, 2, Skips())] == ["1", "2"]
    assert next(records) == (3, "c")
    with pytest.raises(DataError, match="no examples"):
        gather(tmp_path, [(1, " ")], parse, 2, Skips(allowed=True))


def test_what_was_left_out_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    skips = Skips(allowed=True)
    skips.log_to(logging.getLogger("x"))
    assert not caplog.records
    for line in (3, 5):
        skips.bad(Path("f"), line, "no output")
    skips.bad(Path("g"), None, "no file")
    skips.log_to(logging.getLogger("x"))

    assert [record.getMessage() for record in caplog.records] == [
        "left out 3 bad records: 2 × no output (first f:3); 1 × no file (first g)"
    ]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", ".", "a/b", ".hidden", "x\0y", "glue/cola:2.0.0", "", "é" * 300]
)
def test_a_safe_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / safe_name(name)

    assert path.resolve().parent == tmp_path.resolve()
    assert not path.name.startswith(".")
    assert len(path.name) <= 200


def test_a_fingerprint_follows_content_and_form_not_name_or_time(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a", b"text"), write(tmp_path / "b", b"text")

    assert content_fingerprint([one]) == content_fingerprint([two])
    assert len(content_fingerprint([one])) == 16
    assert content_fingerprint([one]) != content_fingerprint([one], "other form")
    assert content_fingerprint([one]) != content_fingerprint([one, two])
    write(two, b"texts")
    assert content_fingerprint([one]) != content_fingerprint([two])


def test_a_folder_that_is_none_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.cot=.*no such folder"):
        existing_folder(tmp_path / "x", "cot")
    with pytest.raises(DataError, match=r"data\.cot=.*a file"):
        existing_folder(write(tmp_path / "x", b""), "cot")


def test_csv_rows_are_named_by_the_line_they_begin_at(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", b'a,b\n1,"two\nlines"\n3\n4,5\n')
    skips = Skips(allowed=True)

    assert list(csv_rows(path, ("a", "b"), skips)) == [(2, {"a": "1", "b": "two\nlines"}), (5, {"a": "4", "b": "5"})]
    with pytest.raises(DataError, match=r"x\.csv:4: 1 columns, expected 2"):
        list(csv_rows(path, ("a",), Skips()))
    with pytest.raises(DataError, match=r"x\.csv:1: no column c; the header is a, b"):
        list(csv_rows(path, ("a", "c"), Skips()))


def test_a_csv_field_beyond_the_reader_s_limit_is_bad(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", b"a,b\n1," + b"y" * 200_000 + b"\n4,5\n")
    skips = Skips(allowed=True)

    assert (3, {"a": "4", "b": "5"}) in list(csv_rows(path, ("a",), skips))
    assert skips.total == 1


def test_parquet_gives_the_columns_asked_for_and_names_bad_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = pyarrow.array([b"one", b"\xff", b"three"]).cast(pyarrow.string(), safe=False)
    parquet.write_table(pyarrow.table({"text": texts, "other": [1, 2, 3]}), tmp_path / "x.parquet")
    skips = Skips(allowed=True)

    rows = list(parquet_rows(tmp_path / "x.parquet", ("text", "absent"), skips))

    assert rows == [("row 1", {"text": "one"}), ("row 3", {"text": "three"})]
    assert skips.first == {"not UTF-8": f"{tmp_path / 'x.parquet'}:row 2"}
    with pytest.raises(DataError, match="not readable as Parquet"):
        list(parquet_rows(write(tmp_path / "y.parquet", b"PAR1 nonsense"), ("text",), Skips()))


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)

    with pytest.raises(DataError, match=r"pip install 'flanscale\[parquet\]'"):
        list(parquet_rows(tmp_path / "x.parquet", ("text",), Skips()))
