"""What was a model asked, and what did it answer? One folder for each suite.

evaluations/<suite>-<fingerprint>/
    <benchmark>.<setting>.jsonl      records of a line that is being asked, a batch after another
    <benchmark>.<setting>.jsonl.gz   all records of a line, in the order of its items
    result.json                      what came of it: written last
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError
from flanscale.run_directory.files import EVALUATIONS, cut_torn_line, damaged_told, write_atomically

RESULT_FILE, WEIGHTS_FILE = "result.json", "weights.json"
GROWING, WHOLE = ".jsonl", ".jsonl.gz"


def is_evaluation(folder: Path) -> bool:
    """Whether a folder is that of an evaluation."""
    return folder.parent.name == EVALUATIONS


def run_of_evaluation(folder: Path) -> Path:
    """The run directory that an evaluation lies in."""
    return folder.parent.parent


def runs_of(folder: Path) -> Path:
    """The folder of runs in which a run directory lies, or that of which a folder is an evaluation."""
    return (run_of_evaluation(folder) if is_evaluation(folder) else folder).parent


def name_among_runs(folder: Path) -> str:
    """The name of a run directory, or one for an evaluation that no other has in the folder of runs."""
    return ".".join(folder.relative_to(runs_of(folder)).parts)


def among_runs(runs: Path, name: str) -> Path:
    """The run directory or evaluation of such a name."""
    run, _, evaluation = name.partition(f".{EVALUATIONS}.")
    return runs / run / EVALUATIONS / evaluation if evaluation else runs / run


def check_weights(folder: Path, fingerprint: str, *, writes: bool) -> None:
    """See that the records in a folder are of these weights, and say so there where there are none.

    Raises:
        ConfigError: they are of others.
    """
    path = folder / WEIGHTS_FILE
    if path.exists():
        with damaged_told(path):
            if (known := json.loads(path.read_text(encoding="utf-8"))["fingerprint"]) != fingerprint:
                raise ConfigError(
                    f"{folder} holds answers of other weights ({known}, not {fingerprint}): delete it to ask these"
                )
    elif writes:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"fingerprint": fingerprint}) + "\n")


def evaluations(run_dir: Path) -> list[Path]:
    """The folders of all suites that were asked, by name."""
    return sorted(path for path in (run_dir / EVALUATIONS).glob("[!.]*") if path.is_dir())


def recorded(folder: Path) -> dict[str, Path]:
    """Line (benchmark/setting) → its file of records, of those lines that were asked to the end."""
    found = {path.name.removesuffix(WHOLE): path for path in sorted(folder.glob(f"*{WHOLE}"))}
    return {name.replace(".", "/", 1): path for name, path in found.items()}


def read_records(folder: Path, line: str) -> tuple[list[dict[str, Any]], bool]:
    """The records of a line so far, and whether these are all; a torn last one is left out.

    Raises:
        ConfigError: they are damaged.
    """
    whole, growing = _path(folder, line, WHOLE), _path(folder, line, GROWING)
    if whole.exists():
        with damaged_told(whole), gzip.open(whole, "rt", encoding="utf-8") as file:
            return [_record(text) for text in file], True
    if not growing.exists():
        return [], False
    complete, _, _ = growing.read_bytes().rpartition(b"\n")
    with damaged_told(growing):
        return [_record(text) for text in complete.splitlines()], False


def _record(text: str | bytes) -> dict[str, Any]:
    record = json.loads(text)
    if not isinstance(record, dict) or "key" not in record:
        raise ValueError("a line is no record")
    return record


def append_records(folder: Path, line: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Keep a batch of records, so that nothing of it is lost from here on."""
    path = _path(folder, line, GROWING)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = b"".join(_line(record) for record in records)
    cut_torn_line(path)
    with path.open("ab") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def close_records(folder: Path, line: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write all records of a line for good; the same records give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(_path(folder, line, WHOLE), gzip.compress(b"".join(_line(record) for record in records), mtime=0))
    _path(folder, line, GROWING).unlink(missing_ok=True)


def read_result(folder: Path) -> dict[str, Any] | None:
    """What came of an evaluation; None where it is not over.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / RESULT_FILE
    if not path.exists():
        return None
    with damaged_told(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write what came of an evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RESULT_FILE, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _path(folder: Path, line: str, suffix: str) -> Path:
    return folder / f"{line.replace('/', '.')}{suffix}"


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
