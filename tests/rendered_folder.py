"""A folder of the rendered Flan 2022 collection as the Hub has it: all its tasks under the names of its rows."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.flan_names import NEVER_RENDERED

SOURCES = {"cot": "CoT", "muffin": "Flan2021", "t0sf": "P3", "niv2": "NIv2"}
KINDS = ("zs_opt", "zs_noopt", "fs_opt", "fs_noopt")


def flan_names() -> list[dict[str, str]]:
    """Names as FLAN's code and copies of its data write them: source, name, the catalogue's task (or nothing)."""
    with Path(__file__).with_name("flan_names.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def collection_names() -> dict[str, tuple[str, str]]:
    """Task of the catalogue → (source, name) of its rows, in an order of no meaning; without those that have none."""
    seen: dict[str, tuple[str, str]] = {}
    for row in flan_names():
        seen.setdefault(row["task"], (row["source"], row["name"]))
    every = {task: seen.get(task, (SOURCES[group], task)) for group in COUNTS for task in catalogued(group)}
    return {task: every[task] for task in sorted(every, reverse=True) if task not in NEVER_RENDERED}


def rendered_row(number: int, source: str, name: str) -> dict[str, Any]:
    facts = {"_task_source": source, "_task_name": name, "_template_type": KINDS[number % 4], "_template_idx": 0}
    return {"inputs": f"{name} asks {number}?", "targets": f"answer {number}"} | facts


def rendered_folder(folder: Path, names: Iterable[tuple[str, str]], rows: int = 1) -> Path:
    """Write `rows` rows of each name, a gzipped file for each source and half of the template types."""
    files: dict[str, list[Mapping[str, Any]]] = {}
    for source, name in names:
        for number in range(rows):
            row = rendered_row(number, source, name)
            files.setdefault(f"{source}_{row['_template_type'][:2]}opt_train.jsonl.gz", []).append(row)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        text = "".join(json.dumps(row) + "\n" for row in content)
        (folder / file).write_bytes(gzip.compress(text.encode(), 1))
    return folder
