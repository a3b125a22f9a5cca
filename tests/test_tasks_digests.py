"""A file is hashed once for all plans and jobs, and again as soon as anybody may have touched it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path

import pytest

from flanscale.tasks import digests
from flanscale.tasks.digests import KEPT_FILE, digest, kept_in

OTHER = "0" * 64


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data file of some time ago, of which no byte is too few to be kept."""
    monkeypatch.setattr(digests, "WORTH_KEEPING", 1)
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -1.0)
    path = tmp_path / "task.json"
    path.write_text("one")
    return path


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def claim_other(cache: Path) -> None:
    """What is kept now says something else, which shows when it is believed."""
    kept = json.loads((cache / KEPT_FILE).read_text())
    (cache / KEPT_FILE).write_text(json.dumps({name: [seal, OTHER] for name, (seal, _) in kept.items()}))


def digest_within(cache: Path, file: Path) -> str:
    with kept_in(cache):
        return digest(file)


def test_an_untouched_file_is_not_read_again(tmp_path: Path, file: Path) -> None:
    assert digest_within(tmp_path, file) == sha("one")
    claim_other(tmp_path)
    assert digest_within(tmp_path, file) == OTHER
    assert digest(file) == sha("one"), "outside nothing is taken from the folder"


def test_a_file_of_the_same_size_and_time_with_other_content_is_read(tmp_path: Path, file: Path) -> None:
    digest_within(tmp_path, file)
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest_within(tmp_path, file) == sha("two")


def test_a_file_in_place_of_another_is_read(tmp_path: Path, file: Path) -> None:
    digest_within(tmp_path, file)
    other = tmp_path / "other"
    other.write_text("two")
    other.rename(file)
    assert digest_within(tmp_path, file) == sha("two")


def test_what_was_changed_a_moment_ago_or_is_little_is_not_kept(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED_SECONDS", time.time() - file.stat().st_mtime + 60)
    digest_within(tmp_path, file)
    assert json.loads((tmp_path / KEPT_FILE).read_text()) == {}
    (tmp_path / KEPT_FILE).unlink()
    monkeypatch.setattr(digests, "WORTH_KEEPING", 4)
    digest_within(tmp_path, file)
    assert not (tmp_path / KEPT_FILE).exists()


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}', '{"a": [1, 2]}'])
def test_a_damaged_file_is_written_anew(tmp_path: Path, file: Path, content: str) -> None:
    (tmp_path / KEPT_FILE).write_text(content)
    assert digest_within(tmp_path, file) == sha("one")
    assert [entry[1] for entry in json.loads((tmp_path / KEPT_FILE).read_text()).values()] == [sha("one")]


def test_two_at_once_keep_what_both_have_read(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("two")
    with kept_in(tmp_path):
        digest(file)
        digest_within(tmp_path, other)
    kept = json.loads((tmp_path / KEPT_FILE).read_text())
    assert {Path(name).name for name in kept} == {"task.json", "other.json"}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert digest_within(tmp_path / "a file", file) == sha("one")
    assert "cannot be written, so that every job hashes all its data" in caplog.text
