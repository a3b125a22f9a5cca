"""Which items did each cell get right: logged predictions as one matrix, so that cells can be compared item by item.

C cells · N items
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from analysis.runs import AVERAGE, Study, average_members, scores
from flanscale.errors import ConfigError
from flanscale.run_directory import predictions, read_predictions

Answers = tuple[tuple[tuple[str, str], ...], np.ndarray]
"""(task, id) of every item, and its points."""

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
    """The answers of every (cell, benchmark, setting) whose predictions are at hand, and which files are damaged."""
    found: dict[tuple[str, str, str], Answers] = {}
    damaged = []
    for cell, run in {point.cell: point.run for point in study.points}.items():
        for benchmark, path in predictions(study.folder / run).items():
            try:
                rows = read_predictions(path, ("setting", "task", "id", "score"))
            except ConfigError as error:
                damaged.append(str(error))
                continue
            for setting in dict.fromkeys(row["setting"] for row in rows):
                mine = [row for row in rows if row["setting"] == setting]
                keys = tuple((row["task"], row["id"]) for row in mine)
                found[cell, benchmark, setting] = keys, np.array([float(row["score"]) for row in mine])
    return found, damaged


def items_of(
    study: Study,
    answers: Answered,
    benchmark: str,
    setting: str,
    cells: Iterable[str],
) -> Items | None:
    """The items of one panel; None where a cell's predictions are not at hand, or cells answered different items."""
    keys: tuple[tuple[str, str], ...] | None = None
    rows: dict[str, np.ndarray] = {}
    for cell in cells:
        measured = scores(study.records[cell])
        average = (benchmark, setting) == AVERAGE
        members = average_members(study.records[cell]) if average else [(benchmark, setting)]
        points = []
        for member in members:
            theirs, score_N = answers.get((cell, *member), ((), np.empty(0)))
            keys = theirs if keys is None else keys
            if not theirs or theirs != keys:
                return None
            points.append(score_N * 100 / (100 - measured[member]["lower_bound"]))
        rows[cell] = np.mean(points, axis=0)
    if not keys:
        return None
    _, task_N = np.unique([task for task, _ in keys], return_inverse=True)
    return Items({cell: number for number, cell in enumerate(rows)}, task_N, np.stack(list(rows.values())))
