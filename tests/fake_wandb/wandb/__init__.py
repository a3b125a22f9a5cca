"""A W&B whose server is the folder `FAKE_WANDB`: a file of records a run, and `away` while it cannot be reached.

As the real one it takes the steps of a run in their order only, and says at `run.step` where a resumed run goes on.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from wandb import errors
from wandb.errors import AuthenticationError, CommError

__all__ = ["Run", "Settings", "errors", "init", "teardown"]
_in_use: set[str] = set()  # as the real service, which keeps the id of a run that it could not start


class Settings:
    def __init__(self, **values: Any) -> None:
        self.values = values


class Run:
    def __init__(self, file: Path) -> None:
        self._file = file
        steps = [record["log"]["step"] for record in _records(file) if "log" in record]
        self.step = steps[-1] + 1 if steps else 0
        self.url = f"fake://{file.stem}"

    def log(self, values: dict[str, Any], step: int) -> None:
        assert step >= self.step, f"step {step} after {self.step}"
        self.step = step
        self.write({"log": {"step": step, "values": values}})

    def finish(self, exit_code: int) -> None:
        self.write({"finish": exit_code})

    def write(self, record: dict[str, Any]) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(record) + "\n")


def init(**described: Any) -> Run:
    server = Path(os.environ["FAKE_WANDB"])
    settings: Settings = described.pop("settings")
    if described["id"] in _in_use:
        raise RuntimeError(f"run ID {described['id']} is in use")
    _in_use.add(described["id"])
    if (server / "locked").exists():
        raise AuthenticationError("no key")
    if (server / "away").exists():
        time.sleep(min(settings.values["init_timeout"], 0.2))
        raise CommError("connection refused\nConsider increasing the init_timeout setting")
    run = Run(server / f"{described['id']}.jsonl")
    run.write({"init": described})
    return run


def teardown() -> None:
    _in_use.clear()


def _records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
