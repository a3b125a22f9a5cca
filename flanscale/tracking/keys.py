"""What are the figures of an evaluation called in a log? Scores are in percent, see tracker.py for all keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

AVERAGE = "eval/normalized_average"
BEST = "@best_checkpoint"
BEST_AVERAGE = f"{AVERAGE}{BEST}"
"""Of the checkpoint that the suite itself has chosen."""
EVAL_FIELDS = ("score", "stderr", "stderr_tasks", "n", "lower_bound", "normalized", "normalized_stderr")
EVAL_COUNTS = ("failures", "cut", "dropped", "skipped", "contaminated")
"""Of items without an answer, answers cut at the most new tokens, items asked with fewer shots, and so on."""
BITS_PER_BYTE = "bits_per_byte"
"""Of the right option, where options are texts: a loss under a name of its own, `<benchmark>_bits_per_byte`."""
HIGHER_IS_BETTER = "higher_is_better"
"""Beside a score, false says that it is a loss: not in percent, the better the lower."""
CLOZE = "cloze"


def eval_key(benchmark: str, setting: str, field: str) -> str:
    """The logged name of one figure of one benchmark in one prompting mode."""
    return f"eval/{benchmark}/{setting}/{field}"


ITEMS = "evaluation/items"
"""How many items a job that evaluates has answered; its rows have that for a step."""


def evaluation_row(result: Mapping[str, Any], logged: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is logged of an evaluation's document (`flanscale.evaluation.results`).

    Args:
        logged: what the run has logged. Where other prompts or items were asked under a name, or in another precision,
            context or way of sampling, this one's is `<setting>@<suite>`.
    """
    before, suite = logged or {}, result["suite"]
    row: dict[str, Any] = {} if "eval/suite" in before else {"eval/suite": suite}  # of the first one
    lines = [{"asked": line["prompts"], **line} for line in result["lines"]]  # older documents do not say
    for line in lines:
        for score in line["scores"]:
            name = name_in_keys(score["label"])
            setting = next(
                one
                for one in _names(line["setting"], result, line["asked"])
                if _same(before, eval_key(name, one, "asked"), eval_key(name, one, "prompts"), line)
            )
            for field in (*EVAL_FIELDS, *EVAL_COUNTS):
                if score[field] is not None:
                    row[eval_key(name, setting, field)] = score[field]
            about = {"prompts": line["prompts"], "asked": line["asked"]}
            row |= {eval_key(name, setting, field): value for field, value in about.items()}
            bits = line.get("smooth", {}).get(BITS_PER_BYTE)
            if bits and bits["value"] is not None and line["setting"] == CLOZE:  # those of a letter say nothing
                loss = {"score": bits["value"], "stderr": bits["stderr"], "n": bits["n"], HIGHER_IS_BETTER: False}
                named = f"{name}_{BITS_PER_BYTE}"
                row |= {eval_key(named, setting, field): value for field, value in (loss | about).items()}
    if (average := result["average"]) is not None:
        whole = {"prompts": result["fingerprint"], "asked": "-".join(line["asked"][:4] for line in lines)}
        key = next(
            one
            for one in _names(AVERAGE, result, whole["asked"])
            if one not in before or _same(before, f"{one}_asked", f"{one}_prompts", whole)
        )
        row |= {key: average["score"], f"{key}_stderr": average["stderr"], f"{key}_prompts": whole["prompts"]}
        row |= {f"{key}_asked": whole["asked"], f"{key}_members": list(map(name_in_keys, average["members"]))}
    return row


def _same(before: Mapping[str, Any], asked: str, prompts: str, line: Mapping[str, Any]) -> bool:
    """Whether a name is free, or that of what was asked like this: the same prompts in the same way."""
    if asked in before:
        return bool(before[asked] == line["asked"])
    return bool(before.get(prompts, line["prompts"]) == line["prompts"])


def _names(name: str, result: Mapping[str, Any], asked: str) -> Iterator[str]:
    """The name, that with the suite's behind it, and that with what it is known by that was asked.

    What a checkpoint was chosen by is never called as what was asked of one that was not.
    """
    if "chosen" in result:
        name = f"{name}{BEST}"
    yield name
    yield f"{name}@{result['suite']}"
    yield f"{name}@{result['suite']}-{asked[:19]}"


def name_in_keys(label: str) -> str:
    """How a benchmark of which parts are missing is called there: `bbh (24 of 27)` is bbh_24_of_27."""
    return re.sub(r" \((\d+) of (\d+)\)", r"_\1_of_\2", label)


def scored(keys: Iterable[str]) -> list[tuple[str, str]]:
    """(benchmark, setting) of every score in percent among the keys of a row, in their order: losses are none."""
    parts = [key.split("/") for key in keys]
    logged = [(part[1], part[2], part[3]) for part in parts if len(part) == 4 and part[0] == "eval"]
    losses = {(benchmark, setting) for benchmark, setting, field in logged if field == HIGHER_IS_BETTER}
    return [each[:2] for each in logged if each[2] == "score" and each[:2] not in losses]
