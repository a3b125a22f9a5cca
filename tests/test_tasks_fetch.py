"""Fetching: whatever breaks, nothing half-made gets a name, nothing is lost, and all is recorded."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flanscale.cli import fetch as cli_fetch
from flanscale.cli.main import app
from flanscale.errors import DataError
from flanscale.tasks import download as downloading
from flanscale.tasks import fetch as fetching
from flanscale.tasks.download import NotThere, download
from flanscale.tasks.fetch import Fetched, fetch, find_source
from flanscale.tasks.sources import Archive, File, Hub, Source, read_sources
from flanscale.tasks.unpack import stays_inside, unpack

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
            self.wfile.write(body[: known.drops.pop(0)] if known.drops else body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    yield known
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
    return fetch(known, to, accept_licence=False, watch=lambda name: lambda here, total: None, pause=0)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "fetched.json").read_text())["files"]


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
    with pytest.raises(DataError, match="damaged archive") as told:
        fetch_quietly(known, tmp_path)
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "here").iterdir())
    site.files["/tar.gz/1"] = whole
    assert fetch_quietly(known, tmp_path).fetched == 1


# --- the Hub -------------------------------------------------------------------------------------------------------

COMMIT = "c0ffee" + "0" * 34
BRANCH = "/api/datasets/some/set/revision/refs%2Fconvert%2Fparquet"


def hub_with(site: Site, files: dict[str, bytes]) -> None:
    """The Hub's answers to: which commit is a branch, which files has it (two pages), and the files."""
    site.files[BRANCH] = json.dumps({"id": "some/set", "sha": COMMIT}).encode()
    entries = [
        {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
        | {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
        for path, data in files.items()
    ]
    first = f"/api/datasets/some/set/tree/{COMMIT}?recursive=true&expand=false"
    folder = {"type": "directory", "path": "a", "size": 0, "oid": "0" * 40}
    site.files[first] = json.dumps([folder, *entries[:1]]).encode()
    site.files["/page2"] = json.dumps(entries[1:]).encode()
    site.links[first] = f'<{site.url}/page2>; rel="next"'
    site.files |= {f"/datasets/some/set/resolve/{COMMIT}/{path}": data for path, data in files.items()}


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
    with pytest.raises(
        DataError, match=f"{site.url}/datasets/some/set: its files could not be listed .*{words}"
    ) as told:
        fetch_quietly(source(Hub("some/set", "refs/convert/parquet", ("a/",))), tmp_path)
    assert "\n" not in str(told.value)


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
        fetch_quietly(source(part), tmp_path)
    assert not site.asked


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


def test_terms_have_to_be_accepted_before_anything_is_asked_for(site: Site, tmp_path: Path) -> None:
    site.files["/a"] = b"one"
    known = source(File(f"{site.url}/a", "a"), terms="for research only")
    with pytest.raises(DataError, match=r"for research only; then add --accept-licence"):
        fetch_quietly(known, tmp_path / "data")
    assert not site.asked
    assert not (tmp_path / "data").exists()
    assert fetch(known, tmp_path / "data", accept_licence=True, watch=lambda name: lambda *_: None).fetched == 1


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


def test_an_unknown_collection_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'niv3'; did you mean niv2\?"):
        find_source("niv3")
    with pytest.raises(DataError, match="made on the spot"):
        find_source("procedural")


def test_the_command_shows_source_and_licence_and_says_how_to_go_on(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/a"] = b"one"
    known = source(File(f"{site.url}/a", "a"), by_hand="the rest: ask its authors")
    monkeypatch.setattr(fetching, "find_source", lambda name: known)
    told = CliRunner().invoke(app, ["tasks", "fetch", "it", "--to", str(tmp_path)])
    assert told.exit_code == 0, told.output
    for words in ("from example.org/it", "licence: CC0-1.0", "ask its authors", "1 fetched", f"data.root={tmp_path}"):
        assert words in told.output
    listed = CliRunner().invoke(app, ["tasks", "fetch"])
    assert all(name in listed.output for name in read_sources())


def test_the_command_fails_when_a_file_could_not_be_had(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "find_source", lambda name: source(File(f"{site.url}/a", "a")))
    with pytest.raises(DataError, match="1 files of it could not be had"):
        cli_fetch.fetch("it", to=tmp_path, accept_licence=False)
    assert "left out: " in capsys.readouterr().out
