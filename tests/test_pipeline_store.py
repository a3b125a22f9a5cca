"""The tokenised store: whole entries or none, whoever writes, dies or flips bits."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from flanscale.pipeline.entry import DamagedEntry, entry_bytes, read_entry
from flanscale.pipeline.ragged import Ragged
from flanscale.pipeline.store import ABANDONED_AFTER, Manifest, Store, StoreError, entry_key

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["flanscale.pipeline.store"])


def pairs(seed: int, count: int = 40, largest: int = 32_099) -> tuple[Ragged, Ragged, dict[str, Any]]:
    """Random pairs, empty pieces among them, with their facts."""
    rng = np.random.default_rng(seed)

    def some() -> Ragged:
        lengths = rng.integers(0, 60, count)
        return Ragged.consecutive(rng.integers(0, largest + 1, lengths.sum()).astype(np.int32), lengths)

    return some(), some(), {"task": f"task{seed} – 数", "examples": count, "renderings": 1, "dropped": {"long": 2}}


def same(one: Ragged, other: Ragged) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def filled(root: Path, seed: int = 0, **kwargs: int) -> tuple[Store, str]:
    store, key = Store(root), entry_key(seed=seed)
    store.write(key, *pairs(seed, **kwargs))
    return store, key


def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    return process


# --- what is kept comes back ------------------------------------------------------------------------------------------


PIECE = some.lists(some.one_of(some.integers(0, 300), some.integers(65_000, 66_000)), max_size=5)


@settings(deadline=None, max_examples=50)  # every example waits for the disk
@given(
    some.lists(some.tuples(PIECE, PIECE), max_size=8),
    some.dictionaries(some.text(max_size=5), some.one_of(some.integers(), some.text(max_size=50))),
)
def test_what_is_written_is_read(texts: list[tuple[list[int], list[int]]], facts: dict[str, Any]) -> None:
    inputs, targets = (Ragged.of([pair[side] for pair in texts]) for side in (0, 1))
    with tempfile.TemporaryDirectory() as folder:
        store, key = Store(Path(folder)), entry_key(name="any")
        store.write(key, inputs, targets, facts)
        entry = store.open(key)
        assert entry is not None
        assert same(entry.inputs, inputs)
        assert same(entry.targets, targets)
        assert dict(entry.facts) == facts
        assert store.verify([key]) == {}


def test_tokens_take_two_bytes_where_they_fit(tmp_path: Path) -> None:
    for name, largest, dtype in (("narrow", 65_535, np.uint16), ("wide", 70_000, np.uint32)):
        store, key = filled(tmp_path / name, count=5000, largest=largest)
        assert store.open(key).tokens.dtype == dtype


def test_pieces_of_any_order_and_overlap_are_kept_as_pieces(tmp_path: Path) -> None:
    tokens = np.arange(10, dtype=np.int32)
    inputs = Ragged(tokens, np.array([5, 0, 4]), np.array([5, 3, 2]))
    targets = Ragged(tokens, np.array([0, 9, 2]), np.array([0, 1, 8]))
    store = Store(tmp_path)
    store.write("ab" * 20, inputs, targets, {"examples": 3, "renderings": 1})
    entry = store.open("ab" * 20)
    assert same(entry.inputs, inputs)
    assert same(entry.targets, targets)


def test_facts_longer_than_the_first_read_come_back_whole(tmp_path: Path) -> None:
    store, facts = Store(tmp_path), {"examples": 0, "renderings": 1, "hits": ["x" * 97] * 400}
    store.write("ab" * 20, Ragged.of([]), Ragged.of([]), facts)
    assert dict(store.open("ab" * 20).facts) == facts


def test_the_same_pairs_give_the_same_bytes() -> None:
    assert entry_bytes(*pairs(3)) == entry_bytes(*pairs(3))
    inputs, targets, facts = pairs(3)
    assert entry_bytes(inputs, targets, dict(reversed(facts.items()))) == entry_bytes(inputs, targets, facts)


def test_a_key_moves_with_everything_that_goes_into_it() -> None:
    key = entry_key(content="a", wordings="b", renderings=2)
    assert key == entry_key(renderings=2, wordings="b", content="a")
    assert len({key, entry_key(content="a", wordings="b", renderings=3), entry_key(content="b", wordings="a")}) == 3


def test_no_entry_is_none_and_makes_no_folder(tmp_path: Path) -> None:
    assert Store(tmp_path / "store").open("ab" * 20) is None
    assert list(tmp_path.iterdir()) == []


def test_a_sound_entry_is_never_replaced(tmp_path: Path) -> None:
    store, key = filled(tmp_path)
    before = store.path(key).stat().st_ino
    store.write(key, *pairs(0))
    assert store.path(key).stat().st_ino == before
    assert list((tmp_path / "partial").iterdir()) == []


def _read_all_with_few_files(root: Path, keys: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    tokens = [entry.tokens for entry in Store(root).open_all(keys) if entry]
    raise SystemExit(0 if len(tokens) == len(keys) and all(len(array) for array in tokens) else 1)


def test_mapped_entries_hold_no_files_open(tmp_path: Path) -> None:
    keys = [filled(tmp_path, seed, count=3)[1] for seed in range(150)]
    reader = start(_read_all_with_few_files, tmp_path, keys)
    reader.join(30)
    assert reader.exitcode == 0


# --- many at once -----------------------------------------------------------------------------------------------------


def _write_and_read(root: Path, keys: list[str]) -> None:
    store, rng = Store(root), np.random.default_rng(os.getpid())
    for i in rng.permutation(len(keys)):
        if store.open(keys[i]) is None:
            store.write(keys[i], *pairs(i))
        entry, (inputs, targets, _) = store.open(keys[i]), pairs(i)
        if entry is None or not same(entry.inputs, inputs) or not same(entry.targets, targets):
            raise SystemExit(1)


def test_twenty_processes_write_and_read_the_same_keys_at_once(tmp_path: Path) -> None:
    keys = [entry_key(seed=seed) for seed in range(12)]
    jobs = [start(_write_and_read, tmp_path, keys) for _ in range(20)]
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * 20
    assert Store(tmp_path).verify(keys) == {}
    assert [Store(tmp_path).path(key).read_bytes() for key in keys] == [entry_bytes(*pairs(i)) for i in range(12)]
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_file_system_without_hard_links_is_written_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store, key = filled(tmp_path)
    store.write(key, *pairs(0))
    assert store.verify([key]) == {}
    assert list((tmp_path / "partial").iterdir()) == []


# --- death and damage -------------------------------------------------------------------------------------------------


def _write_for_ever(root: Path, keys: list[str]) -> None:
    for i, key in enumerate(keys):
        Store(root).write(key, *pairs(i, count=20_000))


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.1, 0.3])
def test_a_writer_killed_at_any_instant_leaves_whole_entries_or_none(tmp_path: Path, seconds: float) -> None:
    keys = [entry_key(seed=seed) for seed in range(500)]
    writer = start(_write_for_ever, tmp_path, keys)
    while not (tmp_path / "partial").exists():
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(10)
    store = Store(tmp_path)
    whole = [key for key in keys if store.open(key) is not None]
    assert store.verify(whole) == {}
    assert len(list(tmp_path.glob("??/*"))) == len(whole) < len(keys)


def test_what_a_killed_writer_left_is_cleared_a_day_later(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    old, new = (tmp_path / "partial" / name for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - ABANDONED_AFTER - 60,) * 2)
    assert store.clear_abandoned() == 1
    assert list((tmp_path / "partial").iterdir()) == [new]


def is_found_damaged(store: Store, key: str, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether opening, or else the first use, finds the damage and says it in one line that names the file."""
    caplog.clear()
    entry = store.open(key)
    if entry is None:
        said = caplog.messages
    else:
        try:
            _ = entry.tokens
        except DamagedEntry as error:
            said = [str(error)]
        else:
            return False
    (line,) = said
    return str(store.path(key)) in line and "damaged" in line and "\n" not in line and key in store.verify([key])


