"""What did a study measure: its grid points and runs, as one tidy table, from any of three sources.

The study index says which points exist; a source only says what was logged for each. So a run that is missing, failed
or going on stays in the table, without scores. Sources: run directories (`from_directories`, the primary record), the
offline W&B files inside them (`from_wandb_files`), and the W&B server (`from_wandb_api`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flanscale.errors import ConfigError, UserError
from flanscale.run_directory import is_run, read_config, read_rows, read_state
from flanscale.tracking import keys, wandb_run

COLUMNS = {"model": "model", "mixture.count": "count", "cot": "cot", "mixture.order_seed": "draw", "seed": "seed"}
"""Axes that the analysis knows by a short name; every other axis keeps its own."""

AVERAGE = ("normalized_average", "all")
"""Benchmark and setting under which the table carries `eval/normalized_average`."""

SCORES = ("score", "stderr", "stderr_tasks", "n", "lower_bound", "normalized")
"""What is known of a run at one benchmark and setting: percent, items, and normalised points. The standard errors, in
points of the score, take the benchmark's tasks as given (`stderr`) or as drawn from many (`stderr_tasks`)."""

BOOKKEEPING = frozenset({"step", "attempt", "time"})


class AnalysisError(UserError):
    """A study that cannot be analysed; the message is one line for the user."""


@dataclass(frozen=True)
class RunRecord:
    """One run, wherever it was read from. `history` holds one merged row a step, without host times."""

    cell: str
    state: str
    failure: str | None
    config: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]

    @property
    def last(self) -> dict[str, Any]:
        """The last value of every logged key."""
        return {key: value for row in self.history for key, value in row.items()}


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

    @property
    def models(self) -> dict[str, int | None]:
        """Model names with their parameters, smallest first where all are known, else in the order of the axis."""
        known = {str(self.column(point, "model")): self.parameters.get(point.cell) for point in self.points}
        return known if None in known.values() else dict(sorted(known.items(), key=lambda item: item[1] or 0))

    def column(self, point: Point, name: str) -> Any:
        """Value of a column at a point: from its axes, else what all cells share, else None."""
        key = next((key for key, column in COLUMNS.items() if column == name), name)
        return point.axes[key] if key in point.axes else self._shared(key)

    def _shared(self, key: str) -> Any:
        """A config value that the study does not vary, from the cell with the most tasks.

        Not from each cell's own config: a missing run has none, and one without tasks is resolved to cot=False.
        """
        configs = sorted((record.config for record in self.records.values() if record.config), key=_count)
        return _config_value(configs[-1], "model.name" if key == "model" else key) if configs else None

    def short(self) -> list[Point]:
        """Points that were trained on fewer tasks than asked for, since some were missing."""
        last = {cell: record.last for cell, record in self.records.items()}
        asked = {cell: row.get("mixture/tasks_requested", row.get("mixture/tasks")) for cell, row in last.items()}
        return [point for point in self.points if last[point.cell].get("mixture/tasks") != asked[point.cell]]

    def incomplete(self) -> list[tuple[Point, RunRecord]]:
        """Points without scores, and why."""
        return [(point, self.records[point.cell]) for point in self.points if not scores(self.records[point.cell])]


def from_directories(index: Path) -> Study:
    """The study as its run directories hold it.

    Raises:
        AnalysisError: the index is missing, damaged or empty.
    """
    return _assemble(index, "run directories", read_directory)


def from_wandb_files(index: Path) -> Study:
    """The study as the offline W&B files inside its run directories hold it. Raises as `from_directories`."""
    from flanscale.tracking import wandb_log

    def read(run_dir: Path, cell: str) -> RunRecord:
        logs = wandb_log.find_logs(run_dir)
        if not logs:
            return missing(cell)
        run = wandb_log.read_run(logs)
        state = "unfinished" if run.exit_code is None else "failed" if run.exit_code else "finished"
        failure = f"exit code {run.exit_code}" if run.exit_code else None
        return RunRecord(run.id, state, failure, run.config, _merge(run.history))

    return _assemble(index, "offline W&B files", read)


def from_wandb_api(index: Path, project: str, client: Any = None) -> Study:
    """The study as a W&B server holds it.

    `project` is "entity/project"; `client` is a `wandb.Api`, made on demand. Cells come from the index, so that a query
    that misses runs shows as missing cells. Raises as `from_directories`.
    """
    if client is None:
        client = wandb_run.client()
    runs = {run.id: run for run in client.runs(project, filters={"group": read_index(index)["study"]})}

    def read(run_dir: Path, cell: str) -> RunRecord:
        if cell not in runs:
            return missing(cell)
        run = runs[cell]
        failure = None if run.state in ("finished", "running") else f"W&B state {run.state}"
        state = "failed" if run.state in ("failed", "crashed", "killed") else run.state
        return RunRecord(run.id, state, failure, dict(run.config), _merge(run.scan_history()))

    return _assemble(index, f"W&B project {project}", read)


def read_index(index: Path) -> dict[str, Any]:
    """The study index as written by the planner.

    Raises:
        AnalysisError: no such file, not an index of format 1, or an index without points.
    """
    try:
        document = json.loads(index.read_text())
    except FileNotFoundError:
        raise AnalysisError(f"no study index at {index}; launch the study, or name one of studies/*.json") from None
    except json.JSONDecodeError as error:
        raise AnalysisError(f"{index}, line {error.lineno}: not JSON; launch the study again to rewrite it") from None
    if not isinstance(document, dict) or document.get("format") != 1:
        raise AnalysisError(f"{index} is not a study index of format 1")
    if not document.get("points"):
        raise AnalysisError(f"study {document.get('study', index.stem)} has no points: nothing to analyse")
    for key, kind in (("study", str), ("axes", dict), ("runs", str), ("points", list)):
        if not isinstance(document.get(key), kind):
            raise AnalysisError(f"{index} is damaged: no {key!r} in it; launch the study again to rewrite it")
    return document


