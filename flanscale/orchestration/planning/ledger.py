"""Which runs make up a study? The index `studies/<name>.json`, which outlives the launcher and feeds the report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flanscale import __version__
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.cost import devices
from flanscale.orchestration.planning.plan import Plan, Point
from flanscale.run_directory import EVALUATIONS, read_state, write_atomically
from flanscale.schema import PathsConfig

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One cell of the index: where it lies, and what it takes."""

    id: str
    run: str  # name of the run directory
    steps: int
    parameters: int
    flops: float  # of training
    parents: tuple[str, ...] = ()  # ids of cells that must be finished before it starts
    devices: int = 1  # of its job

    @property
    def label(self) -> str:
        """The readable part of the run's name, and the suite's where it is asked one."""
        run, _, evaluation = self.run.partition(f"/{EVALUATIONS}/")
        own = run.partition("-")[2] if evaluation else self.run.removeprefix(f"{self.id}-")
        return f"{own}: {evaluation.rpartition('-')[0]}" if evaluation else own


@dataclass(frozen=True)
class Ledger:
    """A study's index."""

    path: Path
    study: str
    title: str
    overrides: tuple[str, ...]
    axes: dict[str, list[Any]]
    points: tuple[Point, ...]
    entries: tuple[Entry, ...]
    runs: Path  # absolute
    removed: tuple[Entry, ...] = ()  # unfinished cells of an earlier launch that the study no longer has

    def directory(self, entry: Entry) -> Path:
        """The run directory of a cell."""
        return self.runs / entry.run


def ledger_of(plan: Plan) -> Ledger:
    """The index of a plan; of an index that is there already it keeps what is no longer in the plan and unfinished.

    Raises:
        ConfigError: what lies where the index belongs is not one.
    """
    path = Path(plan.paths.studies).expanduser().absolute() / f"{plan.study.name}.json"
    entries = tuple(
        Entry(
            *(cell.id, cell.run, cell.cost.steps, cell.cost.parameters, cell.cost.flops),
            parents=cell.parents,
            devices=devices(cell.config),
        )
        for cell in plan.cells
    )
    return Ledger(
        path=path,
        study=plan.study.name,
        title=plan.study.title,
        overrides=plan.overrides,
        axes={key: list(values) for key, values in plan.study.axes.items()},
        points=plan.points,
        entries=entries,
        runs=plan.runs,
        removed=tuple(_removed(read_ledger(path), entries)) if path.exists() else (),
    )


def _removed(before: Ledger, entries: Iterable[Entry]) -> Iterator[Entry]:
    """What an earlier index had and these entries have not, as long as it was begun and is unfinished."""
    kept = {entry.id for entry in entries}
    for entry in (*before.entries, *before.removed):
        directory = before.directory(entry)
        if entry.id not in kept and directory.is_dir() and read_state(directory).state != "finished":
            yield entry


def write_ledger(ledger: Ledger) -> None:
    """Write the index, in one step."""
    run_of = {entry.id: entry.run for entry in ledger.entries}
    document = {
        "format": FORMAT,
        "study": ledger.study,
        "title": ledger.title,
        "flanscale": __version__,
        "runs": os.path.relpath(ledger.runs, ledger.path.parent),
        "overrides": list(ledger.overrides),
        "axes": ledger.axes,
        "points": [{"axes": point.axes, "cell": point.cell, "run": run_of[point.cell]} for point in ledger.points],
        "cells": {entry.id: _record(entry) for entry in ledger.entries},
        "removed": {entry.id: _record(entry) for entry in ledger.removed},
    }
    write_atomically(ledger.path, json.dumps(document, indent=1) + "\n")


def _record(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if name != "id"}


def read_ledger(path: Path) -> Ledger:
    """Read an index.

    Raises:
        ConfigError: there is none at this path, or it is not one.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, expected {FORMAT}")
        run_of = {point["cell"]: point["run"] for point in document["points"]}
        return Ledger(
            path=path.absolute(),
            study=document["study"],
            title=document["title"],
            overrides=tuple(document["overrides"]),
            axes=document["axes"],
            points=tuple(Point(point["axes"], point["cell"]) for point in document["points"]),
            entries=tuple(
                _entry(cell, {"run": run_of.get(cell), **record}) for cell, record in document["cells"].items()
            ),
            runs=Path(os.path.normpath(path.absolute().parent / document["runs"])),
            removed=tuple(_entry(cell, record) for cell, record in document.get("removed", {}).items()),
        )
    except FileNotFoundError as error:
        raise ConfigError(f"no study index at {path}; `flanscale launch {path.stem}` makes it") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a study index ({type(error).__name__}: {error})") from error


def _entry(cell: str, record: dict[str, Any]) -> Entry:
    return Entry(**record | {"id": cell, "parents": tuple(record.get("parents", ()))})


def launched_studies(paths: PathsConfig) -> list[Path]:
    """The indexes of all launched studies."""
    return sorted(Path(paths.studies).expanduser().glob("*.json"))
