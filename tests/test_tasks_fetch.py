"""Fetching: whatever breaks, nothing half-made gets a name, nothing is lost, and all is recorded."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from niv2_folder import niv2_record
from test_run import execute, make_cell
from test_tasks_templates import FLAN_PYTHON
from test_weights_pickled import torch_file
from tiny_data import tiny_data
from typer.testing import CliRunner

from flanscale.cli import fetch as cli_fetch
from flanscale.cli.main import app
from flanscale.errors import DataError, WeightsError
from flanscale.run_directory import read_rows
from flanscale.schema import DataConfig
from flanscale.tasks import download as downloading
from flanscale.tasks import fetch as fetching
from flanscale.tasks.catalog import catalogued
from flanscale.tasks.download import NotThere, download
from flanscale.tasks.fetch import Fetched, check_space, check_terms, fetch, find_sources, plan
from flanscale.tasks.muffin import Muffin
from flanscale.tasks.muffin_table import HUB_FORMS
from flanscale.tasks.registry import data_folder
from flanscale.tasks.sources import FLAN, WEIGHTS, Archive, File, Hub, Source, read_sources, to_fetch, weights_source
from flanscale.tasks.unpack import stays_inside, unpack
from flanscale.weights.hf import HuggingFaceFolder
from flanscale.weights.opening import open_source

CONTENT = bytes(range(256)) * 2_000  # 512,000 bytes


@dataclass
class Site:
    """A web server of one's own that can be told to misbehave."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    drops: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off."""
    refusals: list[int] = field(default_factory=list)
    """Status codes of the next answers; 0 where it is a good one."""
    retry_after: str | None = None
    chunked: bool = False
    links: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    sizes: bool = False
    """Whether it answers a question for a file's size."""
    holds: dict[str, int] = field(default_factory=dict)
    """Path → bytes after which its first answer waits for `go_on`."""
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    known = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            known.asked.append((self.path, wanted))
            known.logins.extend(self.headers.get_all("Authorization", []))
            if known.refusals and (code := known.refusals.pop(0)):
                self.refuse(code)
            elif self.path not in known.files:
                self.send_error(404)
            else:
                self.answer(known.files[self.path], wanted)
            self.close_connection = True

        def do_HEAD(self) -> None:
            found = known.files.get(self.path) if known.sizes else None
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.close_connection = True

        def end_headers(self) -> None:
            self.send_header("Connection", "close")
            super().end_headers()

        def refuse(self, code: int) -> None:
            self.send_response(code)
            if known.retry_after is not None:
                self.send_header("Retry-After", known.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, content: bytes, wanted: str | None) -> None:
            start = int(wanted.split("=")[1].rstrip("-")) if wanted and known.ranges else 0
            if start >= len(content) > 0 and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if self.path in known.links:
                self.send_header("Link", known.links[self.path])
            body = content[start:]
            if known.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if held := known.holds.pop(self.path, 0):
                self.wfile.write(body[:held])
                known.go_on.wait(60)
                return
            self.wfile.write(body[: known.drops.pop(0)] if known.drops else body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    yield known
    known.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every pause, none of which is waited for."""
    known: list[float] = []
    monkeypatch.setattr("time.sleep", known.append)
    return known


def source(*parts: File | Archive | Hub, **changes: str) -> Source:
    return replace(Source("here", "A collection", "example.org/it", "CC0-1.0", "tiny", parts), **changes)


def fetch_quietly(known: Source, to: Path) -> Fetched:
    (done,) = fetch([plan(known, to)], watch=lambda name: lambda here, total: None, pause=0)
    return done


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "fetched.json").read_text())["files"]


def waited(for_what: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not for_what() and time.monotonic() < end:
        time.sleep(0.01)
    return for_what()


def left_overs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if "partial" in path.name or "unpacking" in path.name)


# --- one file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_arrives_whole_though_the_connection_drops(
    site: Site, tmp_path: Path, ranges: bool, chunked: bool
) -> None:
    site.files["/f"], site.drops, site.ranges, site.chunked = CONTENT, [200_000, 100_000], ranges, chunked
    got = download(f"{site.url}/f", tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert (got.sha256, got.size) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert len(site.asked) == 3
    if ranges and not chunked:
        assert [wanted for _, wanted in site.asked] == [None, "bytes=200000-", "bytes=300000-"]
    assert not left_overs(tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_progress_tells_the_bytes_that_are_here(site: Site, tmp_path: Path, ranges: bool) -> None:
    site.files["/f"], site.drops, site.ranges = CONTENT, [200_000], ranges
    told: list[tuple[int, int | None]] = []
    download(f"{site.url}/f", tmp_path / "f", progress=lambda *bytes_: told.append(bytes_), pause=0)
    assert {total for _, total in told} == {len(CONTENT)}
    again = [here for here, _ in told][[here for here, _ in told].index(200_000) + 1 :]
    assert again == sorted(again)
    assert (again[0], again[-1]) == (200_000 if ranges else 0, len(CONTENT))


def test_an_interrupted_run_is_gone_on_with_by_the_next(site: Site, tmp_path: Path) -> None:
    site.files["/f"], site.drops = CONTENT, [300_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"5 times; 300,000 bytes are kept, run the same command to go on"):
        download(f"{site.url}/f", tmp_path / "f", pause=0)
    assert not (tmp_path / "f").exists()
    site.asked.clear()
    download(f"{site.url}/f", tmp_path / "f", pause=0)
    assert site.asked == [("/f", "bytes=300000-")]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_partial_file_that_is_complete_already_is_only_renamed(site: Site, tmp_path: Path) -> None:
    site.files["/f"] = CONTENT
    (tmp_path / "f.partial").write_bytes(CONTENT)
    assert download(f"{site.url}/f", tmp_path / "f", pause=0).size == len(CONTENT)
    assert len(site.asked) == 1


def test_a_partial_file_longer_than_the_source_is_started_over(site: Site, tmp_path: Path) -> None:
    site.files["/f"] = CONTENT
    (tmp_path / "f.partial").write_bytes(CONTENT + b"more")
    download(f"{site.url}/f", tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_wrong_content_is_thrown_away_and_said(site: Site, tmp_path: Path) -> None:
    site.files["/f"] = CONTENT
    with pytest.raises(NotThere, match=r"content has sha256 [0-9a-f]{64}, expected 0{64}; thrown away"):
        download(f"{site.url}/f", tmp_path / "f", sha256="0" * 64, pause=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("code", "words"), [(404, "not there"), (403, "asks for a login"), (400, "answers 400")])
def test_a_refusal_is_one_line_and_not_tried_again(site: Site, tmp_path: Path, code: int, words: str) -> None:
    site.refusals = [code]
    with pytest.raises(NotThere, match=words) as told:
        download(f"{site.url}/f", tmp_path / "f", pause=0)
    assert "\n" not in str(told.value)
    assert len(site.asked) == 1


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.files["/f"], site.refusals = CONTENT, [503, 429]
    assert download(f"{site.url}/f", tmp_path / "f", pause=0).size == len(CONTENT)


@pytest.mark.parametrize(("asked", "pause"), [("7", 7), ("86400", 300), ("0", 1), ("Fri, 31 Dec 2038 23:59:59 GMT", 1)])
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(
    site: Site, tmp_path: Path, pauses: list[float], asked: str, pause: float
) -> None:
    site.files["/f"], site.refusals, site.retry_after = CONTENT, [429], asked
    download(f"{site.url}/f", tmp_path / "f")
    assert pauses == [pause]


def test_no_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/f: no connection \(.*\), 5 times$"):
        download("http://127.0.0.1:9/f", tmp_path / "f", pause=0)


def test_a_server_that_never_gets_further_is_given_up(site: Site, tmp_path: Path) -> None:
    site.files["/f"], site.ranges, site.drops = CONTENT, False, [200_000, 100_000] * 10
    with pytest.raises(DataError, match="5 times"):
        download(f"{site.url}/f", tmp_path / "f", pause=0)


def test_a_full_disk_is_one_line_and_keeps_what_came(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/f"] = CONTENT

    def full(here: int, total: int | None) -> None:
        if here > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloading, "CHUNK", 64 * 1024)
    with pytest.raises(DataError, match=r"f.partial: cannot write: No space left on device; free some space"):
        download(f"{site.url}/f", tmp_path / "f", progress=full, pause=0)
    assert 0 < (tmp_path / "f.partial").stat().st_size < len(CONTENT)
    assert len(site.asked) == 1


def test_only_web_addresses_are_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an http"):
        download("file:///etc/hostname", tmp_path / "f", pause=0)


# --- archives ------------------------------------------------------------------------------------------------------


def git_archive(folder: Path, files: dict[str, str]) -> bytes:
    """What a code host gives for a commit: a gzipped tar with everything in one folder named after it."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    archive = subprocess.run([*git, "archive", "--prefix=repo-0123/", "HEAD"], check=True, stdout=subprocess.PIPE)
    return gzip.compress(archive.stdout)


def tar_of(*members: tuple[str, str | bytes]) -> bytes:
    """A gzipped tar; a member's text is what its link points to, its bytes are its content."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


NIV2_LIKE = {"tasks/task1.json": "{}", "splits/default/train_tasks.txt": "task1\n", "README.md": "read me"}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_repository_at_a_commit_is_unpacked_without_what_is_not_wanted(
    site: Site, tmp_path: Path, ranges: bool
) -> None:
    site.files["/tar.gz/0123"] = git_archive(tmp_path / "repository", NIV2_LIKE)
    site.drops, site.ranges = [100], ranges
    known = source(Archive(f"{site.url}/tar.gz/0123", ("tasks", "splits"), 10_000))
    done = fetch_quietly(known, tmp_path / "data")
    folder = tmp_path / "data" / "here"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "fetched.json",
        "splits/default/train_tasks.txt",
        "tasks/task1.json",
    ]
    assert done == Fetched(folder, 1, 0, ())
    assert record(folder)[".0123.tar.gz"]["files"] == 2
    asked = len(site.asked)
    assert fetch_quietly(known, tmp_path / "data") == Fetched(folder, 0, 1, ())
    assert len(site.asked) == asked


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("repo/tasks/good", b"y"), ("repo/tasks/../../../evil", b"x")], "leads out of the archive"),
        ([("repo/tasks/good", b"y"), ("/tasks/evil", b"x")], "leads out of the archive"),
        ([("repo/tasks/good", b"y"), ("repo/tasks/link", "/etc/passwd")], "is a link or a device"),
        ([("repo/tasks/good", b"y"), ("repo/tasks/big", b"x" * 5_000)], "unpacks to more than 4,000 bytes"),
        ([("repo/other/small", b"x")], "holds nothing under tasks"),
    ],
)
def test_a_hostile_or_wrong_archive_leaves_nothing_behind(
    tmp_path: Path, members: list[tuple[str, str | bytes]], words: str
) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_of(("repo/first", b"y"), *members))
    with pytest.raises(DataError, match=words):
        unpack(tmp_path / "a.tar.gz", tmp_path / "in" / "here", members=["tasks"], most_bytes=4_000)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar.gz"]


def test_a_name_that_a_stranger_gives_stays_inside_or_is_refused() -> None:
    assert all(stays_inside(name) for name in ("f", "a/b.tsv", "a/.hidden", "a/..b"))
    assert not any(stays_inside(name) for name in ("/f", "//f", "..", "a/../f", "a/../../f", "a\\..\\f", "a\0"))


@pytest.mark.parametrize("damage", [slice(0, -300), slice(0, 20), slice(5, None)])
def test_a_damaged_archive_is_one_line_and_fetched_again(site: Site, tmp_path: Path, damage: slice) -> None:
    whole = tar_of(*((f"repo/tasks/{i}", bytes(hashlib.sha256(bytes([i])).digest() * 50)) for i in range(20)))
    site.files["/tar.gz/1"] = whole[damage]
    known = source(Archive(f"{site.url}/tar.gz/1", ("tasks",), 10**6))
    done = fetch_quietly(known, tmp_path)
    assert (done.fetched, len(done.failed)) == (0, 1)
    assert "damaged archive" in done.failed[0]
    assert "\n" not in done.failed[0]
    assert not list((tmp_path / "here").iterdir())
    site.files["/tar.gz/1"] = whole
    assert fetch_quietly(known, tmp_path).fetched == 1


# --- the Hub -------------------------------------------------------------------------------------------------------

COMMIT = "c0ffee" + "0" * 34
BRANCH = "/api/datasets/some/set/revision/refs%2Fconvert%2Fparquet"


def hub_with(site: Site, files: dict[str, bytes], repository: str = "some/set") -> None:
    """The Hub's answers to: which commit is a branch, which files has it (two pages), and the files."""
    site.files[BRANCH.replace("some/set", repository)] = json.dumps({"id": "some/set", "sha": COMMIT}).encode()
    entries = [
        {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
        | {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
        for path, data in files.items()
    ]
    first = f"/api/datasets/{repository}/tree/{COMMIT}?recursive=true&expand=false"
    folder = {"type": "directory", "path": "a", "size": 0, "oid": "0" * 40}
    site.files[first] = json.dumps([folder, *entries[:1]]).encode()
    site.files["/page2"] = json.dumps(entries[1:]).encode()
    site.links[first] = f'<{site.url}/page2>; rel="next"'
    site.files |= {f"/datasets/{repository}/resolve/{COMMIT}/{path}": data for path, data in files.items()}


def model_with(site: Site, files: dict[str, bytes]) -> None:
    """The Hub's answers for the model of `t5_small`."""
    name = WEIGHTS["t5_small"]
    site.files[f"/api/models/{name}/revision/main"] = json.dumps({"id": name, "sha": COMMIT}).encode()
    entries = [
        {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
        | {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
        for path, data in files.items()
    ]
    site.files[f"/api/models/{name}/tree/{COMMIT}?recursive=true&expand=false"] = json.dumps(entries).encode()
    site.files |= {f"/{name}/resolve/{COMMIT}/{path}": data for path, data in files.items()}


def test_a_hub_branch_is_resolved_to_its_commit_and_only_the_wanted_files_come(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_with(site, {"a/train/0.parquet": b"one", "a/validation/0.parquet": b"no", "b/train/0.parquet": b"two"})
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    done = fetch_quietly(source(Hub("some/set", "refs/convert/parquet", ("a/train/", "b/train/"), "sf")), tmp_path)
    assert done.fetched == 2
    assert (tmp_path / "here/sf/a/train/0.parquet").read_bytes() == b"one"
    assert (tmp_path / "here/sf/b/train/0.parquet").read_bytes() == b"two"
    entry = record(tmp_path / "here")["sf/a/train/0.parquet"]
    assert entry["commit"] == COMMIT
    assert COMMIT in entry["url"]


def test_the_hubs_checksum_is_held_against_what_came(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_with(site, {"a/0": b"one", "a/1": b"two"})
    site.files[f"/datasets/some/set/resolve/{COMMIT}/a/1"] = b"tw0"
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    done = fetch_quietly(source(Hub("some/set", "refs/convert/parquet", ("a/",))), tmp_path)
    assert done.fetched == 1
    assert len(done.failed) == 1
    assert "expected" in done.failed[0]


def test_a_busy_hub_is_asked_again_and_told_no_token(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    hub_with(site, {"a/0": b"one", "a/1": b"two"})
    site.refusals, site.retry_after = [0, 0, 503, 429], "5"
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch_quietly(source(Hub("some/set", "refs/convert/parquet", ("a/",))), tmp_path).fetched == 2
    assert [path for path, _ in site.asked].count("/page2") == 3
    assert len(pauses) == 2
    assert min(pauses) >= 5
    assert not site.logins


@pytest.mark.parametrize(
    ("branch", "words"),
    [(None, "404"), (b"<html>", "JSONDecodeError"), (b"[]", "TypeError"), (b'{"id": "some/set"}', "no commit")],
)
def test_a_hub_that_cannot_be_listed_is_one_line_with_its_address(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, branch: bytes | None, words: str
) -> None:
    site.files |= {} if branch is None else {BRANCH: branch}
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.files["/b"] = b"two"
    done = fetch_quietly(source(Hub("some/set", "refs/convert/parquet", ("a/",)), File(f"{site.url}/b", "b")), tmp_path)
    assert done.fetched == 1
    (told,) = done.failed
    assert re.match(f"{site.url}/datasets/some/set: its files could not be listed .*{words}", told)
    assert "\n" not in told


def test_a_path_of_the_hub_that_leads_out_is_not_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_with(site, {"a/ok": b"one", "a/../../evil": b"two"})
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    assert fetch_quietly(source(Hub("some/set", "refs/convert/parquet", ("a/",))), tmp_path).fetched == 1
    assert not (tmp_path / "evil").exists()


def test_more_than_fits_on_the_disk_is_said_before_anything_comes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = File(f"{site.url}/f", "f", size=10**18)
    with pytest.raises(DataError, match=r"1,000,000,000,000,000,000 bytes to fetch, [\d,]+ free; .*--to"):
        check_space([plan(source(part), tmp_path)])
    assert not site.asked


def test_weights_come_as_safetensors_where_their_repository_has_them(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    model_with(
        site, {"config.json": b"{}", "model.safetensors": b"numbers", "pytorch_model.bin": b"x", "tf_model.h5": b"x"}
    )
    done = fetch_quietly(weights_source("t5_small"), tmp_path)
    assert done == Fetched(tmp_path / "weights/t5_small", 2, 0, ())
    assert (done.folder / "model.safetensors").read_bytes() == b"numbers"
    assert not (done.folder / "pytorch_model.bin").exists()


def test_pickled_weights_become_safetensors_and_do_not_come_twice(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {"shared.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    pickled = torch_file(tmp_path / "made.bin", tensors, monkeypatch).read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    model_with(site, {"config.json": b"{}", "pytorch_model.bin": pickled, "pytorch_model.bin.index.json": b"{}"})
    known = weights_source("t5_small")
    done = fetch_quietly(known, tmp_path)
    assert (done.fetched, done.failed) == (2, ())
    source = HuggingFaceFolder(done.folder)
    assert list(source.tensors) == ["shared.weight"]
    assert (source.read("shared.weight") == tensors["shared.weight"]).all()
    assert not (done.folder / "pytorch_model.bin").exists()
    assert fetch_quietly(known, tmp_path) == Fetched(done.folder, 0, 2, ())
    (done.folder / "model.safetensors").rename(done.folder / "pytorch_model.bin")  # killed before it was rewritten
    (done.folder / "pytorch_model.bin").write_bytes(pickled)
    site.asked.clear()
    assert fetch_quietly(known, tmp_path).fetched == 1
    assert [wanted for path, wanted in site.asked if path.endswith(".bin")] == [f"bytes={len(pickled)}-"]


def test_pickled_weights_that_are_none_are_one_line_and_nothing_stays(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    model_with(site, {"config.json": b"{}", "pytorch_model.bin": b"no zip"})
    done = fetch_quietly(weights_source("t5_small"), tmp_path)
    assert done.fetched == 1
    assert "whose files are no zip" in done.failed[0]
    assert sorted(path.name for path in done.folder.iterdir()) == ["config.json", "fetched.json"]


# --- a collection --------------------------------------------------------------------------------------------------


def test_what_came_is_recorded_and_not_fetched_twice(site: Site, tmp_path: Path) -> None:
    site.files |= {"/a": b"one", "/b": b"two"}
    known = source(File(f"{site.url}/a", "a.tsv"), File(f"{site.url}/b", "sub/b.tsv"))
    assert fetch_quietly(known, tmp_path) == Fetched(tmp_path / "here", 2, 0, ())
    entry = record(tmp_path / "here")["sub/b.tsv"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*", entry.pop("date"))
    assert entry == {
        "url": f"{site.url}/b",
        "commit": "",
        "sha256": hashlib.sha256(b"two").hexdigest(),
        "size": 3,
        "home": "example.org/it",
        "licence": "CC0-1.0",
    }
    site.asked.clear()
    (tmp_path / "here/a.tsv").write_bytes(b"cut")
    (tmp_path / "here/sub/b.tsv").write_bytes(b"")
    assert fetch_quietly(known, tmp_path) == Fetched(tmp_path / "here", 1, 1, ())
    assert site.asked == [("/b", None)]


def test_a_file_that_its_source_lacks_stops_no_other(site: Site, tmp_path: Path) -> None:
    site.files["/b"] = b"two"
    known = source(File(f"{site.url}/a", "a"), File(f"{site.url}/b", "b"))
    done = fetch_quietly(known, tmp_path)
    assert done.fetched == 1
    assert len(done.failed) == 1
    assert f"{site.url}/a: not there (404)" in done.failed[0]
    site.files["/a"] = b"one"
    assert fetch_quietly(known, tmp_path) == Fetched(tmp_path / "here", 1, 1, ())


def test_terms_of_all_that_is_wanted_have_to_be_accepted_at_once(site: Site) -> None:
    free = source(File(f"{site.url}/a", "a"))
    asking = [replace(free, title=title, terms=f"{title} terms") for title in ("One", "Two")]
    with pytest.raises(DataError, match=r"^One: One terms; Two: Two terms; then add --accept-licence$"):
        check_terms([free, *asking], accepted=False)
    check_terms([free, *asking], accepted=True)
    check_terms([free], accepted=False)


def test_a_record_that_is_none_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/fetched.json").write_text("[]")
    with pytest.raises(DataError, match=r"fetched.json: not a record of fetched files"):
        fetch_quietly(source(File(f"{site.url}/a", "a")), tmp_path)


# --- the table and the command -------------------------------------------------------------------------------------


def test_every_address_is_https_and_of_fixed_content_and_every_path_stays_inside() -> None:
    parts = [part for known in read_sources().values() for part in known.parts]
    for part in parts:
        if isinstance(part, Hub):
            assert part.prefixes
            continue
        assert part.url.startswith("https://")
        if isinstance(part, File):
            assert stays_inside(part.path)
            assert part.sha256 is None or re.fullmatch("[0-9a-f]{64}", part.sha256)
        # what a partial file holds is of the same content only where the address cannot come to mean another
        assert re.search("/[0-9a-f]{40}(/|$)", part.url) or (part.url.endswith("/spiece.model") and part.sha256)


def test_what_comes_from_the_hub_comes_from_the_mirror_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example.org/")
    (vocabulary,) = read_sources()["vocabulary"].parts
    assert isinstance(vocabulary, File)
    assert vocabulary.url == "https://mirror.example.org/google/t5-v1_1-small/resolve/main/spiece.model"


@pytest.mark.data
def test_the_pinned_checksums_are_those_of_the_published_files(shared_data: Path) -> None:
    pinned = [(name, part) for name, known in read_sources().items() for part in known.parts if isinstance(part, File)]
    checked = 0
    for name, part in pinned:
        path = shared_data / name / part.path
        if name in ("cot", "muffin") and part.sha256 and path.exists():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == part.sha256, path
            checked += 1
    assert checked == 8


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'niv3'; did you mean niv2\?"):
        find_sources(["cot", "niv3"])
    with pytest.raises(DataError, match="made on the spot"):
        find_sources(["procedural"])
    with pytest.raises(DataError, match=r"--weights t5_smal: .*did you mean t5_small\?"):
        find_sources([], "t5_smal")


def test_flan_is_all_that_its_collection_reads_and_nothing_comes_twice() -> None:
    assert list(find_sources(["flan"])) == list(FLAN)
    assert list(find_sources(["niv2", "flan", "rendered", "cot"])) == [
        "niv2",
        "cot",
        "muffin",
        "t0sf",
        *FLAN[4:],
        "rendered",
    ]
    assert list(find_sources(["flan"], "t5_xl")) == [*FLAN, "weights of t5_xl"]


def test_weights_are_those_of_models_that_there_are() -> None:
    models = {path.stem for path in (Path(__file__).parents[1] / "conf" / "model").glob("*.yaml")}
    assert set(WEIGHTS) == {"t5_small", "t5_base", "t5_large", "t5_xl", "t5_xxl"} <= models
    for model in WEIGHTS:
        (part,) = weights_source(model).parts
        assert isinstance(part, Hub)
        assert (part.kind, part.repository) == ("model", f"google/t5-{model.removeprefix('t5_')}-lm-adapt")


@pytest.mark.parametrize("key", ["cot", "muffin", "t0", "niv2", "rendered", "flan"])
def test_every_folder_that_can_be_fetched_says_how_where_it_is_missing(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError) as told:
        data_folder(DataConfig(root=str(tmp_path)), key)
    (command,) = re.findall("`flanscale tasks fetch (.*?)`", str(told.value))
    name, to, folder, *accepted = shlex.split(command)
    known = read_sources()[name]
    assert (known.folder, to, folder) == (key, "--to", str(tmp_path))
    assert accepted == (["--accept-licence"] if known.terms else [])


@pytest.mark.parametrize("model", WEIGHTS)
def test_weights_that_are_named_as_on_the_hub_say_how_to_have_them(model: str) -> None:
    with pytest.raises(WeightsError, match=f"`flanscale tasks fetch --weights {model} --to data` brings it"):
        open_source(WEIGHTS[model])


def test_what_a_message_says_to_type_is_understood(tmp_path: Path) -> None:
    for name in ("cot", "muffin", "t0sf", "niv2", "rendered"):
        for folder in (None, tmp_path / "my data" / "x"):
            command = re.findall("`flanscale (.*?)`", to_fetch(name, folder))[0]
            told = CliRunner().invoke(app, [*shlex.split(command), "--to", "/proc/nowhere"])
            assert "/proc/nowhere" in str(told.exception)  # all before the first write was understood


# --- several at once -----------------------------------------------------------------------------------------------


@pytest.fixture
def flan(site: Site, monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Three sources on our own server, one of which has a file less than it says and one a server that is away."""
    site.files |= {"/a": b"one", "/b": CONTENT, "/c": b"three"}
    known = {
        "cot": source(File(f"{site.url}/a", "a"), File(f"{site.url}/gone", "gone"), folder="cot"),
        "muffin": source(File("http://127.0.0.1:9/f", "f"), File("http://127.0.0.1:9/g", "g"), folder="muffin"),
        "niv2": source(
            File(f"{site.url}/b", "b"), File(f"{site.url}/c", "c", size=5), folder="niv2", terms="niv2 terms"
        ),
    }
    monkeypatch.setattr(fetching, "read_sources", lambda: known)
    monkeypatch.setattr(fetching, "FLAN", tuple(known))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return known


@pytest.mark.usefixtures("flan")
def test_one_command_brings_all_that_can_be_had_and_tells_the_rest_at_the_end(site: Site, tmp_path: Path) -> None:
    command = ["tasks", "fetch", "flan", "--to", str(tmp_path)]
    told = CliRunner().invoke(app, command)
    assert "niv2 terms; then add --accept-licence" in str(told.exception)
    assert not site.asked
    told = CliRunner().invoke(app, [*command, "--accept-licence"])
    assert told.exit_code == 1
    assert (tmp_path / "niv2/b").read_bytes() == CONTENT
    assert (tmp_path / "cot/a").read_bytes() == b"one"
    left_out = [line for line in told.stdout.splitlines() if line.startswith("left out: ")]
    assert left_out[0] == f"left out: {site.url}/gone: not there (404): the source has moved or was withdrawn"
    assert left_out[1].startswith("left out: http://127.0.0.1:9/f: no connection")
    assert left_out[2:] == ["left out: 127.0.0.1:9: does not answer; 1 more files of it were not tried"]
    assert f"use it with data.root={tmp_path} collection=flan" in told.stdout
    site.files["/gone"] = b"two"
    site.asked.clear()
    assert CliRunner().invoke(app, [*command, "--accept-licence"]).exit_code == 1
    assert [path for path, _ in site.asked] == ["/gone"]


@pytest.mark.usefixtures("flan")
def test_sizes_are_told_before_the_first_byte(site: Site, tmp_path: Path) -> None:
    site.sizes = True
    told = CliRunner().invoke(app, ["tasks", "fetch", "cot", "niv2", "--to", str(tmp_path), "--accept-licence"])
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert "cot 0 2 3 B and 1 of unknown size" in lines
    assert "niv2 0 2 512 kB" in lines
    assert "in all 0 4 512 kB and 1 of unknown size" in lines


@pytest.mark.usefixtures("flan")
def test_one_bar_counts_every_byte_of_all_of_it(site: Site, tmp_path: Path) -> None:
    site.sizes = True
    plans = [plan(known, tmp_path) for known in find_sources(["cot", "niv2"]).values()]
    bar = cli_fetch._Bar(plans)
    assert bar._progress.tasks[0].total == 3 + len(CONTENT) + 5
    fetch(plans, watch=bar.start, pause=0)
    assert bar._progress.tasks[0].completed == bar._progress.tasks[0].total == 3 + len(CONTENT) + 5


def test_what_the_table_of_sources_brings_is_what_the_collection_reads(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    muffin = read_sources()["muffin"]
    parts = {part.repository: part for part in muffin.parts if isinstance(part, Hub)}
    assert set(parts) == {form.repository for form in HUB_FORMS.values()}
    for name, form in HUB_FORMS.items():
        shutil.rmtree(tmp_path / "muffin", ignore_errors=True)
        files = {f"{prefix.rsplit('/', 1)[0]}/0000.parquet": b"rows" for prefix in form.prefixes[:1]}
        files |= {f"{form.config}/test/0000.parquet": b"held out", f"{form.config}/{form.split}/index.duckdb": b"other"}
        hub_with(site, files, form.repository)
        fetch_quietly(replace(muffin, parts=(parts[form.repository],)), tmp_path)
        assert name in Muffin(tmp_path / "muffin", 10).groups["muffin"]
        assert not [path for path in (tmp_path / "muffin/hub").rglob("*") if path.name in ("test", "index.duckdb")]


@pytest.fixture
def little_flan(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All six sources of `flan` on our own server, in the forms of the true ones, with one or two tasks each."""
    learned, asked, of_p3 = *list(catalogued("niv2"))[:2], next(iter(catalogued("t0sf")))
    data = tiny_data(tmp_path / "made")
    niv2 = {str(path.relative_to(data / "niv2")): path.read_text() for path in (data / "niv2").rglob("*.txt")}
    niv2 |= {f"tasks/{name}.json": json.dumps(niv2_record()) for name in (learned, asked)}
    rows = [{"inputs_pretokenized": f"in {i}", "targets_pretokenized": "out"} for i in range(5)]
    pytest.importorskip("pyarrow.parquet").write_table(
        pytest.importorskip("pyarrow").Table.from_pylist(rows), tmp_path / "p3.parquet"
    )
    site.files |= {
        "/gsm8k_train.tsv": (data / "cot" / "gsm8k_train.tsv").read_bytes(),
        "/in_domain_train.tsv": b"".join(b"gj04\t%d\t\tThe answer by task %d.\n" % (i % 2, i) for i in range(9)),
        "/niv2": git_archive(tmp_path / "clone", niv2),
        "/templates.py": FLAN_PYTHON.encode(),
        "/spiece.model": (data / "tokenizer" / "t5.spiece.model").read_bytes(),
    }
    hub_with(site, {f"{of_p3}/train/0000.parquet": (tmp_path / "p3.parquet").read_bytes()}, "bigscience/P3")
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    files = {
        "cot": File(f"{site.url}/gsm8k_train.tsv", "gsm8k_train.tsv"),
        "muffin": File(f"{site.url}/in_domain_train.tsv", "cola/in_domain_train.tsv"),
        "t0sf": read_sources()["t0sf"].parts[0],
        "niv2": Archive(f"{site.url}/niv2", ("tasks", "splits"), 10**6),
        "templates": File(f"{site.url}/templates.py", "templates.py"),
        "vocabulary": File(f"{site.url}/spiece.model", "t5.spiece.model"),
    }
    known = {name: replace(read_sources()[name], parts=(part,)) for name, part in files.items()}
    monkeypatch.setattr(fetching, "read_sources", lambda: known)
    return ["cot_gsm8k", "cola", of_p3, learned]


def test_what_was_fetched_is_planned_and_trained_on_as_the_command_says(
    little_flan: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["tasks", "fetch", "flan", "--accept-licence"])
    assert told.exit_code == 0
    (use,) = re.findall("^use it with (.*)$", told.stdout, re.MULTILINE)

    small = ["model=t5_micro", "model.d_model=16", "model.d_ff=16", "optimizer.warmup_steps=1", "trainer.steps=2"]
    small += ["trainer.batch_rows=2", "evaluation=niv2", "evaluation.items=2", "tracker=disabled"]
    cell = [*use.split(), *small, "mixture.count=1836", "mixture.allow_missing=true", "cot=true"]
    planned = CliRunner().invoke(app, ["plan", *cell, "--json"])
    assert planned.exit_code == 0
    directory = make_cell(tmp_path / "runs", *cell)
    execute(directory)

    mixture = json.loads((directory / "mixture.json").read_text())
    assert [task["task"] for task in mixture["tasks"]] == little_flan
    last = read_rows(directory)[-1]
    assert (last["step"], last["eval/flan/direct/n"]) == (2, 2)


def test_a_full_disk_stops_everything(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["/a"] = site.files["/b"] = b"one"

    def full(*_: Any, **__: Any) -> None:
        raise downloading.FullDisk("no space")

    monkeypatch.setattr(fetching, "download", full)
    with pytest.raises(DataError, match="no space"):
        fetch_quietly(source(File(f"{site.url}/a", "a"), File(f"{site.url}/b", "b")), tmp_path)


def test_a_killed_command_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.files |= {"/a": b"one", "/b": CONTENT, "/c": b"three"}
    site.holds = {"/b": 200_000}
    program = (
        "import sys; from pathlib import Path; from flanscale.tasks.fetch import fetch, plan;"
        "from flanscale.tasks.sources import File, Source;"
        "url, to = sys.argv[1:]; files = [File(f'{url}/{name}', name) for name in 'abc'];"
        "known = Source('here', 't', 'h', 'l', 's', tuple(files));"
        "print(fetch([plan(known, Path(to))], watch=lambda name: lambda *_: None)[0].fetched)"
    )
    command = [sys.executable, "-c", program, site.url, str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    partial = tmp_path / "here/b.partial"
    assert waited(lambda: partial.exists() and partial.stat().st_size > 100_000)
    first.kill()
    first.communicate()
    kept = partial.stat().st_size
    site.go_on.set()
    site.asked.clear()
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout == "2\n"
    assert site.asked == [("/b", f"bytes={kept}-"), ("/c", None)]
    assert (tmp_path / "here/b").read_bytes() == CONTENT


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_shows_source_and_licence_and_says_how_to_go_on(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/a"] = b"one"
    known = source(File(f"{site.url}/a", "a"), by_hand="the rest: ask its authors")
    monkeypatch.setattr(fetching, "read_sources", lambda: {"cot": known})
    told = CliRunner().invoke(app, ["tasks", "fetch", "cot", "--to", str(tmp_path)])
    assert told.exit_code == 0, told.output
    used = f"use it with data.root={tmp_path} collection=cot"
    for words in ("from example.org/it", "licence: CC0-1.0", "ask its authors", "1 fetched", used):
        assert words in told.output


def test_the_command_alone_lists_what_there_is() -> None:
    listed = CliRunner().invoke(app, ["tasks", "fetch"])
    assert all(name in listed.output for name in ("flan", *read_sources(), *WEIGHTS))