def test_every_truncation_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, key = filled(tmp_path)
    content = store.path(key).read_bytes()
    lengths = {0, 1, 47, 48, 49, len(content) - 1, *np.random.default_rng(0).integers(0, len(content), 40).tolist()}
    for length in lengths:
        store.path(key).write_bytes(content[:length])
        assert store.open(key) is None, length
        assert is_found_damaged(store, key, caplog), length
    store.path(key).write_bytes(content + b"\0")
    assert store.open(key) is None


def test_every_flipped_bit_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, key = filled(tmp_path)
    content = store.path(key).read_bytes()
    body = read_entry(store.path(key))._body_start
    bits = [*range(8 * body), *np.random.default_rng(0).integers(8 * body, 8 * len(content), 200).tolist()]
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        store.path(key).write_bytes(flipped)
        assert is_found_damaged(store, key, caplog), bit
        assert (store.open(key) is None) == (bit < 8 * body), "the head is checked at every open, the body at first use"


def test_a_damaged_entry_is_replaced_by_the_next_write(tmp_path: Path) -> None:
    store, key = filled(tmp_path)
    content = store.path(key).read_bytes()
    for bad in (content[:-9], content[:-1] + bytes([content[-1] ^ 4])):
        store.path(key).write_bytes(bad)
        store.write(key, *pairs(0))
        assert store.path(key).read_bytes() == content


