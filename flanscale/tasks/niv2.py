"""Super-NaturalInstructions in its original JSON format: one file a task, plain or gzipped, and the official splits.

Wang et al. 2022 (arXiv 2204.07705). The folder holds `tasks/<task>.json[.gz]` and `splits/<split>/train_tasks.txt`
and `test_tasks.txt`, one task name a line. A task's first instances are its official test instances, so evaluation
takes instances from the start of the file. Tasks of one's own work the same: write them in this format.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flanscale.tasks.task import DataError, Example, Task


def fingerprint(folder: Path, split: str) -> str:
    """Sixteen hexadecimal characters over the split lists and the content of every task file that they name.

    Raises:
        DataError: no folder, no split, no task files.
    """
    digest = hashlib.sha256()
    collection = Niv2(folder, split, examples_per_task=1)
    files = collection.files
    for name in (*collection.groups["train"], *collection.held_out):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name].read_bytes()).digest())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Niv2:
    """The collection under one official split."""

    folder: Path
    split: str
    examples_per_task: int
    name: str = "niv2"

    @cached_property
    def files(self) -> dict[str, Path]:
        """Task name → its file."""
        if not (self.folder / "tasks").is_dir():
            raise DataError(f"data.niv2={self.folder}: no folder tasks/ there; expected Super-NaturalInstructions")
        files = {
            path.name.split(".json")[0]: path
            for pattern in ("*.json", "*.json.gz")
            for path in sorted((self.folder / "tasks").glob(pattern))
        }
        if not files:
            raise DataError(f"data.niv2={self.folder}: tasks/ holds no *.json or *.json.gz file")
        return files

    @property
    def groups(self) -> dict[str, list[str]]:
        return {"train": [name for name in self._listed("train") if name in self.files]}

    @property
    def held_out(self) -> list[str]:
        return [name for name in self._listed("test") if name in self.files]

    @property
    def missing(self) -> list[str]:
        return [name for name in self._listed("train") if name not in self.files]

    def _listed(self, part: str) -> list[str]:
        path = self.folder / "splits" / self.split / f"{part}_tasks.txt"
        if not path.is_file():
            known = sorted(p.name for p in (self.folder / "splits").glob("*") if p.is_dir())
            raise DataError(f"{path}: no such list; splits here: {', '.join(known) or 'none'}")
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def task(self, name: str) -> Task:
        if name not in self.files:
            raise DataError(f"task {name!r} has no file in {self.folder / 'tasks'}")
        return _read(self.files[name], name, self.examples_per_task)


def _read(path: Path, name: str, examples_per_task: int) -> Task:
    try:
        data = path.read_bytes()
        record = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {str(error).splitlines()[0]}") from error
    try:
        return Task(
            name=name,
            collection="niv2",
            category=", ".join(record["Categories"]),
            instruction="\n".join(_list(record["Definition"])).strip(),
            examples=[_example(item, str(item["id"])) for item in record["Instances"][:examples_per_task]],
            exemplars=tuple(_example(item, f"positive-{i}") for i, item in enumerate(record["Positive Examples"])),
            licence=", ".join(_list(record.get("Instance License", "unknown"))),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: not a Super-NaturalInstructions task: {type(error).__name__} at {error}") from error


def _example(item: dict[str, Any], identifier: str) -> Example:
    references = tuple(str(text).strip() for text in _list(item["output"]))
    return Example(identifier, str(item["input"]).strip(), (references[0], *references[1:]))


def _list(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [value]
