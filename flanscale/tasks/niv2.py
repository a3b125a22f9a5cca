"""Super-NaturalInstructions in its original JSON format: one file a task, plain or gzipped, and the official splits.

Wang et al. 2022 (arXiv 2204.07705). The folder holds `tasks/<task>.json[.gz]` and `splits/<split>/train_tasks.txt`
and `test_tasks.txt`, one task name a line. Tasks of one's own work the same: write them in this format.

The split `flan` is the paper's 1,554 tasks instead of an official list. It has no test list: the official default test
tasks are held out of it, their data here or not. Tasks made from the same sources as those stay in training, as they
do in the paper; the official default split leaves them out of both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flanscale.errors import DataError, nearest
from flanscale.folders import entries
from flanscale.tasks.catalog import catalogued
from flanscale.tasks.reading import (
    MAX_FIELD_CHARS,
    BadRecord,
    check_characters,
    content_fingerprint,
    json_document,
    sound,
)
from flanscale.tasks.sources import to_fetch
from flanscale.tasks.task import Example, Ordinary, Skips, Task

FLAN_SPLIT = "flan"
TEST_INSTANCES = 100
"""A task's first instances, which the authors put there, balanced by label: its official test set."""


@dataclass(frozen=True)
class Niv2(Ordinary):
    """The collection under one split: an official one by its folder's name, or `flan`."""

    folder: Path
    split: str
    examples_per_task: int
    skips: Skips = field(default_factory=Skips)
    name: str = "niv2"

    @cached_property
    def files(self) -> dict[str, Path]:
        """Task name → its file."""
        if not (self.folder / "tasks").is_dir():
            raise DataError(f"data.niv2={self.folder}: no folder tasks/ there; expected Super-NaturalInstructions")
        files: dict[str, Path] = {}
        for ending in (".json", ".json.gz"):
            for path in entries(self.folder / "tasks", f"*{ending}"):
                name = path.name.removesuffix(ending)
                if name in files:
                    self.skips.bad(path, None, "second file of a task; its plain .json is the one that counts")
                else:
                    files[name] = path
        if not files:
            raise DataError(f"data.niv2={self.folder}: tasks/ holds no *.json or *.json.gz file")
        return files

    @property
    def groups(self) -> dict[str, list[str]]:
        files = self.files  # first, so that a wrong folder is told before a missing list
        return {self.name: [task for task in self._training if task in files]}

    @cached_property
    def held_out(self) -> list[str]:
        return [task for task in self._test_tasks if task in self.files]

    @property
    def reserved(self) -> dict[str, str]:
        why = f"held out for evaluation: it is in the official {self._test_split} test split"
        return {
            task: why if task in self.files else f"{why}; {self._no_file(task)}"
            for task in self._test_tasks
            if task in catalogued(self.name)
        }

    @cached_property
    def missing(self) -> dict[str, str]:
        return {task: self._no_file(task) for task in self._training if task not in self.files}

    def _no_file(self, task: str) -> str:
        return f"no file {self.folder / 'tasks' / task}.json or .json.gz: {self._to_fetch}"

    @cached_property
    def _to_fetch(self) -> str:
        return to_fetch("niv2", self.folder)

    @cached_property
    def _training(self) -> list[str]:
        if self.split != FLAN_SPLIT:
            return self._listed(self.split, "train")
        test_tasks = set(self._test_tasks)
        return [task for task in catalogued(self.name) if task not in test_tasks]

    @property
    def _test_split(self) -> str:
        return "default" if self.split == FLAN_SPLIT else self.split

    @cached_property
    def _test_tasks(self) -> list[str]:
        return self._listed(self._test_split, "test")

    def _listed(self, split: str, part: str) -> list[str]:
        """Task names of one official list."""
        path = self.folder / "splits" / split / f"{part}_tasks.txt"
        if not path.is_file():
            known = [p.name for p in entries(self.folder / "splits") if p.is_dir()]
            raise DataError(f"{path}: no such list; splits here: {', '.join([*known, FLAN_SPLIT])}")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        for number, task in enumerate(lines, start=1):
            if "/" in task or "\\" in task or task.startswith("."):
                raise DataError(f"{path}:{number}: {task!r} is no task name; expected one without / and leading dot")
        return list(dict.fromkeys(filter(None, lines)))

    def category(self, name: str) -> str:
        """The catalogue's category, which is FLAN's and finer where the file says Misc.; the file's for other tasks."""
        row = catalogued(self.name).get(name)
        return row.category if row else self.task(name).category

    def fingerprint(self, name: str) -> str:
        return content_fingerprint([self._file(name)])

    def task(self, name: str) -> Task:
        """Load one task; a held-out one with its official test instances only.

        Where bad records may be skipped, a file that cannot be read gives a task without examples.

        Raises:
            DataError: no file, or a bad record that may not be skipped.
        """
        path = self._file(name)
        row = catalogued(self.name).get(name)
        record = self._record(path)
        most = min(self.examples_per_task, TEST_INSTANCES) if name in self.held_out else self.examples_per_task
        return Task(
            name=name,
            collection=self.name,
            category=row.category if row else ", ".join(_texts(record.get("Categories"))),
            instruction="\n".join(_texts(record.get("Definition"))).strip(),
            examples=list(self._examples(path, record, "Instances", most)),
            exemplars=tuple(self._examples(path, record, "Positive Examples")),
            licence=", ".join(_texts(record.get("Instance License"))) or "unknown",
            dataset=", ".join(_texts(record.get("Source"))),
        )

    def negative_examples(self, name: str) -> tuple[Example, ...]:
        """The task's examples of wrong answers; the field `explanation` says what is wrong."""
        path = self._file(name)
        return tuple(self._examples(path, self._record(path), "Negative Examples"))

    def _file(self, name: str) -> Path:
        if name not in self.files:
            raise DataError(f"task {name!r} has no file in {self.folder / 'tasks'}{nearest(name, self.files)}")
        return self.files[name]

    def _record(self, path: Path) -> dict[str, Any]:
        """A task file's content; empty where it is malformed and may be skipped."""
        try:
            record = json_document(path)
        except DataError:
            if not self.skips.allowed:
                raise
            self.skips.bad(path, None, "task file not readable as JSON")
            return {}
        why = _flaw(record)
        if why:
            self.skips.bad(path, None, f"not a Super-NaturalInstructions task: {why}")
            return {}
        return record

    def _examples(self, path: Path, record: dict[str, Any], key: str, most: int | None = None) -> Iterator[Example]:
        """The sound ones of the first `most` records under a key; the others are bad records."""
        kind = key.removesuffix("s").lower()
        for number, item in enumerate(record.get(key, [])[:most], start=1):
            try:
                yield _example(item, f"{kind}-{number}")
            except BadRecord as error:
                self.skips.bad(path.with_name(f"{path.name}, {kind} {number}"), None, str(error))


