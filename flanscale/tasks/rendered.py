"""What is in a copy of the Flan 2022 collection as the Hugging Face Hub has it? Rendered rows, sorted into their tasks.

Longpre et al. 2023 (arXiv 2301.13688). Sources are grouped as the paper groups them, Dialog and program synthesis with
Muffin; a task has the catalogue's name where the source's can be told to mean it, else the source's own. The wording is
the source's, few-shot exemplars and chains of thought included, and stays as it is. `rendered_index` says which forms
are read and how folders too large for memory are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.errors import DataError, nearest
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.reading import BadRecord, json_object
from flanscale.tasks.rendered_index import Index, example_of, index_rows
from flanscale.tasks.task import Example, Skips, Task


@dataclass(frozen=True)
class Rendered:
    """The collection; the first question about its tasks builds the index."""

    folder: Path
    examples_per_task: int
    skips: Skips = field(default_factory=Skips)
    cache: Path = Path("~/.cache/flanscale")
    name: str = "rendered"

    @cached_property
    def index(self) -> Index:
        return index_rows(self.folder, self.examples_per_task, self.skips, self.cache.expanduser() / "rendered")

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        groups = {}
        for group in COUNTS:
            names = [name for name, entry in self.index.tasks.items() if entry["group"] == group]
            listed = [name for name in catalogued(group) if name in names]
            groups[group] = listed + sorted(set(names) - set(listed))
        return {group: names for group, names in groups.items() if names}

    @property
    def held_out(self) -> list[str]:
        return []

    @cached_property
    def missing(self) -> dict[str, str]:
        why = f"no rows under this name in {self.folder}; other files of the collection may hold them"
        return {name: why for group in COUNTS for name in catalogued(group) if name not in self.index.tasks}

    def category(self, name: str) -> str:
        entry = self._entry(name)
        row = catalogued(entry["group"]).get(name)
        return row.category if row else entry["source"]

    def fingerprint(self, name: str) -> str:
        return str(self._entry(name)["fingerprint"])

    def task(self, name: str) -> Task:
        entry = self._entry(name)
        row = catalogued(entry["group"]).get(name)
        return Task(
            name=name,
            collection=self.name,
            category=self.category(name),
            instruction="",
            examples=_Rows(self.index.files, self.index.places(name)),
            licence=row.licence if row and row.licence else "unknown",
            dataset=row.dataset if row else name,
            style="rendered",
        )

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.index.tasks:
            raise DataError(f"no task {name!r} in {self.folder}{nearest(name, self.index.tasks)}")
        return self.index.tasks[name]


class _Rows(Sequence[Example]):
    """The examples of one task, each read when asked for."""

    def __init__(self, files: Sequence[Path], places: np.ndarray) -> None:
        self._files, self._places = files, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices: nobody asks for them
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, start, length = map(int, self._places[index])
        try:
            with self._files[number].open("rb") as stream:
                stream.seek(start)
                return example_of(json_object(stream.read(length).decode("utf-8-sig")))
        except (OSError, UnicodeDecodeError, BadRecord) as error:
            raise DataError(f"{self._files[number]}: changed since it was indexed ({error}); start again") from error
