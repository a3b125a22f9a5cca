"""What did each attempt run on? The record `provenance.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flanscale.run_directory.files import PROVENANCE_FILE, check_format, damaged_told, write_atomically

FORMAT = 2


@dataclass(frozen=True)
class Code:
    """Which code an attempt ran. `diff` names a file of the run directory and `archive` one beside it, both gzipped."""

    commit: str | None = None
    origin: str | None = None
    dirty: bool = False
    diff_sha256: str | None = None
    diff: str | None = None
    snapshot: str | None = None
    archive: str | None = None


@dataclass(frozen=True)
class Attempt:
    """What one attempt ran on; None where it was not to be known."""

    attempt: int
    started: float  # seconds since the epoch
    flanscale: str
    python: str
    host: str
    platform: str
    argv: list[str]
    code: Code | None = None
    packages: dict[str, str] | None = None  # every installed distribution → its version
    elsewhere: dict[str, str] | None = None  # those that came from a folder or a repository → its address
    machine: str | None = None
    cpus: int | None = None
    working_directory: str | None = None
    data: dict[str, dict[str, str]] | None = None  # "fingerprints" and "places"
    slurm: dict[str, str] | None = None
    jax_environment: dict[str, str] | None = None  # variables that change how JAX computes
    devices: list[str] | None = None
    runtime: str | None = None
    driver: str | None = None


def read_attempts(run_dir: Path) -> list[Attempt]:
    """What has been recorded, oldest attempt first; empty where nothing has.

    Raises:
        ConfigError: the file is damaged or of another format.
    """
    path = run_dir / PROVENANCE_FILE
    with damaged_told(path):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        check_format(path, document["format"], FORMAT)
        entries: list[dict[str, Any]] = document["attempts"]
        return [Attempt(**entry | {"code": Code(**entry["code"]) if entry["code"] else None}) for entry in entries]


def write_attempts(run_dir: Path, attempts: list[Attempt]) -> None:
    """Replace the record of all attempts."""
    document = {"format": FORMAT, "attempts": [asdict(attempt) for attempt in attempts]}
    write_atomically(run_dir / PROVENANCE_FILE, json.dumps(document, indent=1, default=str) + "\n")