# --- no room ----------------------------------------------------------------------------------------------------------


def _write_beyond_the_limit(root: Path, key: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        Store(root).write(key, *pairs(0, count=2000))
    except StoreError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (root / "said").write_text(str(error))


def test_a_file_that_outgrows_its_limit_gives_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    store, key = filled(tmp_path, 1)
    writer = start(_write_beyond_the_limit, tmp_path, entry_key(seed=0))
    writer.join(30)
    said = (tmp_path / "said").read_text()
    assert str(tmp_path) in said
    assert "File too large" in said
    assert "paths.cache=<folder>" in said
    assert "\n" not in said
    assert store.open(entry_key(seed=0)) is None
    assert list((tmp_path / "partial").iterdir()) == []
    assert store.verify([key]) == {}


def test_a_full_disk_gives_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)  # where a network file system says it
    with pytest.raises(StoreError, match=r"No space left on device\); free some or set paths.cache=<folder>$"):
        filled(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_made_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match=r"store: .*(File exists|Not a directory)\); check the folder"):
        filled(tmp_path / "store")


# --- manifests --------------------------------------------------------------------------------------------------------


def test_a_manifest_lists_the_entries_of_a_mixture(tmp_path: Path) -> None:
    store, key = filled(tmp_path)
    manifest = Manifest({"täsk": key}, {"täsk": dict(store.open(key).facts)})
    assert store.manifest("mixture") is None
    store.write_manifest("mixture", manifest)
    assert store.manifest("mixture") == manifest
    store.write_manifest("mixture", Manifest({}, {}))
    assert store.manifest("mixture") == Manifest({}, {})


def test_a_damaged_manifest_is_told_and_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    store.write_manifest("mixture", Manifest({"a": "00" * 20}, {"a": {"examples": 3}}))
    (path,) = tmp_path.glob("manifests/*")
    content = path.read_bytes()
    for bad in (b"", content[:-1], content.replace(b"3", b"4"), json.dumps({}).encode()):
        path.write_bytes(bad)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert store.manifest("mixture") is None
        assert "damaged" in caplog.text


def test_a_warm_start_of_1836_tasks_opens_every_entry(tmp_path: Path) -> None:
    """Open, not read: tokens come into memory as they are drawn (measured: 0.2 s and 50 MB for 1.4 GB of entries)."""
    store, (inputs, targets, facts) = Store(tmp_path), pairs(0, count=5)
    content = entry_bytes(inputs, targets, facts)
    keys = {f"task{i}": entry_key(i=i) for i in range(1836)}
    for key in keys.values():
        store.path(key).parent.mkdir(exist_ok=True)
        store.path(key).write_bytes(content)
    store.write_manifest("mixture", Manifest(keys, dict.fromkeys(keys, facts)))
    assert all(store.open_all(list(store.manifest("mixture").keys.values())))
