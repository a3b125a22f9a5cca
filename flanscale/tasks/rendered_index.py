"""Where does each row of a large folder of rendered prompts lie? An index, built in one reading and kept in a cache.

Copies of the Flan 2022 collection are folders of large Parquet or JSON Lines files with one rendered prompt a row:
`inputs`, `targets`, `_task_source`, `_task_name` and `_template_type` in Open-Orca/FLAN, the same names without the
underscore in DataProvenanceInitiative's `*_submix_original`, `source` and `target` for the texts in chiayewken/flan-v2.
Tasks are mixed in every file, so the folder is read once, row by row. What is kept:

- where each row of a task lies: in its own file if that is plain JSON Lines, else in one file of the index, to which
  rows of Parquet and gzip files are copied because these formats have no cheap access to a single row;
- at most `limit` rows of a task, spread evenly over all of its rows, because files are sorted by template type and the
  first rows would be of one type only.

Names, sizes and times of the files are the index's key: a changed file means a new index. Memory holds one batch of
rows and 24 bytes for each row that the index keeps. NIV2's copies of MMLU are left out (Chung et al. 2022, §2.1).
A file without rows is a bad record, and two files with the same rows are refused: a copy would count twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.errors import DataError
from flanscale.folders import files_below
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.flan_names import catalogue_name
from flanscale.tasks.reading import BadRecord, byte_lines, existing_folder, is_gzip, json_object, safe_name, sound
from flanscale.tasks.tables import parquet_rows
from flanscale.tasks.task import Example, Skips

log = logging.getLogger(__name__)

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
SOURCES = {
    "cot": "cot",
    "flan2021": "muffin",
    "flan": "muffin",
    "dialog": "muffin",
    "programsynthesis": "muffin",
    "p3": "t0sf",
    "t0": "t0sf",
    "niv2": "niv2",
}
"""`_task_source` in lower-case letters and digits → group."""
INPUTS = ("inputs_pretokenized", "inputs", "source", "prompt")
TARGETS = ("targets_pretokenized", "targets", "target", "completion")
_FACTS = ("task_source", "task_name", "template_type")
_COLUMNS = (*INPUTS, *TARGETS, *_FACTS, *(f"_{name}" for name in _FACTS))
_FORM = 3  # of the index: change it with what is stored
TOLD_BYTES = 1 << 30
"""Of files that are read long enough to be told of."""
BUILDING = "building-"
ABANDONED_AFTER = 24 * 3600  # seconds


Stamp = tuple[int, int]
"""A file's size in bytes and when it was last written, in ns."""


@dataclass(frozen=True)
class Index:
    """Where the rows of every task are: of `places` [rows, 3], columns are file, first byte and length in bytes."""

    tasks: dict[str, dict[str, Any]]
    """Task → group, source, fingerprint, whether the catalogue has it, names (as rows have them), rows (all), first and
    kept (its slice of `places`)."""
    files: list[Path]
    stamps: list[Stamp]
    """Of the files, as they were read."""
    path: Path

    def places(self, name: str) -> np.ndarray:
        first, kept = self.tasks[name]["first"], self.tasks[name]["kept"]
        return np.array(np.load(self.path, mmap_mode="r")[first : first + kept])


