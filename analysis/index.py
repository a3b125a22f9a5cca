"""Which cells does a study have: its index, as the planner wrote it, made a study with what is known of every cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from analysis.runs import AnalysisError, Point, RunRecord, Study
from flanscale.errors import one_line
from flanscale.run_directory import read_each


def read_index(index: Path) -> dict[str, Any]:
    """The study index as written by the planner.

    Raises:
        AnalysisError: no such file, not an index of format 1, or an index without points.
    """
    try:
        document = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AnalysisError(f"no study index at {index}; launch the study, or name one of studies/*.json") from None
    except json.JSONDecodeError as error:
        raise AnalysisError(f"{index}, line {error.lineno}: not JSON; launch the study again to rewrite it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AnalysisError(f"{index} cannot be read: {one_line(error)}") from None
    if not isinstance(document, dict) or document.get("format") != 1:
        raise AnalysisError(f"{index} is not a study index of format 1")
    if not document.get("points"):
        raise AnalysisError(f"study {document.get('study', index.stem)} has no points: nothing to analyse")
    for key, kind in (("study", str), ("axes", dict), ("runs", str), ("points", list)):
        if not isinstance(document.get(key), kind):
            raise AnalysisError(f"{index} is damaged: no {key!r} in it; launch the study again to rewrite it")
    for key, kind in (("title", str), ("flanscale", str), ("overrides", list), ("cells", dict)):
        if not isinstance(document.get(key, kind()), kind):
            raise AnalysisError(
                f"{index} is damaged: {key!r} is {document[key]!r}; launch the study again to rewrite it"
            )
    if not all(isinstance(values, list) for values in document["axes"].values()):
        raise AnalysisError(
            f"{index} is damaged: an axis without a list of values; launch the study again to rewrite it"
        )
    for number, point in enumerate(document["points"]):
        sound = isinstance(point, dict) and isinstance(point.get("axes"), dict)
        if not sound or not all(isinstance(point.get(key), str) for key in ("cell", "run")):
            raise AnalysisError(f"{index} is damaged: point {number} has no axes, cell or run; launch the study again")
    return document


Each = Callable[[Callable[[Any], RunRecord], Iterable[Any]], Iterable[RunRecord]]


def assemble(index: Path, source: str, read_one: Callable[[Path, str], RunRecord], each: Each = read_each) -> Study:
    """The study of an index; `read_one` gives the record of a run directory and its cell. Raises as `read_index`.

    `each`: a `map`, by which the records are read.
    """
    document = read_index(index)
    folder = (index.parent / document["runs"]).resolve()
    points = tuple(Point(point["axes"], point["cell"], point["run"]) for point in document["points"])
    runs = {point.cell: point.run for point in points}
    costs = document.get("cells", {})
    return Study(
        name=document["study"],
        title=document.get("title") or document["study"],
        version=document.get("flanscale", "unknown"),
        overrides=tuple(document.get("overrides", ())),
        axes={axis: tuple(values) for axis, values in document["axes"].items()},
        points=points,
        records=dict(zip(runs, each(lambda cell: read_one(folder / runs[cell], cell), runs), strict=True)),
        parameters={cell: cost["parameters"] for cell, cost in costs.items() if _counted(cost)},
        folder=folder,
        source=source,
        costs={cell: _numbers(cost) for cell, cost in costs.items() if isinstance(cost, dict)},
    )


def _numbers(cost: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in cost.items() if type(value) in (int, float)}


def _counted(cost: Any) -> bool:
    return isinstance(cost, dict) and type(cost.get("parameters")) is int and cost["parameters"] > 0
