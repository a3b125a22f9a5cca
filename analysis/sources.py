"""Where do the logs of a study come from: run directories, W&B files or server, or a table in a CSV file.

`read(index, source)` gives the same study from each:

    directories           metrics.jsonl of the run directories, the primary record
    wandb                 the offline W&B files inside them
    api:ENTITY/PROJECT    the W&B server, asked for the ids of the study's own runs: a cell that another study launched
                          first belongs to that study's group
    csv:FILE              what `write_csv` wrote, or any file with its columns; no index is needed
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from analysis.runs import COLUMNS, AnalysisError, Point, RunRecord, Study, missing, table
from analysis.scores import AVERAGE, SCORES
from flanscale.errors import ConfigError, one_line
from flanscale.run_directory import (
    CONFIG_FILE,
    METRICS_FILE,
    STATE_FILE,
    is_run,
    read_config,
    read_rows,
    read_state,
    write_atomically,
)
from flanscale.tracking import keys, wandb_run

LOSSES = 200
"""Steps of the training loss that are kept of a run."""
BOOKKEEPING = frozenset({"step", "attempt", "time"})
CACHE_FORMAT = 1
ABOUT = ("cell", "run", "state", "failure", "tasks", "parameters")
"""Columns of a table file that are no axis and no score."""
KEYS = {column: key for key, column in COLUMNS.items()}
TEXTS = frozenset({"cell", "run", "state", "failure", "benchmark", "setting", "members", "prompts"})


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
    kept, found = _cached(index), dict[str, Any]()

    def read_one(run_dir: Path, cell: str) -> RunRecord:
        stamp = _stamp(run_dir)
        before = kept.get(cell)
        if before is not None and before["stamp"] == stamp:
            found[cell] = before
            return RunRecord(cell, **{**before["record"], "losses": tuple(map(tuple, before["record"]["losses"]))})
        record = read_directory(run_dir, cell)
        if record.state not in ("missing", "damaged"):
            fields = ("state", "failure", "config", "last", "losses")
            found[cell] = {"stamp": stamp, "record": {name: getattr(record, name) for name in fields}}
        return record

    study = _assemble(index, "run directories", read_one)
    if found != kept:
        _keep(index, found)
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

    return _assemble(index, "offline W&B files", read_one)


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

    return _assemble(index, f"W&B project {project}", read_one)


def from_csv(file: Path, index: Path | None = None) -> Study:
    """The study as a table in a CSV file holds it: a row per point × benchmark × setting, as `write_csv` writes it.

    Needed are the columns benchmark, setting, score and lower_bound, and what the study varies. Where the study's index
    is at hand, points and title are its own.

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
    if lacking := [
        name for name in ("benchmark", "setting", "score", "lower_bound") if not rows or name not in rows[0]
    ]:
        raise AnalysisError(f"{file} has no rows, or no column {', '.join(lacking)}")
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
        return _assemble(index, f"table {file.name}", lambda run_dir, cell: records.get(cell, missing(cell)))
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
        parameters={cell: number for cell, number in known.items() if isinstance(number, int)},
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
    frame.to_csv(file, index=False)


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


def _assemble(index: Path, source: str, read_one: Callable[[Path, str], RunRecord]) -> Study:
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
        records={
            cell: read_one(folder / run, cell) for cell, run in {point.cell: point.run for point in points}.items()
        },
        parameters={cell: cost["parameters"] for cell, cost in costs.items() if _counted(cost)},
        folder=folder,
        source=source,
        costs={cell: _numbers(cost) for cell, cost in costs.items() if isinstance(cost, dict)},
    )


def _numbers(cost: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in cost.items() if type(value) in (int, float)}


def _counted(cost: Any) -> bool:
    return isinstance(cost, dict) and type(cost.get("parameters")) is int and cost["parameters"] > 0


def _batches(cells: list[str], size: int = 100) -> list[list[str]]:
    return [cells[start : start + size] for start in range(0, len(cells), size)]


# --- what was read before ---------------------------------------------------------------------------------------------


def _cache_file(index: Path) -> Path:
    return index.parent / ".cache" / index.name


def _stamp(run_dir: Path) -> list[list[int] | None]:
    """Size and time of the files that `read_directory` reads."""
    out: list[list[int] | None] = []
    for name in (STATE_FILE, CONFIG_FILE, METRICS_FILE):
        try:
            found = (run_dir / name).stat()
        except OSError:
            out.append(None)
        else:
            out.append([found.st_mtime_ns, found.st_size])
    return out


def _cached(index: Path) -> dict[str, Any]:
    """What was kept of the study's runs; nothing where there is no such file, or another version's."""
    try:
        document = json.loads(_cache_file(index).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # made again below
        return {}
    whole = isinstance(document, dict) and document.get("format") == CACHE_FORMAT
    return document["runs"] if whole and isinstance(document.get("runs"), dict) else {}


def _keep(index: Path, runs: Mapping[str, Any]) -> None:
    file = _cache_file(index)
    try:
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps({"format": CACHE_FORMAT, "runs": runs}))
    except OSError:  # a folder that may only be read is read as a whole each time
        return


# --- tables -----------------------------------------------------------------------------------------------------------


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
            last[keys.AVERAGE] = row["normalized"]
            last[f"{keys.AVERAGE}_stderr"] = row["stderr"] / scale if row.get("stderr") is not None else math.nan
            last[f"{keys.AVERAGE}_members"] = str(row.get("members") or "").split(";")
            continue
        figures = {name: row[name] for name in (*SCORES, "prompts") if row.get(name) is not None}
        if "normalized" not in figures and all(
            isinstance(figures.get(name), int | float) for name in ("score", "lower_bound")
        ):
            low = figures["lower_bound"]
            figures["normalized"] = 100 * (figures["score"] - low) / (100 - low) if low < 100 else math.nan
        last |= {keys.eval_key(row["benchmark"], row["setting"], name): value for name, value in figures.items()}
    return RunRecord(cell, str(rows[0].get("state") or "finished"), rows[0].get("failure"), config, last)


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


def _plain(value: Any) -> Any:
    """W&B keeps a non-finite number as one, metrics.jsonl as its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
