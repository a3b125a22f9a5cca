"""Which items did each cell get right: recorded answers as one matrix, so that cells can be compared item by item.

C cells · N items
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from analysis.runs import Study
from analysis.scores import AVERAGE
from flanscale.errors import ConfigError
from flanscale.run_directory import evaluations, read_records, read_result
from flanscale.run_directory.evaluations import RESULT_FILE
from flanscale.run_directory.files import damaged_told
from flanscale.tracking.keys import name_in_keys


@dataclass(frozen=True)
class Answers:
    """What one cell scored on the items of one benchmark in one setting."""

    items: tuple[tuple[str, str, str], ...]
    """(subtask, key, hash of the prompt) of each: cells that were asked in other words are not compared."""
    points_N: Float[np.ndarray, " N"]
    """Above the lower bounds of their subtasks, in percent of what these leave up to 100."""


Answered = Mapping[tuple[str, str, str], Answers]
"""By cell, benchmark and setting."""


@dataclass(frozen=True)
class Items:
    """Points of every item in every cell, on the normalised scale; cells are told apart by `row`."""

    row: Mapping[str, int]
    task_N: Int[np.ndarray, " N"]
    points_CxN: Float[np.ndarray, "C N"]

    def variance(self, weights: Mapping[str, float]) -> float:
        """Variance of a weighted sum of cells' scores (means of task means), the tasks taken as given, in points²."""
        difference_N = np.array(list(weights.values())) @ self.points_CxN[[self.row[cell] for cell in weights]]
        count_T = np.bincount(self.task_N)
        mean_T = np.bincount(self.task_N, difference_N) / count_T
        squares_T = np.bincount(self.task_N, (difference_N - mean_T[self.task_N]) ** 2)
        return float((squares_T / np.maximum(count_T - 1, 1) / count_T).sum()) / len(count_T) ** 2


def read_answers(study: Study) -> tuple[dict[tuple[str, str, str], Answers], list[str]]:
    """The answers of every (cell, benchmark, setting) whose records are at hand, and which files are damaged."""
    found: dict[tuple[str, str, str], Answers] = {}
    damaged = []
    for cell, run in {point.cell: point.run for point in study.points}.items():
        for folder in evaluations(study.folder / run):
            try:
                for (benchmark, setting), answers in _of_suite(folder):
                    found.setdefault((cell, benchmark, setting), answers)
            except ConfigError as error:
                damaged.append(str(error))
    return found, damaged


def _of_suite(folder: Path) -> Iterator[tuple[tuple[str, str], Answers]]:
    """Every line of an evaluation that is over, under each of its metrics."""
    result = read_result(folder)
    if result is None:
        return
    with damaged_told(folder / RESULT_FILE):
        for line in result["lines"]:
            records, _ = read_records(folder, line["name"])
            scored = [record for record in records if record["scores"]]
            for score in line["scores"]:
                low = {name: subtask["lower_bound"] for name, subtask in score["subtasks"].items()}
                points = [
                    100 * (record["scores"][score["metric"]] - low[record["subtask"]]) / (100 - low[record["subtask"]])
                    for record in scored
                ]
                keys = tuple((record["subtask"], record["key"], record["prompt_hash"]) for record in scored)
                yield (name_in_keys(score["label"]), line["setting"]), Answers(keys, np.array(points))


def items_of(
    study: Study,
    answers: Answered,
    benchmark: str,
    setting: str,
    cells: Iterable[str],
) -> Items | None:
    """The items of one panel; None where a cell's records are not at hand, or cells answered different items."""
    keys: tuple[tuple[str, str, str], ...] | None = None
    rows: dict[str, np.ndarray] = {}
    for cell in cells:
        average = (benchmark, setting) == AVERAGE
        members = study.members if average else [(benchmark, setting)]
        points = []
        for member in members:
            theirs = answers.get((cell, *member))
            keys = theirs.items if theirs and keys is None else keys
            if theirs is None or theirs.items != keys:
                return None
            points.append(theirs.points_N)
        rows[cell] = np.mean(points, axis=0)
    if not keys:
        return None
    _, task_N = np.unique([task for task, _, _ in keys], return_inverse=True)
    return Items({cell: number for number, cell in enumerate(rows)}, task_N, np.stack(list(rows.values())))