def _flaw(record: Any) -> str | None:
    """Why a file's content is no task, if it is none."""
    if not isinstance(record, dict):
        return f"a JSON {type(record).__name__}, expected an object"
    for key in ("Definition", "Instances"):
        if not record.get(key):
            return f"no {key}"
    for key in ("Instances", "Positive Examples", "Negative Examples"):
        if not isinstance(record.get(key, []), list):
            return f"{key} is no list"
    definition = "\n".join(_texts(record["Definition"])).strip()
    if not 0 < len(definition) <= MAX_FIELD_CHARS:
        return f"Definition is not text of at most {MAX_FIELD_CHARS:,} characters"
    try:
        check_characters(definition)
    except BadRecord as error:
        return f"Definition holds {error}"
    return None


def _example(item: Any, identifier: str) -> Example:
    """One instance or worked example; blank references count only where there is no other: nothing was to be found.

    Raises:
        BadRecord: no input, no output, or one that is no text or cannot be learned from.
    """
    if not isinstance(item, dict) or not isinstance(item.get("input"), str):
        raise BadRecord("no text 'input'")
    output = item.get("output")
    if output in (None, []):
        raise BadRecord("no output")
    for value in output if isinstance(output, list) else [output]:
        if not isinstance(value, str):
            raise BadRecord(f"output {json.dumps(value)[:40]} is no text; a number stands in quotes there")
    references = [text.strip() for text in _texts(output)]
    answers = tuple(filter(None, references))
    explanation = item.get("explanation")
    checked = sound(
        Example(
            id=str(item.get("id") or identifier),
            input=item["input"].strip(),
            references=answers or ("nothing",),
            fields={"explanation": explanation.strip()} if isinstance(explanation, str) else {},
        )
    )
    return checked if answers else replace(checked, references=("",))


def _texts(value: Any) -> list[str]:
    """The texts of a field that is one text or a list of them."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
