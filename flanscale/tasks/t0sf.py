"""What are the 193 tasks of T0-SF? Templates of P3 on datasets that Muffin has not, each already rendered.

Chung et al. 2022, §2.1; Sanh et al. 2022 for P3. A task is one template under the name that P3 gives it, so its wording
is the source's and stays as it is. Two forms are read, from `sf/` if the folder has it, else from the folder itself:

- `<template>.jsonl[.gz]` with `prompt` and `completion`, which ends in a literal `<|endoftext|>`;
- bigscience/P3 of the Hugging Face Hub, with `inputs_pretokenized`, `targets_pretokenized` and, for multiple choice,
  `answer_choices`: `<template>.jsonl[.gz]` or `.parquet`, or a folder `<template>/` of files whose path says `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flanscale.folders import entries
from flanscale.tasks.catalog import CatalogRow, catalogued
from flanscale.tasks.on_disk import OnDisk
from flanscale.tasks.reading import BadRecord, content_fingerprint, existing_folder, gather, json_lines, text_of
from flanscale.tasks.sources import to_fetch
from flanscale.tasks.tables import parquet_rows
from flanscale.tasks.task import Example, Skips, Task

END_OF_TEXT = "<|endoftext|>"
SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json", ".parquet")
_P3_COLUMNS = ("inputs_pretokenized", "targets_pretokenized", "answer_choices")


@dataclass(frozen=True)
class T0sf(OnDisk[list[Path]]):
    """The collection; a task's files are in name order."""

    name: str = "t0sf"

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        existing_folder(self.folder, "t0")
        root = self.folder / "sf" if (self.folder / "sf").is_dir() else self.folder
        found: dict[str, list[Path]] = {}
        for path in entries(root):
            if path.is_dir() and path.name in catalogued("t0sf"):
                if parts := _train_files(path):
                    found[path.name] = parts
            elif suffix := next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None):
                found.setdefault(path.name.removesuffix(suffix), [path])
        return {name: found[name] for name in catalogued("t0sf") if name in found}

    def _why_missing(self, row: CatalogRow) -> str:
        return (
            f"no {row.task}.jsonl[.gz], {row.task}.parquet or folder {row.task}/ in {self.folder}, which is a"
            f" configuration of bigscience/P3 on the Hugging Face Hub: {to_fetch('t0sf', self.folder)}"
        )

    def fingerprint(self, name: str) -> str:
        return content_fingerprint(self._source(name))

    def task(self, name: str) -> Task:
        examples: list[Example] = []
        for part, path in enumerate(self._source(name)):
            wanted = self.examples_per_task - len(examples)
            if wanted <= 0:
                break
            prefix = f"{part}-" if part else ""
            examples += gather(path, _records(path, self.skips), _parser(prefix), wanted, self.skips)
        return self._task(name, "", examples, "rendered")


def _train_files(folder: Path) -> list[Path]:
    """Files of a Hub repository's training split: `train-00000-of-00001.parquet`, `train/0000.parquet`, …"""
    return [
        path
        for path in entries(folder, "**/*")
        if path.name.endswith(SUFFIXES) and any(part.startswith("train") for part in path.relative_to(folder).parts)
    ]


def _records(path: Path, skips: Skips) -> Iterator[tuple[int | str, dict[str, Any]]]:
    return parquet_rows(path, _P3_COLUMNS, skips) if path.suffix == ".parquet" else json_lines(path, skips)


def _parser(prefix: str) -> Callable[[int | str, dict[str, Any]], Example]:
    """(place, record) → example; the prefix tells apart the ids of several files."""

    def example(place: int | str, record: dict[str, Any]) -> Example:
        identifier = f"{prefix}{str(place).removeprefix('row ')}"
        if "prompt" in record:
            completion = text_of(record, "completion").removesuffix(END_OF_TEXT).strip()
            return Example(identifier, text_of(record, "prompt").strip(), (completion,))
        if "inputs_pretokenized" not in record:
            raise BadRecord("neither prompt and completion nor inputs_pretokenized and targets_pretokenized")
        target = text_of(record, "targets_pretokenized").strip()
        choices = record.get("answer_choices") or []
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise BadRecord("answer_choices is no list of texts")
        options = tuple(choice.strip() for choice in choices)
        shown = text_of(record, "inputs_pretokenized").strip()
        return Example(identifier, shown, (target,), options=options if target in options else ())

    return example
