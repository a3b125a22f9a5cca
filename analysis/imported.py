"""How does a study look that another program evaluated? Results of lm-evaluation-harness as runs, without W&B.

    python -m analysis.imported models.csv studies_of_others

A row of the table is a model: its `results` (the harness's results_<date>.json, from the table's folder on), its values
on the axes (model, mixture.count, cot, seed, or any others), and perhaps its number of `parameters`. What is written,
`studies/NAME.json` and `runs/*`, is a study for every reader of `analysis.runs`; with the harness's samples beside the
results models are compared item by item.

A score is the unweighted mean over the tasks of a group, as everywhere here; the harness weighs most groups by their
tasks' sizes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.runs import AnalysisError
from flanscale.run_directory import CONFIG_FILE, EVALUATIONS, METRICS_FILE, RunState, write_state
from flanscale.run_directory.evaluations import close_records, write_result
from flanscale.tracking.keys import EVAL_COUNTS, evaluation_row

RESULTS, PARAMETERS = "results", "parameters"
"""Columns of the table that are no axes."""
SUITE = "lm_eval"
NO_FILTER = "none"


@dataclass(frozen=True)
class Measure:
    """One metric of one task, in percent."""

    value: float
    stderr: float
    n: int


@dataclass(frozen=True)
class Line:
    """A task, or a group of tasks, under one metric."""

    name: str
    metric: str
    filter: str
    shots: int | None
    tasks: Mapping[str, Measure]

    @property
    def setting(self) -> str:
        """What tells it from the same task asked or scored otherwise."""
        named = self.metric if self.filter == NO_FILTER else f"{self.metric},{self.filter}"
        return named if self.shots is None else f"{named}-{self.shots}shot"


def write_study(table: Path, out: Path, *, name: str | None = None, floors: Mapping[str, float] | None = None) -> Path:
    """The models of a table as a study; returns its index.

    Args:
        out: gets `studies/` and `runs/`, in place of an earlier study of that name.
        name: the study's; None: the table's.
        floors: scores at chance in percent, by task or group; 0 where nothing is said.

    Raises:
        AnalysisError: the table or a file of results cannot be read, or holds no score.
    """
    rows, name = _rows(table), name or table.stem
    if Path(name).name != name:
        raise AnalysisError(f"--name {name}: a study's name is no path")
    axes = [column for column in rows[0] if column not in (RESULTS, PARAMETERS)]
    points: list[dict[str, Any]] = []
    cells: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=2):
        values = {axis: row[axis] for axis in axes}
        cell = hashlib.sha256(json.dumps([name, values]).encode()).hexdigest()[:10]
        if cell in cells:
            raise AnalysisError(f"{table}, line {number}: an earlier line has the same place on the axes")
        _write_run(table.parent / str(row[RESULTS]), values, out / "runs" / cell, floors or {})
        points.append({"axes": values, "cell": cell, "run": cell})
        cells[cell] = {"run": cell, "steps": 0, "parameters": row.get(PARAMETERS), "flops": 0.0, "parents": []}
    document = {
        "format": 1,
        "study": name,
        "title": f"{name}, evaluated by lm-evaluation-harness",
        "runs": "../runs",
        "overrides": [],
        "axes": {axis: list(dict.fromkeys(point["axes"][axis] for point in points)) for axis in axes},
        "points": points,
        "cells": cells,
    }
    index = out / "studies" / f"{name}.json"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return index


def _rows(table: Path) -> list[dict[str, Any]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [{key: yaml.safe_load(text or "") for key, text in row.items()} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, AttributeError, yaml.YAMLError) as error:
        raise AnalysisError(f"{table} cannot be read as a table: {error}".replace("\n", " ")) from None
    if not rows or RESULTS not in rows[0]:
        raise AnalysisError(f"{table}: a row a model, and a column `{RESULTS}` with its file, are needed")
    return rows


def _write_run(results: Path, axes: Mapping[str, Any], folder: Path, floors: Mapping[str, float]) -> None:
    document, samples = _document(results, floors)
    config: dict[str, Any] = {"model": {}, "trainer": {}}
    for axis, value in axes.items():
        *sections, last = ("model.name" if axis == "model" else axis).split(".")
        section = config
        for each in sections:
            section = section.setdefault(each, {})
        section[last] = value
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    row = {"step": 0, **evaluation_row(document)}
    if "mixture.count" in axes:
        row |= {"mixture/tasks": axes["mixture.count"]}
    (folder / METRICS_FILE).write_text(json.dumps(row) + "\n", encoding="utf-8")
    for line, records in samples.items():
        close_records(folder / EVALUATIONS / SUITE, line, records)
    if samples:
        write_result(
            folder / EVALUATIONS / SUITE,
            {**document, "lines": [line for line in document["lines"] if line["name"] in samples]},
        )
    write_state(folder, RunState("finished", attempt=1))


def _document(path: Path, floors: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """A file of the harness as an evaluation's document (`flanscale.evaluation.results`), and the records of its lines
    as far as there are samples.

    Raises:
        AnalysisError: it cannot be read, or holds no score.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        lines = list(_lines(results))
        known = [results.get(about, {}) for about in ("versions", "task_hashes")]
        hashes = {task: [about.get(task) for about in known] for task in results["results"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnalysisError(f"{path} is no file of results of lm-evaluation-harness ({error!r})") from None
    if not lines:
        raise AnalysisError(f"{path}: no task has a score between 0 and 1 with a standard error")
    members = {line.name: _called(line) for line in reversed(lines)}  # a task counts once, under its first metric
    scored = [_score(line, floors.get(line.name, 0.0)) for line in lines]
    chosen = [score for line, score in zip(lines, scored, strict=True) if members[line.name] == _called(line)]
    records = {_called(line): found for line in lines if (found := _records(path, line))}
    return {
        "suite": SUITE,
        "fingerprint": _hash([[_called(line), hashes.get(line.name)] for line in lines]),
        "average": {
            "name": "normalized average",
            "score": sum(score["normalized"] for score in chosen) / len(chosen),
            "stderr": math.hypot(*(score["normalized_stderr"] for score in chosen)) / len(chosen),
            "members": [members[name] for name in dict.fromkeys(line.name for line in lines)],
        },
        "lines": [
            {
                "name": _called(line),
                "setting": line.setting,
                "prompts": _hash([[task, hashes.get(task)] for task in line.tasks]),
                "scores": [score],
            }
            for line, score in zip(lines, scored, strict=True)
        ],
        "faults": [],
    }, records


def _lines(results: Mapping[str, Any]) -> Iterator[Line]:
    """Every task or group that is in no other group, under each of its metrics that is a share."""
    groups = {name: tasks for name, tasks in results.get("group_subtasks", {}).items() if tasks}
    inner = {task for tasks in groups.values() for task in tasks}
    for name in results["results"]:
        if name in inner:
            continue
        tasks = list(_leaves(name, groups))
        for metric, kind in dict.fromkeys(found for task in tasks for found in _metrics(results, task)):
            measures = [_measure(results, task, metric, kind) for task in tasks]
            found = {task: measure for task, measure in zip(tasks, measures, strict=True) if measure is not None}
            if len(found) == len(tasks):
                shots = {results.get("n-shot", {}).get(task) for task in tasks}
                yield Line(name, metric, kind, shots.pop() if len(shots) == 1 else None, found)


def _leaves(name: str, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if name not in groups:
        yield name
        return
    for task in groups[name]:
        yield from _leaves(task, groups)


def _metrics(results: Mapping[str, Any], task: str) -> Iterator[tuple[str, str]]:
    """Metric and filter of what is the better the more it is."""
    better = results.get("higher_is_better", {}).get(task, {})
    for key in results["results"].get(task, {}):
        metric, comma, kind = key.partition(",")
        if comma and not metric.endswith("_stderr") and better.get(metric) is True:
            yield metric, kind


def _measure(results: Mapping[str, Any], task: str, metric: str, kind: str) -> Measure | None:
    found = results["results"][task]
    value, stderr = found.get(f"{metric},{kind}"), found.get(f"{metric}_stderr,{kind}")
    n = results.get("n-samples", {}).get(task, {}).get("effective") or found.get("sample_len")
    numbers = [each for each in (value, stderr, n) if isinstance(each, int | float) and math.isfinite(each)]
    if len(numbers) < 3 or not 0 <= numbers[0] <= 1:
        return None
    return Measure(100 * numbers[0], 100 * numbers[1], int(numbers[2]))


def _score(line: Line, floor: float) -> dict[str, Any]:
    measures = list(line.tasks.values())
    score = sum(measure.value for measure in measures) / len(measures)
    stderr = math.hypot(*(measure.stderr for measure in measures)) / len(measures)
    scale = 100 / (100 - floor)
    return {
        "metric": line.metric,
        "label": line.name,
        "score": score,
        "stderr": stderr,
        "stderr_tasks": None,
        "n": sum(measure.n for measure in measures),
        "lower_bound": floor,
        "normalized": (score - floor) * scale,
        "normalized_stderr": stderr * scale,
        **dict.fromkeys(EVAL_COUNTS),
        "subtasks": {task: {"lower_bound": floor} for task in line.tasks},
    }


def _records(path: Path, line: Line) -> list[dict[str, Any]]:
    """A record an item, from the samples beside the results; none where a task has no samples there."""
    stamp = path.stem.removeprefix("results_")
    records = []
    for task in line.tasks:
        samples = path.parent / f"samples_{Path(task).name}_{stamp}.jsonl"
        if not samples.exists():
            return []
        try:
            rows = [json.loads(text) for text in samples.read_text(encoding="utf-8").splitlines()]
            records += [
                {
                    "key": f"{task}/{row['doc_id']}",
                    "subtask": task,
                    "cluster": "",
                    "prompt_hash": row["prompt_hash"],
                    "scores": {line.metric: 100 * float(row[line.metric])},
                }
                for row in rows
                if row.get("filter", NO_FILTER) == line.filter and line.metric in row
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise AnalysisError(f"{samples} holds no samples of lm-evaluation-harness ({error!r})") from None
    return records


def _called(line: Line) -> str:
    return f"{line.name}/{line.setting}"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def main(arguments: Iterable[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.imported", description="Results of lm-evaluation-harness as a study."
    )
    parser.add_argument("table", type=Path, help="CSV: results, then axes")
    parser.add_argument("out", type=Path, help="folder of the study")
    parser.add_argument("--name", help="of the study; by default the table's")
    parser.add_argument(
        "--floor", action="append", default=[], metavar="TASK=PERCENT", help="score at chance: mmlu=25 (0 by default)"
    )
    given = parser.parse_args(None if arguments is None else list(arguments))
    try:
        floors = {task: float(percent) for task, _, percent in (text.partition("=") for text in given.floor)}
    except ValueError:
        parser.error("--floor TASK=PERCENT: a number is needed")
    try:
        print(write_study(given.table, given.out, name=given.name, floors=floors))
    except AnalysisError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
