"""What did a study measure: its grid points and runs, as one tidy table.

The study index says which points exist; a source (`analysis.sources`) only says what was logged for each. So a run that
is missing, failed or going on stays in the table, without scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.scores import AVERAGE, SCORES, Measured, Scores, averaged, read_scores
from flanscale.errors import UserError

COLUMNS = {"model": "model", "mixture.count": "count", "cot": "cot", "mixture.order_seed": "draw", "seed": "seed"}
"""Axes that the analysis knows by a short name; every other axis keeps its own."""


class AnalysisError(UserError):
    """A study that cannot be analysed; the message is one line for the user."""


@dataclass(frozen=True)
class RunRecord:
    """One run, wherever it was read from."""

    cell: str
    state: str
    failure: str | None
    config: Mapping[str, Any]
    last: Mapping[str, Any]
    """The last value of every logged key."""
    losses: tuple[tuple[int, float], ...] = ()
    """(step, training loss), thinned."""


@dataclass(frozen=True)
class Point:
    """One point of the grid and the cell that serves it; a cell may serve several points."""

    axes: Mapping[str, Any]
    cell: str
    run: str


@dataclass(frozen=True)
class Study:
    """A study index with what is known of every cell."""

    name: str
    title: str
    version: str
    overrides: tuple[str, ...]
    axes: Mapping[str, tuple[Any, ...]]
    points: tuple[Point, ...]
    records: Mapping[str, RunRecord]
    parameters: Mapping[str, int]
    """Of a cell's model, where the planner could count them."""
    folder: Path
    """Where the run directories are."""
    source: str
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What the planner counted of a cell: steps, flops, devices."""

    @cached_property
    def logged(self) -> Mapping[str, Scores]:
        """What every cell logged, as it is."""
        return {cell: read_scores(record.last) for cell, record in self.records.items()}

    @cached_property
    def scored(self) -> Mapping[str, Scores]:
        """What every cell logged, where averages over other members are made those over what all have in common."""
        each = self.logged
        asked = [scores.members for scores in each.values() if scores.members]
        common = tuple(member for member in (asked[0] if asked else ()) if all(member in other for other in asked))
        return {
            cell: scores if scores.members in ((), common) else _over(scores, common) for cell, scores in each.items()
        }

    @property
    def members(self) -> tuple[Measured, ...]:
        """Of the normalized average, in every run; none where there is no average, or nothing is common to all."""
        return next((scores.members for scores in self.scored.values() if scores.members), ())

    @property
    def fingerprints(self) -> dict[str, dict[str, str]]:
        """Content hashes of the data behind the runs: of each source, by cell."""
        found: dict[str, dict[str, str]] = {}
        for cell, record in self.records.items():
            own = record.config.get("fingerprints")
            for name, value in (own if isinstance(own, Mapping) else {}).items():
                found.setdefault(str(name), {})[cell] = str(value)
        return found

    @property
    def models(self) -> dict[str, int | None]:
        """Model names with their parameters, smallest first where all are known, else in the order of the axis."""
        known = {str(self.column(point, "model")): self.parameters.get(point.cell) for point in self.points}
        return known if None in known.values() else dict(sorted(known.items(), key=lambda item: item[1] or 0))

    def column(self, point: Point, name: str) -> Any:
        """Value of a column at a point: from its axes, else of its own cell, else what the cells share, else None.

        A cell without tasks is resolved to cot=False, whatever its study asks: there the others tell.
        """
        key = next((key for key, column in COLUMNS.items() if column == name), name)
        if key in point.axes:
            value = point.axes[key]
            return str(value) if isinstance(value, list | dict) else value
        own = _config_value(self.records[point.cell].config, "model.name" if key == "model" else key)
        return self._shared(key) if own is None or name == "cot" else own

    def _shared(self, key: str) -> Any:
        """A config value of the cell with the most tasks, for one that is missing or says nothing."""
        configs = sorted((record.config for record in self.records.values() if record.config), key=_count)
        return _config_value(configs[-1], "model.name" if key == "model" else key) if configs else None

    def short(self) -> list[Point]:
        """Points that were trained on fewer tasks than asked for, since some were missing."""
        last = {cell: record.last for cell, record in self.records.items()}
        asked = {cell: row.get("mixture/tasks_requested", row.get("mixture/tasks")) for cell, row in last.items()}
        return [point for point in self.points if last[point.cell].get("mixture/tasks") != asked[point.cell]]

    def incomplete(self) -> list[tuple[Point, RunRecord]]:
        """Points without scores, and why."""
        return [(point, self.records[point.cell]) for point in self.points if not self.scored[point.cell].found]


def missing(cell: str) -> RunRecord:
    """The record of a cell of which nothing is known."""
    return RunRecord(cell, "missing", None, {}, {})


def table(study: Study) -> pd.DataFrame:
    """The tidy table: a row per grid point × benchmark × setting, with NaN scores where a point has none.

    Columns: the axes (`COLUMNS` first), cell, run, state, failure, tasks (their realised number), benchmark, setting,
    then `SCORES`.
    """
    by_cell = {cell: scores.found for cell, scores in study.scored.items()}
    # In the order of the average's members, which is logged: W&B keeps no order of the keys of a row.
    others = {key for found in by_cell.values() for key in found} - {*study.members, AVERAGE}
    measured = [*study.members, *sorted(others), *[AVERAGE] * bool(study.members)]
    extra = [axis for axis in study.axes if axis not in COLUMNS]
    rows = []
    for point in study.points:
        record = study.records[point.cell]
        about = {name: study.column(point, name) for name in [*COLUMNS.values(), *extra]}
        about |= {"cell": point.cell, "run": point.run, "state": record.state, "failure": record.failure}
        about["tasks"] = record.last.get("mixture/tasks")
        for key in measured:
            rows.append({**about, "benchmark": key[0], "setting": key[1], **by_cell[point.cell].get(key, {})})
        if not measured:  # nothing is evaluated yet: a row a point all the same
            rows.append(about | {"benchmark": None, "setting": None})
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*dict.fromkeys([*frame.columns, *SCORES])])


def _over(scores: Scores, members: tuple[Measured, ...]) -> Scores:
    """With the average over some of its members; without one where there are none."""
    found = {measured: row for measured, row in scores.found.items() if measured != AVERAGE}
    if members:
        found[AVERAGE] = averaged(found, members)
    return Scores(found, members, scores.prompts, scores.problems)


def _count(config: Mapping[str, Any]) -> int:
    count = _config_value(config, "mixture.count")
    return count if isinstance(count, int) else 0


def _config_value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
