"""What are the figures of an evaluation called in a log? Scores are in percent, see tracker.py for all keys."""

from __future__ import annotations

from collections.abc import Iterable

AVERAGE = "eval/normalized_average"
EVAL_FIELDS = ("score", "stderr", "stderr_tasks", "n", "lower_bound", "normalized")


def eval_key(benchmark: str, setting: str, field: str) -> str:
    """The logged name of one figure of one benchmark in one prompting mode."""
    return f"eval/{benchmark}/{setting}/{field}"


def scored(keys: Iterable[str]) -> list[tuple[str, str]]:
    """(benchmark, setting) of every score among the keys of a row, in their order."""
    parts = [key.split("/") for key in keys]
    return [(part[1], part[2]) for part in parts if len(part) == 4 and part[0] == "eval" and part[3] == "score"]
