"""What of a study was read before, and is not read again: the records of runs whose files have not changed.

One JSON file a study, `.cache/NAME.json` beside its index. It may be deleted at any time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.runs import RunRecord
from flanscale.run_directory import CONFIG_FILE, METRICS_FILE, STATE_FILE, write_atomically

CACHE_FORMAT = 1
KEPT = ("state", "failure", "config", "last", "losses")
"""Fields of a record that are kept."""
Entry = Mapping[str, Any]
"""A record with the stamp of the files that it was read from."""


def entry(record: RunRecord, stamp: Any) -> Entry:
    """What is kept of a record."""
    return {"stamp": stamp, "record": {name: getattr(record, name) for name in KEPT}}


def record(cell: str, kept: Entry) -> RunRecord:
    """The record that was kept of a cell."""
    fields = kept["record"]
    return RunRecord(cell, **{**fields, "losses": tuple(map(tuple, fields["losses"]))})


def stamp(run_dir: Path) -> list[list[int] | None]:
    """Size and time of the files that a record is read from; None for one that is not there."""
    out: list[list[int] | None] = []
    for name in (STATE_FILE, CONFIG_FILE, METRICS_FILE):
        try:
            found = (run_dir / name).stat()
        except OSError:
            out.append(None)
        else:
            out.append([found.st_mtime_ns, found.st_size])
    return out


def read_cache(index: Path) -> dict[str, Any]:
    """What was kept of the study's runs; nothing where there is no such file, or another version's."""
    try:
        document = json.loads(_file(index).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # made again below
        return {}
    whole = isinstance(document, dict) and document.get("format") == CACHE_FORMAT
    return document["runs"] if whole and isinstance(document.get("runs"), dict) else {}


def write_cache(index: Path, runs: Mapping[str, Entry]) -> None:
    """Keep what was read of a study's runs."""
    file = _file(index)
    try:
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps({"format": CACHE_FORMAT, "runs": runs}))
    except OSError:  # a folder that may only be read is read as a whole each time
        return


def _file(index: Path) -> Path:
    return index.parent / ".cache" / index.name
