"""How does a study travel: a small copy of its logs, without checkpoints, texts or anything about the machine.

    python -m analysis.demo studies/quickstart.json notebooks/demo

writes `studies/NAME.json` and `runs/*` below the folder; every reader of `analysis.runs` takes them for the study.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from analysis.runs import AnalysisError, Study, from_directories, read_index
from flanscale.tracking.tracker import METRICS_FILE, read_metrics

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
    document["overrides"] = [each for each in study.overrides if each.lstrip("+~").split(".")[0] not in LOCAL]
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
    config = {key: value for key, value in record.config.items() if key not in LOCAL}
    (out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    failure = None
    if record.failure:
        kind, _, message = record.failure.partition(": ")
        failure = {"class": kind, "message": message}
    state = {"format": 1, "state": record.state, "attempt": 1, "failure": failure}
    (out / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
    rows = [
        {key: value for key, value in row.items() if key != "time"}
        for row in read_metrics(study.folder / run / METRICS_FILE)
    ]
    (out / METRICS_FILE).write_text(_lines(rows), encoding="utf-8")
    for predictions in sorted((study.folder / run / "predictions").glob("*.jsonl.gz")):
        _copy_scores(predictions, out / "predictions" / predictions.name)


def _copy_scores(predictions: Path, out: Path) -> None:
    """What was right, without the texts; no time in the file's head, so that the same study gives the same bytes."""
    with gzip.open(predictions, "rt", encoding="utf-8") as file:
        rows = [{key: row[key] for key in ("setting", "task", "id", "score")} for row in map(json.loads, file)]
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(gzip.compress(_lines(rows).encode(), mtime=0))


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
