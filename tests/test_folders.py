"""What operating systems and editors leave in a folder of data is no data, whatever reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest
from niv2_folder import niv2_folder, niv2_record

from flanscale.errors import DataError
from flanscale.folders import entries, files_below, is_left_over
from flanscale.tasks.benchmark_texts import load_benchmarks
from flanscale.tasks.catalog import catalogued
from flanscale.tasks.jsonl import Jsonl
from flanscale.tasks.niv2 import Niv2
from flanscale.tasks.rendered_index import index_rows
from flanscale.tasks.t0sf import T0sf
from flanscale.tasks.task import Skips
from flanscale.tasks.text import Text
from flanscale.weights.fingerprint import fingerprint

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02"


@pytest.mark.parametrize(
    "name",
    [
        *("._x.jsonl", ".DS_Store", "Thumbs.db", "thumbs.db", "Desktop.ini", "x.jsonl~", ".#x", "x.json.bak", "x.orig"),
        *("__MACOSX/x.jsonl", ".git/x.jsonl", "a/._b/x.jsonl"),
    ],
)
def test_it_is_known_by_its_name_or_its_folder(name: str) -> None:
    assert is_left_over(PurePath(name))


@pytest.mark.parametrize("name", ["x.jsonl", "a/x.jsonl.gz", "a.b/x_._y.txt", "#1.txt", "x~y.json", "bak"])
def test_other_names_are_data(name: str) -> None:
    assert not is_left_over(PurePath(name))


def test_the_folder_itself_may_be_hidden(tmp_path: Path) -> None:
    folder = tmp_path / ".cache"
    folder.mkdir()
    (folder / "x.txt").touch()
    assert entries(folder) == [folder / "x.txt"]


# --- files in and below a folder -------------------------------------------------------------------------------------


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_below_are_found_through_links_and_each_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    own, linked = touch(folder / "b" / "own.jsonl"), touch(elsewhere / "linked.jsonl")
    touch(folder / "notes.md")
    (folder / "a").symlink_to(elsewhere)
    (folder / "c.jsonl").symlink_to(linked)
    (folder / "b" / "round").symlink_to(folder)
    assert files_below(folder, (".jsonl",)) == [folder / "a" / "linked.jsonl", own]


def test_two_snapshots_of_the_hub_s_cache_share_their_files(tmp_path: Path) -> None:
    blob = touch(tmp_path / "blobs" / "0123")
    for snapshot in ("aaa", "bbb"):
        (tmp_path / "snapshots" / snapshot).mkdir(parents=True)
        (tmp_path / "snapshots" / snapshot / "x.parquet").symlink_to(blob)
    assert files_below(tmp_path, (".parquet",)) == [tmp_path / "snapshots" / "aaa" / "x.parquet"]


@pytest.mark.parametrize(
    "name",
    [
        *("x.jsonl.partial", "a/x.jsonl.part", "x.jsonl.crdownload", "x.jsonl.aria2", "blobs/0123.incomplete"),
        ".cache/huggingface/download/a/Qx_1=.0123.4567.incomplete",
    ],
)
def test_a_download_that_goes_on_is_no_folder_of_data_yet(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "whole.jsonl")
    path = touch(tmp_path / name)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: a download that is not finished"):
        files_below(tmp_path, (".jsonl",))


@pytest.mark.parametrize("name", ["x.md.part", "x.part", ".x.jsonl.partial", "x.jsonl.lock", ".git/x.incomplete"])
def test_other_beginnings_are_nobody_s_business(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name)
    assert files_below(tmp_path, (".jsonl",)) == []


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").symlink_to("gone")
    (tmp_path / "x.md").symlink_to("gone")
    with pytest.raises(DataError, match=r"x\.jsonl: a link to gone, which is not there"):
        files_below(tmp_path, (".jsonl",))


# --- every reader ----------------------------------------------------------------------------------------------------


def jsonl(folder: Path) -> Callable[[], object]:
    (folder / "capitals.jsonl").write_text('{"input": "Norway", "output": "Oslo"}\n')
    return lambda: (Jsonl(folder, 9).groups, Jsonl(folder, 9).fingerprint("capitals"))


def niv2(folder: Path) -> Callable[[], object]:
    niv2_folder(folder, {"task1_x": niv2_record()}, train=["task1_x"])
    (folder / "splits" / "._default").mkdir()
    return lambda: (Niv2(folder, "default", 9).files, Niv2(folder, "default", 9).fingerprint("task1_x"))


def t0sf(folder: Path) -> Callable[[], object]:
    name = next(iter(catalogued("t0sf")))
    (folder / name).mkdir()
    row = {"inputs_pretokenized": "a", "targets_pretokenized": "b"}
    (folder / name / "train.jsonl").write_text(json.dumps(row) + "\n")
    return lambda: (T0sf(folder, 9).files, T0sf(folder, 9).task(name).examples)


def text(folder: Path) -> Callable[[], object]:
    (folder / "a.txt").write_text("a text\n")
    return lambda: (Text(folder, 9).files, Text(folder, 9).fingerprint("text"))


def rendered(folder: Path) -> Callable[[], object]:
    row = {
        "inputs": "a",
        "targets": "b",
        "task_source": "P3",
        "task_name": "sciq_Direct_Question",
        "template_type": "zs_opt",
    }
    (folder / "p3.jsonl").write_text(json.dumps(row) + "\n")
    cache = folder.parent / "cache"
    return lambda: index_rows(folder, 9, Skips(), cache).files


def benchmarks(folder: Path) -> Callable[[], object]:
    (folder / "mgsm").mkdir()
    (folder / "mgsm" / "mgsm_en.tsv").write_text("How many geese are there?\t9\n")
    (folder / "own.txt").write_text("a question of our own\n")
    return lambda: load_benchmarks(folder)


def weights(folder: Path) -> Callable[[], object]:
    (folder / "model.safetensors").write_bytes(b"numbers")
    return lambda: fingerprint(folder)


@pytest.mark.parametrize("reader", [jsonl, niv2, t0sf, text, rendered, benchmarks, weights])
def test_every_reader_passes_it_over(tmp_path: Path, reader: Callable[[Path], Callable[[], object]]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    read = reader(folder)
    before = read()
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        (path.with_name(f"._{path.name}")).write_bytes(APPLE_DOUBLE)
        (path.with_name(f"{path.name}~")).write_text("older")
    for inside in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        (inside / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
        (inside / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    assert read() == before
