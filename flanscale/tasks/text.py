"""How does a cell learn from plain text? A folder of `.txt` and `.jsonl` files; see docs/objectives.md.

A `.txt` file is one text, a line of a `.jsonl` file another (its field `text`; other fields are left aside); either may
be gzip. Nothing is asked and nothing answered: what of a text is learned is the cell's objective.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flanscale.errors import DataError, nearest
from flanscale.folders import files_below
from flanscale.tasks.reading import (
    BadRecord,
    check_characters,
    content_fingerprint,
    existing_folder,
    json_lines,
    safe_name,
    text_lines,
    text_of,
)
from flanscale.tasks.task import Example, Ordinary, Skips, Task

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")
PIECE_CHARS = 1 << 14
"""Longer texts are cut into examples at line ends, else at spaces: what reads one window reads one example whole."""


@dataclass(frozen=True)
class Text(Ordinary):
    """The collection: all files under a folder, in the order of their names; one task in all, or one a file."""

    folder: Path
    examples_per_task: int
    task_per_file: bool = False
    skips: Skips = field(default_factory=Skips)
    name: str = "text"

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """Task name → its files."""
        folder = existing_folder(self.folder, "text")
        found = files_below(folder, SUFFIXES)
        if not found:
            raise DataError(f"data.text={self.folder}: no file there that ends in {', '.join(SUFFIXES)}")
        if not self.task_per_file:
            return {self.name: found}
        files: dict[str, list[Path]] = {}
        for path in found:
            suffix = max((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), key=len)
            name = safe_name(str(path.relative_to(folder)).removesuffix(suffix))
            if name in files:
                raise DataError(f"{path}: task {name} is also in {files[name][0]}; rename one of them")
            files[name] = [path]
        return files

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        return {self.name: list(self.files)}

    @property
    def held_out(self) -> list[str]:
        return []

    @property
    def missing(self) -> dict[str, str]:
        return {}

    def category(self, name: str) -> str:
        return self.name

    def fingerprint(self, name: str) -> str:
        return content_fingerprint(self._files(name), form=f"text in pieces of {PIECE_CHARS}")

    def task(self, name: str) -> Task:
        examples: list[Example] = []
        for path in self._files(name):
            for example in _examples(path, self.folder, self.skips):
                if len(examples) == self.examples_per_task:
                    break
                examples.append(example)
        if not examples:
            raise DataError(f"{', '.join(map(str, self._files(name)[:3]))}: no text")
        return Task(name, self.name, self.name, instruction="", examples=examples, dataset=name, style="text")

    def _files(self, name: str) -> list[Path]:
        if name not in self.files:
            raise DataError(f"no task {name!r} in data.text={self.folder}{nearest(name, self.files)}")
        return self.files[name]


def pieces(lines: Iterator[str], most: int = PIECE_CHARS) -> Iterator[str]:
    """The lines of one text, put together to pieces of at most `most` characters that add up to the text.

    A line that is longer is cut after a space, or anywhere where it has none. White space alone makes no piece.
    """
    held: list[str] = []
    size = 0
    for line in lines:
        for part in _cut(line, most):
            if size + len(part) > most:
                yield from _sound(held)
                held, size = [], 0
            held.append(part)
            size += len(part)
    yield from _sound(held)


def _cut(line: str, most: int) -> Iterator[str]:
    start = 0
    while len(line) - start > most:
        end = line.rfind(" ", start + most // 2, start + most) + 1 or start + most
        yield line[start:end]
        start = end
    yield line[start:]


def _sound(parts: list[str]) -> Iterator[str]:
    text = "".join(parts)
    if text and not text.isspace():
        yield text


def _examples(path: Path, folder: Path, skips: Skips) -> Iterator[Example]:
    name = str(path.relative_to(folder))
    for place, lines in _texts(path, skips):
        try:
            for number, piece in enumerate(pieces(lines)):
                check_characters(piece)
                yield Example(f"{name}:{place}:{number}", piece, ("",))
        except BadRecord as error:
            skips.bad(path, place, str(error))


def _texts(path: Path, skips: Skips) -> Iterator[tuple[int, Iterator[str]]]:
    """(line, lines with their ends) of each text of a file."""
    if path.name.endswith((".txt", ".txt.gz")):
        yield 1, (line + "\n" for _, line in text_lines(path, skips))
        return
    for place, record in json_lines(path, skips):
        try:
            text = text_of(record, "text")
        except BadRecord as error:
            skips.bad(path, place, str(error))
            continue
        yield place, iter(text.splitlines(keepends=True))
