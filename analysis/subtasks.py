"""On which held-out tasks does an effect come about: the panel's questions asked of every subtask by itself.

Scores by subtask are in the recorded results of the evaluations, beside the runs: a source that has only logs has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.contrasts import Contrast
from analysis.noise import slope
from analysis.panels import Panel
from analysis.runs import Study
from analysis.summary import Mean
from flanscale.errors import ConfigError
from flanscale.run_directory import evaluations, read_each, read_result
from flanscale.run_directory.evaluations import RESULT_FILE
from flanscale.run_directory.files import damaged_told
from flanscale.tracking.keys import name_in_keys

Subtasks = Mapping[tuple[str, str], Mapping[str, tuple[float, float]]]
"""By (benchmark, setting) and subtask: normalised points and their standard error over items."""


def read_subtasks(study: Study) -> tuple[Mapping[str, Subtasks], list[str]]:
    """What every cell scored on each subtask, as far as it is at hand, and which files are damaged."""
    found: dict[str, dict[tuple[str, str], dict[str, tuple[float, float]]]] = {}
    damaged: list[str] = []
    runs = {point.cell: point.run for point in study.points}
    for cell, (suites, problems) in zip(
        runs, read_each(lambda cell: _of_run(study.folder / runs[cell]), runs), strict=True
    ):
        damaged += problems
        for place, parts in suites:
            found.setdefault(cell, {}).setdefault(place, parts)
    return found, damaged


def by_subtask(panel: Panel, asked: Sequence[Contrast], scored: Mapping[str, Subtasks]) -> pd.DataFrame:
    """A row per subtask, widest first: its mean score, and for every question the difference ± the items' error.

    Empty where a cell's subtasks are not at hand, or there are fewer than two of them. Points are normalised.
    """
    place = (panel.benchmark, panel.setting)
    cells = {cell for mean in panel.means for cell in mean.cells}
    rows = {cell: scored[cell][place] for cell in cells if place in scored.get(cell, {})}
    names = list(next(iter(rows.values()), ()))
    if len(rows) < len(cells) or len(names) < 2 or any(list(row) != names for row in rows.values()):
        return pd.DataFrame()
    means = {(mean.curve, mean.count): mean for mean in panel.means}
    table = []
    for name in names:
        every = [_of(mean, rows, name)[0] for mean in panel.means]
        row: dict[str, str | float] = {"task": name, "mean": f"{sum(every) / len(every):.1f}"}
        largest = 0.0
        for each in asked:
            parts = [(weight, _of(means[at], rows, name)) for at, weight in each.question.weights.items() if weight]
            value = sum(weight * score for weight, (score, _) in parts)
            error = math.sqrt(sum((weight * deviation) ** 2 for weight, (_, deviation) in parts))
            row[each.question.text] = f"{value:+.1f} ± {error:.1f}"
            largest = max(largest, abs(value))
        table.append((largest, row))
    return pd.DataFrame([row for _, row in sorted(table, key=lambda each: -each[0])])


def _of_run(run_dir: Path) -> tuple[list[tuple[tuple[str, str], dict[str, tuple[float, float]]]], list[str]]:
    found, damaged = [], []
    for folder in evaluations(run_dir):
        try:
            found += list(_of_suite(folder))
        except ConfigError as error:
            damaged.append(str(error))
    return found, damaged


def _of_suite(folder: Path) -> Iterator[tuple[tuple[str, str], dict[str, tuple[float, float]]]]:
    """Every line of an evaluation that is over, under each of its metrics."""
    result = read_result(folder)
    if result is None:
        return
    with damaged_told(folder / RESULT_FILE):
        for line in result["lines"]:
            for score in line["scores"]:
                parts = {name: _normalised(each) for name, each in score["subtasks"].items()}
                yield (name_in_keys(score["label"]), line["setting"]), parts


def _of(mean: Mean, rows: Mapping[str, Mapping[str, tuple[float, float]]], name: str) -> tuple[float, float]:
    """Mean and standard error of one subtask over the cells of a mean."""
    own = [rows[cell][name] for cell in mean.cells]
    score = sum(value for value, _ in own) / len(own)
    return score, math.sqrt(sum(error**2 for _, error in own)) / len(own)


def _normalised(subtask: Mapping[str, float]) -> tuple[float, float]:
    score, n = subtask["score"], subtask["n"]
    if not (n > 0 and subtask["lower_bound"] < 100):
        raise ValueError(f"{n} items above {subtask['lower_bound']} percent")
    scale = 100 / (100 - subtask["lower_bound"])
    error = subtask["stderr"] or math.sqrt(100 * slope(score, n) / n)  # all wrong counts as one item away from it
    return scale * (score - subtask["lower_bound"]), scale * error
