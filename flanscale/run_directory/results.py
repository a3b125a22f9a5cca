"""What has a run logged, learnt from, saved and answered?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flanscale.run_directory.config import read_config
from flanscale.run_directory.files import (
    CHECKPOINTS,
    CONTAMINATION_FILE,
    METRICS_FILE,
    MIXTURE_FILE,
    damaged_told,
    write_atomically,
)


def read_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, oldest first; none where there is no file. A torn last line is left out.

    Raises:
        ConfigError: a complete line is not a JSON object with a step.
    """
    path, rows = run_dir / METRICS_FILE, []
    if not path.exists():
        return []
    complete, _, _ = path.read_bytes().rpartition(b"\n")
    for number, line in enumerate(complete.splitlines(), start=1):
        with damaged_told(Path(f"{path}:{number}")):
            row = json.loads(line)
            if not isinstance(row["step"], int):
                raise ValueError("no step")
        rows.append(row)
    return rows


def read_mixture(run_dir: Path) -> dict[str, Any] | None:
    """The realised mixture: its "fingerprint" and its "tasks", a row each; None where none was recorded.

    Raises:
        ConfigError: it is damaged.
    """
    path = run_dir / MIXTURE_FILE
    with damaged_told(path):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return {"fingerprint": document["fingerprint"], "tasks": list(document["tasks"])}


def write_mixture(run_dir: Path, fingerprint: str, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Write the realised mixture."""
    text = json.dumps({"fingerprint": fingerprint, "tasks": tasks}, indent=0, ensure_ascii=False)
    write_atomically(run_dir / MIXTURE_FILE, text)


def read_contamination(run_dir: Path) -> list[dict[str, Any]]:
    """Every overlap with a benchmark that the guard found; none where it was not asked to look.

    Raises:
        ConfigError: it is damaged.
    """
    path = run_dir / CONTAMINATION_FILE
    if not path.exists():
        return []
    with damaged_told(path):
        return [dict(overlap) for overlap in json.loads(path.read_text(encoding="utf-8"))]


def write_contamination(run_dir: Path, overlaps: Sequence[Mapping[str, Any]]) -> None:
    """Write every overlap with a benchmark that the guard found in the mixture."""
    write_atomically(run_dir / CONTAMINATION_FILE, json.dumps(overlaps, indent=0, ensure_ascii=False))


# --- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoint_steps(run_dir: Path) -> list[int]:
    """The steps of its checkpoints, in their order; none where there are none."""
    return sorted(int(path.name) for path in (run_dir / CHECKPOINTS).glob("[0-9]*") if path.name.isdecimal())


def best_step(run_dir: Path) -> int | None:
    """The step of the lowest validation loss, as the last checkpoint tells it; None where there was none.

    Raises:
        ConfigError: it does not tell.
    """
    steps = checkpoint_steps(run_dir)
    if not steps:
        return None
    path = run_dir / CHECKPOINTS / str(steps[-1]) / "progress" / "metadata"  # as Orbax lays it out
    with damaged_told(path, ": it does not tell which checkpoint is the best"):
        best = json.loads(path.read_text(encoding="utf-8")).get("progress", {}).get("best", {}).get("step")
        return None if best is None else int(best)


def chosen_step(run_dir: Path) -> int | None:
    """The step whose parameters the run stands for: its last, or under trainer.select=best its best if that is kept.

    None where there is no checkpoint.

    Raises:
        ConfigError: what would decide it cannot be read.
    """
    steps = checkpoint_steps(run_dir)
    if steps and read_config(run_dir)["trainer"].get("select") == "best" and (best := best_step(run_dir)) in steps:
        return best
    return steps[-1] if steps else None
