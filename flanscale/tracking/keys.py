"""What are the figures of an evaluation called in a log? Scores are in percent, see tracker.py for all keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

AVERAGE = "eval/normalized_average"
EVAL_FIELDS = ("score", "stderr", "stderr_tasks", "n", "lower_bound", "normalized", "normalized_stderr")
EVAL_COUNTS = ("failures", "cut", "dropped", "skipped", "contaminated")
"""Of items without an answer, answers cut at the most new tokens, items asked with fewer shots, and so on."""


def eval_key(benchmark: str, setting: str, field: str) -> str:
    """The logged name of one figure of one benchmark in one prompting mode."""
    return f"eval/{benchmark}/{setting}/{field}"


def evaluation_row(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is logged of an evaluation's document (`flanscale.evaluation.results`)."""
    row: dict[str, Any] = {"eval/suite": result["suite"]}
    for line in result["lines"]:
        for score in line["scores"]:
            for field in (*EVAL_FIELDS, *EVAL_COUNTS):
                if score[field] is not None:
                    row[eval_key(name_in_keys(score["label"]), line["setting"], field)] = score[field]
            row[eval_key(name_in_keys(score["label"]), line["setting"], "prompts")] = line["prompts"]
    if (average := result["average"]) is not None:
        row |= {AVERAGE: average["score"], f"{AVERAGE}_stderr": average["stderr"]}
        row[f"{AVERAGE}_members"] = list(map(name_in_keys, average["members"]))
    return row


def name_in_keys(label: str) -> str:
    """How a benchmark of which parts are missing is called there: `bbh (24 of 27)` is bbh_24_of_27."""
    return re.sub(r" \((\d+) of (\d+)\)", r"_\1_of_\2", label)


def scored(keys: Iterable[str]) -> list[tuple[str, str]]:
    """(benchmark, setting) of every score among the keys of a row, in their order."""
    parts = [key.split("/") for key in keys]
    return [(part[1], part[2]) for part in parts if len(part) == 4 and part[0] == "eval" and part[3] == "score"]
