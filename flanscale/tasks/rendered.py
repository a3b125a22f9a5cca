"""What is in a copy of the Flan 2022 collection as the Hugging Face Hub has it? Rendered rows, sorted into their tasks.

Longpre et al. 2023 (arXiv 2301.13688). Sources are grouped as the paper groups them, Dialog and program synthesis with
Muffin, and `flan_names` tells which task of the catalogue a row's name means. Rows under names that the catalogue has
not are no part of the paper's 1,836 tasks: they are in no group and so in no mixture, but listed as `uncatalogued`.
`rendered_index` says which forms are read and how folders too large for memory are.

The wording is the source's, few-shot exemplars and rationales included, and stays as it is. Every row of a CoT task has
its rationale in its target, or, where it asks for the question from the answer, in one of its texts (`PATTERNS` and
`FEWSHOT_PATTERNS` of google-research/FLAN, flan/v2/templates.py); no other group's rows have any. So at cot=false the
group `cot` is left out whole: `fixed_rationales`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.errors import DataError, nearest
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.flan_names import NEVER_RENDERED
from flanscale.tasks.reading import BadRecord, json_object
from flanscale.tasks.rendered_index import Index, Stamp, example_of, index_rows, stamp
from flanscale.tasks.task import Example, Ordinary, Skips, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rendered(Ordinary):
    """The collection; the first question about its tasks builds the index."""

    folder: Path
    examples_per_task: int
    skips: Skips = field(default_factory=Skips)
    cache: Path = Path("~/.cache/flanscale")
    name: str = "rendered"

    @property
    def fixed_rationales(self) -> bool:
        return True

    @cached_property
    def index(self) -> Index:
        index = index_rows(self.folder, self.examples_per_task, self.skips, self.cache.expanduser() / "rendered")
        others = [name for name, entry in index.tasks.items() if not entry["catalogued"]]
        if others:
            log.warning(
                "%s: in no mixture, for the paper's catalogue has no such tasks: %s rows, names: %d (%s);"
                " `flanscale tasks list collection=rendered data.rendered=…` lists them",
                self.folder,
                f"{sum(index.tasks[name]['rows'] for name in others):,}",
                sum(len(index.tasks[name]["names"]) for name in others),
                ", ".join(sorted(others)[:3]) + (", …" if len(others) > 3 else ""),
            )
        return index

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        here = {group: [name for name in catalogued(group) if name in self.index.tasks] for group in COUNTS}
        return {group: names for group, names in here.items() if names}

    @cached_property
    def uncatalogued(self) -> dict[str, str]:
        """Names in the rows that mean no task of the catalogue, by group → what they are."""
        entries = {name: entry for name, entry in sorted(self.index.tasks.items()) if not entry["catalogued"]}
        why = "no task of the paper's catalogue; rows of {}"
        return {
            name: why.format(f"{entry['source']}, named {', '.join(entry['names'])}")
            for group in COUNTS
            for name, entry in entries.items()
            if entry["group"] == group
        }

    @property
    def held_out(self) -> list[str]:
        return []

    @cached_property
    def missing(self) -> dict[str, str]:
        why = f"no rows of it in {self.folder}; other files of the collection may hold them"
        absent = [name for group in COUNTS for name in catalogued(group) if name not in self.index.tasks]
        return {name: NEVER_RENDERED.get(name, why) for name in absent}

    def category(self, name: str) -> str:
        entry = self.entry(name)
        row = catalogued(entry["group"]).get(name)
        return row.category if row else entry["source"]

    def fingerprint(self, name: str) -> str:
        return str(self.entry(name)["fingerprint"])

    def task(self, name: str) -> Task:
        entry = self.entry(name)
        row = catalogued(entry["group"]).get(name)
        return Task(
            name=name,
            collection=self.name,
            category=self.category(name),
            instruction="",
            examples=_Rows(self.index.files, self.index.stamps, self.index.places(name)),
            licence=row.licence if row and row.licence else "unknown",
            dataset=row.dataset if row else name,
            style="rendered",
        )

    def entry(self, name: str) -> dict[str, Any]:
        """What the index says of a task, as `Index.tasks` does.

        Raises:
            DataError: no such task.
        """
        if name not in self.index.tasks:
            raise DataError(f"no task {name!r} in {self.folder}{nearest(name, self.index.tasks)}")
        return self.index.tasks[name]


class _Rows(Sequence[Example]):
    """The examples of one task, each read when asked for."""

    def __init__(self, files: Sequence[Path], stamps: Sequence[Stamp], places: np.ndarray) -> None:
        self._files, self._stamps, self._places = files, stamps, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices: nobody asks for them
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, start, length = map(int, self._places[index])
        try:
            with self._files[number].open("rb") as stream:
                if stamp(os.fstat(stream.fileno())) != self._stamps[number]:
                    raise BadRecord("other size or time")
                stream.seek(start)
                return example_of(json_object(stream.read(length).decode("utf-8-sig")))
        except (OSError, UnicodeDecodeError, BadRecord) as error:
            raise DataError(f"{self._files[number]}: changed since it was indexed ({error}); start again") from error
