"""How does a study learn from tasks of one's own? One file of JSON Lines a task; docs/own_tasks.md shows the format.

`<task>.jsonl` or `.jsonl.gz`: first, if wanted, a header with facts about the task, then one example a line. Held-out
tasks are named in `held_out.txt`, or in `splits/test_tasks.txt` beside `splits/train_tasks.txt` as
Super-NaturalInstructions has them. Everything is checked and nothing guessed: a misspelt key that was passed over would
train on less than its author wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from flanscale.errors import DataError, did_you_mean, nearest
from flanscale.folders import entries
from flanscale.tasks.reading import (
    BadRecord,
    content_fingerprint,
    existing_folder,
    gather,
    json_lines,
    safe_name,
    text_lines,
)
from flanscale.tasks.task import Example, Ordinary, Skips, Task

FACTS = ("instruction", "category", "licence", "dataset", "style")
"""Keys of a header, all texts and all optional."""
KEYS = ("input", "output", "id", "rationale", "options")
"""Keys of an example; the first two are required."""
ELSEWHERE = {
    **dict.fromkeys(("inputs", "prompt", "question", "source", "context"), "input"),
    **dict.fromkeys(("outputs", "target", "targets", "answer", "answers", "completion", "response", "label"), "output"),
    **dict.fromkeys(("cot", "explanation", "reasoning"), "rationale"),
    **dict.fromkeys(("choices", "labels"), "options"),
}
"""What other formats call a key of an example."""
STYLES = ("instruction", "question", "classification", "generation", "rendered")
SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Jsonl(Ordinary):
    """The collection: all files of a folder, in name order, or those that its lists name, in list order."""

    folder: Path
    examples_per_task: int
    skips: Skips = field(default_factory=Skips)
    name: str = "jsonl"

    @cached_property
    def files(self) -> dict[str, Path]:
        """Task name → its file, in name order."""
        found: dict[str, Path] = {}
        for path in entries(existing_folder(self.folder, "jsonl")):
            suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
            if suffix is None or not path.is_file():
                continue
            name = path.name.removesuffix(suffix)
            if name != safe_name(name):
                raise DataError(f"{path}: a task's name has letters, digits and ._+- only; rename it {safe_name(name)}")
            if name in found:
                raise DataError(f"{path}: task {name} is also in {found[name].name}; keep one of them")
            found[name] = path
        if not found:
            raise DataError(f"data.jsonl={self.folder}: no *.jsonl or *.jsonl.gz file there; see docs/own_tasks.md")
        return found

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        train = self.folder / "splits" / "train_tasks.txt"
        names = list(dict.fromkeys(name for _, name in self._listed(train))) if train.is_file() else list(self.files)
        if both := sorted(set(names) & set(self.held_out)) if train.is_file() else []:
            raise DataError(f"{train}: {', '.join(both[:3])} is held out as well; a task is one or the other")
        return {self.name: [name for name in names if name in self.files and name not in self.held_out]}

    @cached_property
    def held_out(self) -> list[str]:
        lists = [self.folder / "held_out.txt", self.folder / "splits" / "test_tasks.txt"]
        present = [path for path in lists if path.is_file()]
        if len(present) > 1:
            raise DataError(f"{present[0]}: {present[1]} names held-out tasks too; keep one of them")
        names = [item for path in present for item in self._listed(path)]
        for line, name in names:
            if name not in self.files:  # never passed over: a typing error would train on a held-out task
                raise DataError(f"{present[0]}:{line}: no task {name!r} here{nearest(name, self.files)}")
        return list(dict.fromkeys(name for _, name in names))

    @cached_property
    def missing(self) -> dict[str, str]:
        train = self.folder / "splits" / "train_tasks.txt"
        listed = self._listed(train) if train.is_file() else []
        return {
            name: f"{train}:{line} names it, but there is no {name}.jsonl[.gz]{nearest(name, self.files)}"
            for line, name in listed
            if name not in self.files
        }

    def category(self, name: str) -> str:
        return _head(self._file(name), Skips(self.skips.allowed))[0].get("category", "unknown")

    def fingerprint(self, name: str) -> str:
        return content_fingerprint([self._file(name)])

    def task(self, name: str) -> Task:
        path = self._file(name)
        facts, records = _head(path, self.skips)
        return Task(
            name=name,
            collection=self.name,
            category=facts.get("category", "unknown"),
            instruction=facts.get("instruction", ""),
            examples=gather(path, records, _parser(), self.examples_per_task, self.skips),
            licence=facts.get("licence", "unknown"),
            dataset=facts.get("dataset", name),
            style=facts.get("style", "instruction"),
        )

    def _file(self, name: str) -> Path:
        if name not in self.files:
            raise DataError(f"no task {name!r} in data.jsonl={self.folder}{nearest(name, self.files)}")
        return self.files[name]

    def _listed(self, path: Path) -> list[tuple[int, str]]:
        """(line, task name) of a list; blank lines and what follows # do not count."""
        lines = ((number, text.partition("#")[0].strip()) for number, text in text_lines(path, Skips()))
        return [(number, name) for number, name in lines if name]


