"""Which tasks of the paper's catalogue does a folder hold? What the file collections of one group of it share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from flanscale.errors import DataError, nearest
from flanscale.schema import DataConfig
from flanscale.tasks.catalog import CatalogRow, catalogued
from flanscale.tasks.sources import read_sources, to_fetch
from flanscale.tasks.task import Example, Ordinary, Skips, Task

FOLDERS = {
    "cot": "cot",
    "muffin": "muffin",
    "t0sf": "t0",
    "niv2": "niv2",
    "rendered": "rendered",
    "jsonl": "jsonl",
    "text": "text",
}
"""Collection → the key of `data`, and the folder's name under data.root, that holds it."""


Source = TypeVar("Source")
"""What a task is read from: one file, or several."""


@dataclass(frozen=True)
class OnDisk(Ordinary, Generic[Source]):
    """A group of the catalogue, named as there, in a folder; tasks without data are missing, and the rest go on."""

    folder: Path
    examples_per_task: int
    skips: Skips = field(default_factory=Skips)
    name: str = ""

    @property
    @abstractmethod
    def files(self) -> Mapping[str, Source]:
        """Task name → what it is read from, in catalogue order."""

    @abstractmethod
    def _why_missing(self, row: CatalogRow) -> str:
        """Why a task has no data here, and what to do about it."""

    @property
    def groups(self) -> dict[str, list[str]]:
        return {self.name: list(self.files)}

    @property
    def held_out(self) -> list[str]:
        return []

    @cached_property
    def missing(self) -> dict[str, str]:
        return {name: self._why_missing(row) for name, row in catalogued(self.name).items() if name not in self.files}

    def category(self, name: str) -> str:
        return self._row(name).category

    def _row(self, name: str) -> CatalogRow:
        if name not in catalogued(self.name):
            raise DataError(f"no task {name!r} in {self.name}{nearest(name, catalogued(self.name))}")
        return catalogued(self.name)[name]

    def _source(self, name: str) -> Source:
        self._row(name)
        if name not in self.files:
            raise DataError(f"task {name}: {self.missing[name]}")
        return self.files[name]

    def _task(self, name: str, instruction: str, examples: Sequence[Example], style: str) -> Task:
        row = self._row(name)
        return Task(
            name=name,
            collection=self.name,
            category=row.category,
            instruction=instruction,
            examples=examples,
            licence=row.licence or "unknown",
            dataset=row.dataset,
            style=style,
        )


def no_folder(collection: str) -> str:
    """Why a collection's tasks are missing altogether, and what to do."""
    return f"no data of {collection}: {_what_to_give(DataConfig(), FOLDERS[collection])}"


def _what_to_give(data: DataConfig, key: str) -> str:
    no_such = f", but {data.root} has none" if data.root is not None else ""
    folder = None if data.root is None else Path(data.root) / key
    fetched = next((name for name, source in read_sources().items() if source.folder == key), None)
    how = f"; {to_fetch(fetched, folder)}" if fetched else ""
    return f"give data.{key}=<folder>, or data.root=<folder that holds {key}/>{no_such}{how}"
