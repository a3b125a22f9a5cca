"""How does a study travel: a small copy of its logs, without checkpoints, texts or anything about the machine.

    python -m analysis.demo studies/quickstart.json notebooks/demo

writes `studies/NAME.json` and `runs/*` below the folder; every reader of `analysis.runs` takes them for the study.
Where runs are repeated, their own scatter says all about an error, and what was answered item by item is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from analysis.index import read_index
from analysis.runs import AnalysisError, Study
from analysis.sources import from_directories
from flanscale.run_directory import (
    CONFIG_FILE,
    EVALUATIONS,
    METRICS_FILE,
    Failure,
    RunState,
    evaluations,
    read_records,
    read_result,
    read_rows,
    read_state,
    recorded,
    write_state,
)
from flanscale.run_directory.evaluations import close_records, write_result

COMPARED = ("key", "subtask", "cluster", "prompt_hash", "scores")
"""Parts of an item's record that a comparison of cells needs."""
LOCAL = ("paths", "cluster", "data", "tracker")
"""Parts of a config that say where a run happened, not what it was."""


def export(index: Path, out: Path) -> Path:
    """Copy what the analysis reads of a study to `out`, in place of an earlier copy of it; returns the copy's index.

    Raises:
        AnalysisError: there is no such study, or a run is damaged.
    """
    study = from_directories(index)
    document = read_index(index)
    document["runs"] = "../runs"
    kept = [each for each in study.overrides if each.lstrip("+~").split(".")[0] not in LOCAL]
    document["overrides"] = ["=".join(map(_without_folder, each.split("=", 1))) for each in kept]
    copy = out / "studies" / f"{study.name}.json"
    if copy.exists():
        for point in read_index(copy)["points"]:
            shutil.rmtree(out / "runs" / point["run"], ignore_errors=True)
    for point in {point.cell: point for point in study.points}.values():
        _copy_run(study, point.cell, point.run, out / "runs" / point.run)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return copy


def _copy_run(study: Study, cell: str, run: str, out: Path) -> None:
    record = study.records[cell]
    if record.state == "missing":
        return
    if record.state == "damaged":
        raise AnalysisError(f"{record.failure}: repair or delete the run before exporting its study")
    out.mkdir(parents=True, exist_ok=True)
    config = _without_folder({key: value for key, value in record.config.items() if key not in LOCAL})
    (out / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    kind, _, message = (record.failure or "").partition(": ")
    spent = read_state(study.folder / run).seconds
    write_state(out, RunState(record.state, attempt=1, failure=Failure(kind, message) if kind else None, seconds=spent))
    rows = [{key: value for key, value in row.items() if key != "time"} for row in read_rows(study.folder / run)]
    (out / METRICS_FILE).write_text(_lines(rows), encoding="utf-8")
    repeated = any(len(study.axes.get(axis, ())) > 1 for axis in ("seed", "mixture.order_seed"))
    for folder in evaluations(study.folder / run):
        _copy_evaluation(folder, out / EVALUATIONS / folder.name, answers=not repeated)


def _copy_evaluation(folder: Path, out: Path, *, answers: bool) -> None:
    """The result, and of every item what a comparison needs where `answers` are to be compared."""
    if (result := read_result(folder)) is None:
        return
    for line in recorded(folder) if answers else ():
        records, _ = read_records(folder, line)
        close_records(out, line, [{key: record[key] for key in COMPARED} for record in records])
    asks = [fault.split(": ", 1)[0] for fault in result["faults"]]  # what follows may name a folder of the machine
    write_result(out, {**result, "faults": asks})


def _without_folder(value: Any) -> Any:
    """Of absolute paths, as `init.hf` has one, the last part alone."""
    if isinstance(value, dict):
        return {key: _without_folder(each) for key, each in value.items()}
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.demo", description="Copy the logs of a study.")
    parser.add_argument("index", type=Path, help="studies/NAME.json")
    parser.add_argument("out", type=Path, help="folder of the copy")
    arguments = parser.parse_args()
    try:
        print(export(arguments.index, arguments.out))
    except AnalysisError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
