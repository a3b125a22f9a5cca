"""What does W&B know of a run, and how is it told? Only this module calls wandb.

`wandb/sent.json` in the run directory says how far each project is, so that nothing is sent twice.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flanscale.run_directory import WANDB, write_atomically
from flanscale.tracking.masking import masked, without_secrets

SENT_FILE = "sent.json"
BOOKKEEPING = ("step", "attempt", "time")
CONNECT_SECONDS = 20.0
FINISH_SECONDS = 60.0  # for the server to take what is left


def described_run(run_dir: Path, config: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """What W&B is told about a run besides its rows.

    Args:
        run_dir: its name is the run's.
        config: the cell's, as plain values; an older version's may lack keys.
        run_id: W&B's id.
    """
    tracker = config["tracker"]
    return {
        "project": tracker["project"],
        "entity": tracker["entity"],
        "group": tracker["group"],
        "job_type": tracker.get("job_type") or _stage(config),
        "tags": list(tracker.get("tags", ())),
        "notes": tracker.get("notes"),
        "id": run_id,
        "name": run_dir.name,
        "config": without_secrets(dict(config)),
    }


def _stage(config: Mapping[str, Any]) -> str:
    if config.get("objective", {}).get("denoisers"):
        return "pretrain"
    return "finetune" if config["trainer"]["steps"] else "evaluate"


# --- what has been sent ----------------------------------------------------------------------------------------------


def target(project: str, entity: str | None) -> str:
    """Server, team and project, as `sent.json` names them."""
    server = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc.rpartition("@")[2]
    return "/".join([*filter(None, [server, entity]), project])


def first_unsent_step(run_dir: Path, where: str) -> float:
    """The first step that a project lacks; infinity once it has the end of a finished run."""
    return float(_sent(run_dir).get(where, 0))


def _sent(run_dir: Path) -> dict[str, Any]:
    path = run_dir / WANDB / SENT_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))["next_step"]) if path.exists() else {}


def note_sent(run_dir: Path, where: str, next_step: float) -> None:
    """Remember what a project has."""
    folder = run_dir / WANDB
    folder.mkdir(exist_ok=True)
    known = _sent(run_dir) | {where: "inf" if math.isinf(next_step) else next_step}
    write_atomically(folder / SENT_FILE, json.dumps({"format": 1, "next_step": known}) + "\n")


class NotSent(Exception):
    """W&B does not have it; the message is one line. `lasting`: trying again is of no use."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


class Steps:
    """Rows on their way, merged by step: W&B takes steps in their order, each once."""

    def __init__(self, first: float = 0) -> None:
        self.next = first
        self._waiting: dict[int, dict[str, Any]] = {}

    def take(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; steps that have been sent are left out."""
        for row in rows:
            if row["step"] >= self.next:
                self._waiting.setdefault(row["step"], {}).update(_values(row))

    def ready(self, *, finished: bool) -> list[int]:
        """The steps to send now: all but the newest, at which a run that is not finished may log more."""
        return sorted(self._waiting)[: None if finished else -1]

    def send(self, run: Any, *, finished: bool) -> None:
        """Hand the steps that are ready to a W&B run."""
        for step in self.ready(finished=finished):
            if step >= run.step:  # of a resumed run: the first step that the server lacks
                run.log(self._waiting[step], step=step)
            del self._waiting[step]
            self.next = step + 1


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    """As they were before they were written as JSON, with the time at which they were logged."""
    numbers = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    values = {
        key: numbers.get(value, value) if isinstance(value, str) else value
        for key, value in row.items()
        if key not in BOOKKEEPING
    }
    return values | ({"_timestamp": row["time"]} if "time" in row else {})


def client() -> Any:
    """The library's client for asking a server about runs."""
    import wandb

    return wandb.Api()


def connect(described: Mapping[str, Any], folder: Path, seconds: float) -> Any:
    """A W&B run on the server, new or the one with the same id.

    Raises:
        NotSent: there is none within the time; another try may be made.
    """
    import wandb

    try:
        return start(described, folder, "online", seconds)
    except Exception as error:  # the library's own are of many kinds
        wandb.teardown()  # or its service would keep the run's id from the next try
        lasting = isinstance(error, wandb.errors.AuthenticationError | wandb.errors.UsageError)
        raise NotSent(masked(str(error).strip().split("\n", 1)[0]), lasting=lasting) from error


def start(described: Mapping[str, Any], folder: Path, mode: str, connect_seconds: float = CONNECT_SECONDS) -> Any:
    """A W&B run without anything that W&B gathers by itself; `folder` takes its files."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        os.environ.setdefault(name, str(folder))
    import wandb

    return wandb.init(
        **described,
        resume="allow",
        settings=wandb.Settings(
            mode=mode,
            console="off",
            disable_git=True,
            disable_code=True,
            init_timeout=connect_seconds,
            finish_timeout=FINISH_SECONDS if mode == "online" else 0.0,
            finish_timeout_raises=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_save_requirements=False,
        ),
    )