def read_directory(run_dir: Path, cell: str) -> RunRecord:
    """The run as its directory holds it: "missing" where there is none, "damaged" where a file cannot be read."""
    if not run_dir.is_dir():
        return missing(cell)
    try:
        state, config = read_state(run_dir), read_config(run_dir) if is_run(run_dir) else {}
        history = _merge(read_rows(run_dir))
    except ConfigError as error:
        return RunRecord(cell, "damaged", str(error), {}, ())
    reason = f"{state.failure.kind}: {state.failure.message}" if state.failure else None
    return RunRecord(cell, state.state, reason, config, history)


def missing(cell: str) -> RunRecord:
    """The record of a cell of which nothing is known."""
    return RunRecord(cell, "missing", None, {}, ())


def scores(record: RunRecord) -> dict[tuple[str, str], dict[str, float]]:
    """Everything that a run evaluated: (benchmark, setting) → `SCORES`.

    The normalized average is listed under `AVERAGE`, with the score and lower bound of a single benchmark that would
    be normalised to the same points.
    """
    last = record.last
    found: dict[tuple[str, str], dict[str, float]] = {}
    for key, value in last.items():
        parts = key.split("/")
        if parts[0] == "eval" and len(parts) == 4 and parts[3] in SCORES:
            found.setdefault((parts[1], parts[2]), {})[parts[3]] = float(value)
    if found and keys.AVERAGE in last:
        members = [found[member] for member in average_members(record)]
        worst = sum(-100 * row["lower_bound"] / (100 - row["lower_bound"]) for row in members) / len(members)
        scale = (100 - worst) / 100
        found[AVERAGE] = {
            "score": (float(last[keys.AVERAGE]) - worst) / scale,
            "stderr": float(last[f"{keys.AVERAGE}_stderr"]) / scale,
            "n": sum(row["n"] for row in members),
            "lower_bound": -worst / scale,
            "normalized": float(last[keys.AVERAGE]),
        }
    return found


def average_members(record: RunRecord) -> list[tuple[str, str]]:
    """The (benchmark, setting) pairs that make up the normalized average of a run; none before it is evaluated."""
    names = [name.rpartition("/") for name in record.last.get(f"{keys.AVERAGE}_members", ())]
    return [(benchmark, setting) for benchmark, _, setting in names]


def table(study: Study) -> pd.DataFrame:
    """The tidy table: a row per grid point × benchmark × setting, with NaN scores where a point has none.

    Columns: the axes (`COLUMNS` first), cell, run, state, failure, tasks (their realised number), benchmark, setting,
    then `SCORES`.
    """
    by_cell = {cell: scores(record) for cell, record in study.records.items()}
    # In the order of the average's members, which is logged: W&B keeps no order of the keys of a row.
    members = dict.fromkeys(member for record in study.records.values() for member in average_members(record))
    others = {key for found in by_cell.values() for key in found} - members.keys() - {AVERAGE}
    measured = [*members, *sorted(others), *[AVERAGE] * bool(members)]
    extra = [axis for axis in study.axes if axis not in COLUMNS]
    rows = []
    for point in study.points:
        record = study.records[point.cell]
        about = {name: study.column(point, name) for name in [*COLUMNS.values(), *extra]}
        about |= {"cell": point.cell, "run": point.run, "state": record.state, "failure": record.failure}
        about["tasks"] = record.last.get("mixture/tasks")
        for key in measured:
            rows.append(about | {"benchmark": key[0], "setting": key[1]} | by_cell[point.cell].get(key, {}))
        if not measured:  # nothing is evaluated yet: a row a point all the same
            rows.append(about | {"benchmark": None, "setting": None})
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*dict.fromkeys([*frame.columns, *SCORES])])


def _assemble(index: Path, source: str, read: Callable[[Path, str], RunRecord]) -> Study:
    document = read_index(index)
    folder = (index.parent / document["runs"]).resolve()
    points = tuple(Point(point["axes"], point["cell"], point["run"]) for point in document["points"])
    costs = document.get("cells", {})
    return Study(
        name=document["study"],
        title=document.get("title") or document["study"],
        version=document.get("flanscale", "unknown"),
        overrides=tuple(document.get("overrides", ())),
        axes={axis: tuple(values) for axis, values in document["axes"].items()},
        points=points,
        records={cell: read(folder / run, cell) for cell, run in {point.cell: point.run for point in points}.items()},
        parameters={cell: cost["parameters"] for cell, cost in costs.items() if cost.get("parameters")},
        folder=folder,
        source=source,
    )


def _merge(history: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """One row a step; metrics.jsonl names the step `step`, W&B `_step`, and both add host times that are no result."""
    steps: dict[int, dict[str, Any]] = {}
    for row in history:
        step = int(row["step"] if "step" in row else row["_step"])
        values = {
            key: _plain(value) for key, value in row.items() if key not in BOOKKEEPING and not key.startswith("_")
        }
        steps.setdefault(step, {"step": step}).update(values)
    return tuple(steps[step] for step in sorted(steps))


def _plain(value: Any) -> Any:
    """W&B keeps a non-finite number as one, metrics.jsonl as its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _count(config: Mapping[str, Any]) -> int:
    return int(_config_value(config, "mixture.count") or 0)


def _config_value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