def _head(path: Path, skips: Skips) -> tuple[dict[str, str], Iterator[tuple[int, dict[str, Any]]]]:
    """(the header's facts, or nothing where the first line is an example already, the remaining records)."""
    records = json_lines(path, skips)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path}: no examples; expected one JSON object a line with input and output")
    line, record = first
    if {"input", "output"} & record.keys() or not set(FACTS) & record.keys():
        return {}, chain([first], records)
    for key, value in record.items():
        if key not in FACTS:
            raise DataError(f"{path}:{line}: unknown key {key!r} in the header{_meant(key, FACTS)}")
        if not isinstance(value, str):
            raise DataError(f"{path}:{line}: header: {key} is {_kind(value)}, expected a text")
    if record.get("style", STYLES[0]) not in STYLES:
        raise DataError(f"{path}:{line}: style {record['style']!r}, expected one of {', '.join(STYLES)}")
    return {key: value.strip() for key, value in record.items()}, records


def _parser() -> Callable[[int, dict[str, Any]], Example]:
    """(line, record) → example of one file, whose ids name one example each."""
    seen: set[str] = set()

    def example(line: int, record: dict[str, Any]) -> Example:
        for key in record:
            if key not in KEYS:
                raise BadRecord(f"unknown key {key!r}{_meant(key, KEYS + FACTS if line == 1 else KEYS)}")
        given = {key: value for key, value in record.items() if value is not None}
        output = given.get("output", [])
        outputs = _texts("output", [output] if isinstance(output, str) else output)
        options = _texts("options", given.get("options", []))
        (shown,) = _texts("input", [given.get("input", "")])
        rationale = _texts("rationale", [given["rationale"]])[0] if "rationale" in given else None
        if rationale == "":
            raise BadRecord("empty rationale; leave the key out where there is none")
        if options and outputs and outputs[0] not in options:
            raise BadRecord("output is not among the options")
        identifier = given.get("id", line)
        if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
            raise BadRecord(f"id is {_kind(identifier)}, expected a text or a whole number")
        if str(identifier) in seen:
            raise BadRecord("its id names an earlier example already")
        seen.add(str(identifier))
        return Example(str(identifier), shown, outputs, rationale, options)

    return example


def _texts(key: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise BadRecord(f"{key} is {_kind(values)}, expected a {'text or a ' if key == 'output' else ''}list of texts")
    for value in values:
        if not isinstance(value, str):
            raise BadRecord(f"{key} is or holds {_kind(value)}, expected texts")
    return tuple(value.strip() for value in values)


def _meant(key: str, known: Iterable[str]) -> str:
    if key.lower() in ELSEWHERE:
        return did_you_mean([ELSEWHERE[key.lower()]])
    return nearest(key, known) or f"; known are {', '.join(known)}"


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        dict: "an object",
        list: "a list",
        str: "a text",
    }
    return names.get(type(value), "null")
