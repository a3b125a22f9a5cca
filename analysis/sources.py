"""Where do the logs of a study come from: run directories, W&B files or server, or a table in a CSV file.

`read(index, source)` gives the same study from each:

    directories           metrics.jsonl of the run directories, the primary record
    wandb                 the offline W&B files inside them
    api:ENTITY/PROJECT    the W&B server, asked for the ids of the study's own runs: a cell that another study launched
                          first belongs to that study's group
    csv:FILE              what `write_csv` wrote, or any file with its columns (`csv_table`); no index is needed
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from analysis import cache
from analysis.csv_table import from_csv
from analysis.csv_table import write_csv as write_csv
from analysis.index import assemble, read_index
from analysis.runs import AnalysisError, RunRecord, Study, missing
from flanscale.errors import ConfigError, one_line
from flanscale.run_directory import is_run, read_config, read_rows, read_state
from flanscale.tracking import wandb_run

LOSSES = 200
"""Steps of the training loss that are kept of a run."""
BOOKKEEPING = frozenset({"step", "attempt", "time"})


def read(index: Path, source: str = "directories") -> Study:
    """The study, from the source of that name.

    Raises:
        AnalysisError: there is no such source, no such study, or what is there is damaged as a whole.
    """
    kind, _, rest = source.partition(":")
    if source == "directories":
        return from_directories(index)
    if source == "wandb":
        return from_wandb_files(index)
    if kind == "api" and rest.count("/") == 1 and all(rest.split("/")):
        return from_wandb_api(index, rest)
    if kind == "csv" and rest:
        return from_csv(Path(rest).expanduser(), index)
    raise AnalysisError(f"source {source!r}: one of directories, wandb, api:ENTITY/PROJECT, csv:FILE")


def from_directories(index: Path) -> Study:
    """The study as its run directories hold it. What has not changed since it was last read is not read again.

    Raises:
        AnalysisError: the index is missing, damaged or empty.
    """
    kept, found = cache.read_cache(index), dict[str, cache.Entry]()

    def read_one(run_dir: Path, cell: str) -> RunRecord:
        stamp, before = cache.stamp(run_dir), kept.get(cell)
        if before is not None and before["stamp"] == stamp:
            found[cell] = before
            return cache.record(cell, before)
        record = read_directory(run_dir, cell)
        if record.state not in ("missing", "damaged"):
            found[cell] = cache.entry(record, stamp)
        return record

    study = assemble(index, "run directories", read_one)
    if found != kept:
        cache.write_cache(index, found)
    return study


def from_wandb_files(index: Path) -> Study:
    """The study as the offline W&B files inside its run directories hold it. Raises as `from_directories`."""
    from flanscale.tracking import wandb_log

    def read_one(run_dir: Path, cell: str) -> RunRecord:
        logs = wandb_log.find_logs(run_dir)
        if not logs:
            return missing(cell)
        try:
            run = wandb_log.read_run(logs)
            if run.id != cell:
                raise ValueError(f"these are the W&B files of run {run.id}")
            state = "unfinished" if run.exit_code is None else "failed" if run.exit_code else "finished"
            failure = f"exit code {run.exit_code}" if run.exit_code else None
            return _record(cell, state, failure, run.config, run.history)
        except (ValueError, KeyError, TypeError, OSError) as error:
            return _damaged(cell, f"{run_dir.name}/wandb: {type(error).__name__}: {one_line(error)}")

    return assemble(index, "offline W&B files", read_one)


def from_wandb_api(index: Path, project: str, client: Any = None) -> Study:
    """The study as a W&B server holds it.

    `project` is "entity/project"; `client` is a `wandb.Api`, made on demand. Runs are asked for by the ids of the
    study's cells, so that one that the server does not have shows as a missing cell. Raises as `from_directories`,
    and where the server cannot be asked.
    """
    cells = list(dict.fromkeys(point["cell"] for point in read_index(index)["points"]))
    try:
        client = client or wandb_run.client()
        runs = {run.id: run for ids in _batches(cells) for run in client.runs(project, filters={"name": {"$in": ids}})}
    except Exception as error:  # the library raises errors of many kinds, its own and those of the network
        raise AnalysisError(
            f"W&B project {project} cannot be read: {type(error).__name__}: {one_line(error)}"
        ) from error

    def read_one(run_dir: Path, cell: str) -> RunRecord:
        if cell not in runs:
            return missing(cell)
        run = runs[cell]
        failure = None if run.state in ("finished", "running") else f"W&B state {run.state}"
        state = "failed" if run.state in ("failed", "crashed", "killed") else run.state
        try:
            return _record(cell, state, failure, dict(run.config), run.scan_history())
        except Exception as error:
            return _damaged(cell, f"run {cell} on W&B: {type(error).__name__}: {one_line(error)}")

    return assemble(index, f"W&B project {project}", read_one, each=map)


def read_directory(run_dir: Path, cell: str) -> RunRecord:
    """The run as its directory holds it: "missing" where there is none, "damaged" where a file cannot be read."""
    if not run_dir.is_dir():
        return missing(cell)
    try:
        state, config = read_state(run_dir), read_config(run_dir) if is_run(run_dir) else {}
        reason = f"{state.failure.kind}: {state.failure.message}" if state.failure else None
        return _record(cell, state.state, reason, config, read_rows(run_dir))
    except ConfigError as error:
        return _damaged(cell, str(error))


def merged(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a step; metrics.jsonl names the step `step`, W&B `_step`, and both add host times that are no result."""
    steps: dict[int, dict[str, Any]] = {}
    for row in history:
        step = int(row["step"] if "step" in row else row["_step"])
        values = {
            key: _plain(value) for key, value in row.items() if key not in BOOKKEEPING and not key.startswith("_")
        }
        steps.setdefault(step, {"step": step}).update(values)
    return [steps[step] for step in sorted(steps)]


def _record(
    cell: str, state: str, failure: str | None, config: Mapping[str, Any], history: Iterable[Mapping[str, Any]]
) -> RunRecord:
    rows = merged(history)
    last = {key: value for row in rows for key, value in row.items()}
    losses = [(row["step"], row["train/loss"]) for row in rows if type(row.get("train/loss")) in (int, float)]
    return RunRecord(cell, state, failure, config, last, tuple(losses[:: max(1, len(losses) // LOSSES)]))


def _damaged(cell: str, why: str) -> RunRecord:
    return RunRecord(cell, "damaged", why, {}, {})


def _batches(cells: list[str], size: int = 100) -> list[list[str]]:
    return [cells[start : start + size] for start in range(0, len(cells), size)]


def _plain(value: Any) -> Any:
    """W&B keeps a non-finite number as one, metrics.jsonl as its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