def index_rows(folder: Path, limit: int, skips: Skips, cache: Path) -> Index:
    """The index of a folder's rows, from `cache` where it is there and else built; at most `limit` rows of a task.

    Raises:
        DataError: no folder, no file, a bad row that may not be skipped, or an index that was tampered with.
    """
    paths = files_below(existing_folder(folder, "rendered"), SUFFIXES)
    if not paths:
        raise DataError(f"data.rendered={folder}: no {', '.join(SUFFIXES)} file there or below")
    stamps = [stamp(path.stat()) for path in paths]
    files = [(str(path.relative_to(folder)), *known) for path, known in zip(paths, stamps, strict=True)]
    key = hashlib.sha256(json.dumps([_FORM, limit, files]).encode()).hexdigest()[:16]
    if not (cache / key).is_dir():
        size = sum(size for size, _ in stamps)
        if size > TOLD_BYTES:
            log.warning(
                "%s: indexing %s files, %.1f GB; once, until one changes", folder, f"{len(paths):,}", size / 1e9
            )
        try:
            cache.mkdir(parents=True, exist_ok=True)
            _clear_abandoned(cache)
            building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=cache))
        except OSError as error:
            raise DataError(
                f"paths.cache: {cache} cannot be written ({error.strerror}); name another folder"
            ) from error
        try:
            _build(folder, paths, limit, Skips(skips.allowed), building)
            building.rename(cache / key)
        except OSError as error:
            if not (cache / key).is_dir():  # where it is, another process was as quick
                raise DataError(f"{building}: the index cannot be written ({error.strerror})") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    try:
        facts = json.loads((cache / key / "index.json").read_text(encoding="utf-8"))
        tasks, left_out, first = facts["tasks"], facts["left_out"], facts["first_left_out"]
        copies = cache / key / "rows.jsonl"
        index = Index(tasks, [copies, *paths], [stamp(copies.stat()), *stamps], cache / key / "places.npy")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{cache / key}: damaged index ({error}); delete this folder") from error
    skips.add(left_out, first)
    return index


def stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns


def _clear_abandoned(cache: Path) -> None:
    """Delete what a process that was killed had built of an index, a day after it last wrote."""
    for building in cache.glob(f"{BUILDING}*"):
        with suppress(FileNotFoundError):  # another is clearing as well, or has just finished
            if time.time() - max(path.stat().st_mtime for path in (building, *building.iterdir())) > ABANDONED_AFTER:
                shutil.rmtree(building, ignore_errors=True)


def example_of(record: Mapping[str, Any]) -> Example:
    """One row's example; its id follows from its texts, so that the same row has it in every copy and index.

    Raises:
        BadRecord: a text is absent.
    """
    shown, target = _text(record, INPUTS), _text(record, TARGETS)
    kind = record.get("_template_type", record.get("template_type"))
    identifier = hashlib.blake2b(f"{shown}\0{target}".encode(errors="replace"), digest_size=8).hexdigest()
    return Example(identifier, shown, (target,), fields={"_template_type": kind} if isinstance(kind, str) else {})


def _text(record: Mapping[str, Any], keys: Sequence[str]) -> str:
    for key in keys:
        if isinstance(text := record.get(key), str):
            return text.strip()
    raise BadRecord(f"no text {' or '.join(keys)}")


