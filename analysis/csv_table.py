"""A study as one table: a row per point × benchmark × setting in a CSV file, written by a report or by hand.

Needed are the columns benchmark, setting, count, score and lower_bound, and what the study varies. What else
`runs.table` has is used where it is there; `parameters`, `prompts` and the `members` of an average complete it. Scores
that are losses, bits per byte say, have false in a column `higher_is_better`, and no lower bound.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.index import assemble
from analysis.runs import COLUMNS, AnalysisError, Point, RunRecord, Study, missing, table
from analysis.scores import AVERAGE, HIGHER_IS_BETTER, SCORES
from flanscale.errors import one_line
from flanscale.run_directory import write_atomically
from flanscale.tracking import keys

ABOUT = ("cell", "run", "state", "failure", "tasks", "parameters", HIGHER_IS_BETTER)
"""Columns of a table file that are no axis and no score."""
KEYS = {column: key for key, column in COLUMNS.items()}
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
TEXTS = frozenset({"cell", "run", "state", "failure", "benchmark", "setting", "members", "prompts"})


def from_csv(file: Path, index: Path | None = None) -> Study:
    """The study as a table in a CSV file holds it: a row per point × benchmark × setting, as `write_csv` writes it.

    Needed are the columns benchmark, setting, count (of finetuning tasks, 0 of a model as it came), score and
    lower_bound, and what the study varies. Where the study's index is at hand, points and title are its own.

    Raises:
        AnalysisError: no such file, or not such a table.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [
                {key: (value or None) if key in TEXTS else _literal(value) for key, value in row.items() if key}
                for row in csv.DictReader(lines)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnalysisError(f"{file} cannot be read: {one_line(error)}") from None
    needed = {"benchmark", "setting", "count", "score", "lower_bound"}
    if rows and HIGHER_IS_BETTER in rows[0]:
        needed.remove("lower_bound")
    if lacking := sorted(name for name in needed if not rows or name not in rows[0]):
        raise AnalysisError(f"{file} has no rows, or no column {', '.join(lacking)}")
    for number, row in enumerate(rows, start=2):
        _check(f"{file}, line {number}", row)
    axes = [name for name in rows[0] if name not in (*ABOUT, *SCORES, "benchmark", "setting", "members", "prompts")]
    cells: dict[str, list[dict[str, Any]]] = {}
    points: dict[tuple[Any, ...], Point] = {}
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        place = {KEYS.get(name, name): row[name] for name in axes if row[name] is not None}
        what = (row.get("cell"), *place.values(), row["benchmark"], row["setting"])
        seen[what] = number = seen.get(what, -1) + 1
        if number and (row.get("cell") or "seed" in place):
            raise AnalysisError(f"{file}: {row['benchmark']}/{row['setting']} of {place} is there twice, as one seed's")
        if "seed" not in place and not row.get("cell"):
            place["seed"] = number  # rows that differ in nothing are runs of other seeds
        cell = str(row.get("cell") or " ".join(f"{key}={value}" for key, value in place.items()))
        points.setdefault((cell, *place.values()), Point(place, cell, str(row.get("run") or cell)))
        cells.setdefault(cell, []).append(row)
    places = {point.cell: point.axes for point in reversed(points.values())}
    records = {cell: _from_rows(cell, own, places[cell]) for cell, own in cells.items()}
    if index is not None and index.is_file():
        return assemble(index, f"table {file.name}", lambda run_dir, cell: records.get(cell, missing(cell)))
    levels = {
        key: tuple(dict.fromkeys(point.axes.get(key) for point in points.values()))
        for key in (KEYS.get(name, name) for name in axes)
    }
    known = {cell: own[0].get("parameters") for cell, own in cells.items()}
    return Study(
        name=file.stem,
        title=file.stem,
        version="unknown",
        overrides=(),
        axes={key: values for key, values in levels.items() if len(values) > 1},
        points=tuple(points.values()),
        records=records,
        parameters={cell: int(number) for cell, number in known.items() if number},
        folder=file.parent,
        source=f"table {file.name}",
    )


def write_csv(study: Study, file: Path) -> None:
    """Write the table of a study with all that `from_csv` needs to give the same study again."""
    frame = table(study)
    members = ";".join("/".join(member) for member in study.members)
    prompts = [study.scored[row["cell"]].prompts.get((row["benchmark"], row["setting"])) for _, row in frame.iterrows()]
    frame["parameters"] = [study.parameters.get(cell) for cell in frame["cell"]]
    frame["parameters"] = frame["parameters"].astype("Int64")
    frame["prompts"] = prompts
    frame["members"] = [members if each == AVERAGE[0] else None for each in frame["benchmark"]]
    write_atomically(file, frame.to_csv(index=False))


def _from_rows(cell: str, rows: list[dict[str, Any]], axes: Mapping[str, Any]) -> RunRecord:
    config: dict[str, Any] = {}
    for key, value in axes.items():
        *path, name = ("model.name" if key == "model" else key).split(".")
        if not path and key not in COLUMNS:  # a choice of a group: what is in it, the table does not say
            continue
        level = config
        for part in path:
            level = level.setdefault(part, {})
        level[name] = value
    last: dict[str, Any] = {}
    if rows[0].get("tasks") is not None:
        last |= {"mixture/tasks": rows[0]["tasks"]}
    for row in rows:
        if row["benchmark"] is None or row["score"] is None:
            continue
        if (row["benchmark"], row["setting"]) == AVERAGE:
            scale = 1 - row["lower_bound"] / 100
            last[keys.AVERAGE] = (
                (row["score"] - row["lower_bound"]) / scale if row.get("normalized") is None else row["normalized"]
            )
            last[f"{keys.AVERAGE}_stderr"] = row["stderr"] / scale if row.get("stderr") is not None else math.nan
            last[f"{keys.AVERAGE}_members"] = str(row.get("members") or "").split(";")
            continue
        figures = {name: row[name] for name in (*SCORES, HIGHER_IS_BETTER, "prompts") if row.get(name) is not None}
        if "normalized" not in figures and all(
            isinstance(figures.get(name), int | float) for name in ("score", "lower_bound")
        ):
            low = figures["lower_bound"]
            figures["normalized"] = 100 * (figures["score"] - low) / (100 - low) if low < 100 else math.nan
        last |= {keys.eval_key(row["benchmark"], row["setting"], name): value for name, value in figures.items()}
    return RunRecord(cell, str(rows[0].get("state") or "finished"), rows[0].get("failure"), config, last)


def _check(where: str, row: dict[str, Any]) -> None:
    """Raise `AnalysisError` for what would be taken for something else; a truth may be written in several ways."""
    if isinstance(cot := row.get("cot"), str) or cot in (0, 1):
        if (word := str(cot).casefold()) not in TRUTHS:
            raise AnalysisError(f"{where}: cot={cot}: neither true nor false")
        row["cot"] = TRUTHS[word]
    count = row.get("count")
    if count is not None and not (isinstance(count, int | float) and count >= 0 and count == int(count)):
        raise AnalysisError(f"{where}: count={count}: not a number of tasks")
    known = row.get("parameters")
    if known is not None and not (isinstance(known, int | float) and 0 < known == int(known)):
        raise AnalysisError(f"{where}: parameters={known}: not a number of parameters")
    for name in ("benchmark", "setting"):
        if "/" in str(row[name]):
            raise AnalysisError(f"{where}: {name}={row[name]}: a name without / is needed")


def _literal(text: str | None) -> Any:
    if not text:
        return None
    if text in ("True", "False", "true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