@dataclass
class _Kept:
    """Rows of one task so far: every `stride`-th of them, never more than twice the limit."""

    group: str
    source: str
    catalogued: bool
    limit: int
    names: set[str] = field(default_factory=set)
    rows: int = 0
    stride: int = 1
    places: array[int] = field(default_factory=lambda: array("Q"))
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=8))

    def add(self, place: tuple[int, int, int]) -> None:
        self.places.extend(place)
        if len(self.places) >= 6 * self.limit:
            self.places = array("Q", self._table()[::2].tobytes())
            self.stride *= 2

    def chosen(self) -> np.ndarray:
        """[kept, 3], evenly spread where there are more than the limit."""
        table = self._table()
        count = min(len(table), self.limit)
        return table[np.arange(count) * len(table) // max(count, 1)]

    def _table(self) -> np.ndarray:
        return np.frombuffer(self.places, dtype=np.uint64).reshape(-1, 3)


def _build(folder: Path, paths: Sequence[Path], limit: int, skips: Skips, into: Path) -> None:
    kept: dict[str, _Kept] = {}
    left_out: set[str] = set()
    contents: dict[bytes, Path] = {}
    copied = 0
    with (into / "rows.jsonl").open("wb") as copy:
        for number, path in enumerate(paths, start=1):
            log.info("indexing %s (%d of %d)", path.relative_to(folder), number, len(paths))
            empty, content = True, hashlib.blake2b()
            for place, span, record in _records(path, skips):
                empty = False
                try:
                    example = sound(example_of(record))
                    source, raw = _fact(record, "task_source"), _fact(record, "task_name")
                    group = _group(source)
                except BadRecord as error:
                    skips.bad(path, place, str(error))
                    continue
                content.update(f"{raw}\0{example.id}\n".encode())
                if group == "niv2" and "_mmmlu_" in raw:
                    left_out.add(raw)
                    continue
                known = catalogue_name(raw, group)
                name = known or _own_name(raw, group)
                if name in kept and kept[name].group != group:
                    name = f"{name}_{group}"
                task = kept.setdefault(name, _Kept(group, source, known is not None, limit))
                task.names.add(raw)
                if task.rows % task.stride == 0:
                    if span is None:
                        data = json.dumps(_row(example), ensure_ascii=False).encode(errors="replace") + b"\n"
                        copy.write(data)
                        span, copied = (copied, len(data)), copied + len(data)
                        task.add((0, *span))
                    else:
                        task.add((number, *span))
                task.rows += 1
                task.digest.update(example.id.encode())
            if empty:
                skips.bad(path, None, "no rows in it")
            elif (other := contents.setdefault(content.digest(), path)) != path:
                raise DataError(f"{path}: the same rows as {other}, which would count twice; delete one of them")
    if not kept:
        raise DataError(f"data.rendered={folder}: no rows in its {len(paths)} files")
    if left_out:
        log.info("left out %d copies of MMLU in NIV2, as the paper does", len(left_out))
    facts: dict[str, dict[str, Any]] = {}
    tables, first = [], 0
    for name, task in kept.items():
        tables.append(task.chosen())
        facts[name] = {"group": task.group, "source": task.source, "fingerprint": task.digest.hexdigest()}
        facts[name] |= {"catalogued": task.catalogued, "names": sorted({_shown(raw) for raw in task.names})}
        facts[name] |= {"rows": task.rows, "first": first, "kept": len(tables[-1])}
        first += len(tables[-1])
    np.save(into / "places.npy", np.concatenate(tables))
    index = {"tasks": facts, "left_out": dict(skips.counts), "first_left_out": skips.first}
    (into / "index.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def _records(path: Path, skips: Skips) -> Iterator[tuple[int | str, tuple[int, int] | None, dict[str, Any]]]:
    """(line or row, its bytes where they can be read alone, record) of one file."""
    if path.suffix == ".parquet":
        for place, record in parquet_rows(path, _COLUMNS, skips):
            yield place, None, record
        return
    packed = is_gzip(path)
    for line, start, data in byte_lines(path, skips):
        if data.isspace():
            continue
        try:
            record = json_object(data.decode("utf-8-sig" if line == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            skips.bad(path, line, f"not UTF-8 (byte 0x{data[error.start]:02x})")
        except BadRecord as error:
            skips.bad(path, line, str(error))
        else:
            yield line, None if packed else (start, len(data)), record


def _row(example: Example) -> dict[str, str]:
    return {"inputs": example.input, "targets": example.target, **example.fields}


def _shown(raw: str) -> str:
    """A name from the data as it may be printed: whatever it holds, in one line and without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in raw).split())


def _fact(record: Mapping[str, Any], name: str) -> str:
    value = record.get(f"_{name}", record.get(name))
    if not isinstance(value, str) or not value.strip():
        raise BadRecord(f"no text '_{name}'")
    return value.strip()


@lru_cache(maxsize=1 << 10)
def _group(source: str) -> str:
    if (group := SOURCES.get(re.sub(r"[^a-z0-9]", "", source.lower()))) is None:
        raise BadRecord(f"unknown task source {source[:80]!r}; known are {', '.join(SOURCES)}")
    return group


@lru_cache(maxsize=1 << 14)
def _own_name(raw: str, group: str) -> str:
    """A name for what the catalogue has not: the source's, safe in paths, and that of no task of the catalogue."""
    name = safe_name(raw)
    return f"{name}_{group}" if any(name in catalogued(other) for other in COUNTS) else name
