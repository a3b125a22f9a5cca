"""What has a run answered? A few of its evaluated examples, the wrong ones first, each with its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.run_directory import evaluations, read_records, recorded

RIGHT = 100.0  # percent, under every metric
MOST_WRONG = 0.7  # of those shown, where there are right ones to show as well


@dataclass(frozen=True)
class Answered:
    """One evaluated example."""

    benchmark: str
    setting: str
    task: str
    id: str
    prompt_hash: str
    prediction: str
    extracted: str | None
    reference: str
    score: float  # percent


def some_answers(run_dir: Path, most: int) -> list[Answered]:
    """So many, the same ones each time: wrong ones first, then right ones, evenly spread over tasks and settings.

    An answer that several metrics score counts by the one that gives it most.

    Raises:
        ConfigError: a file of records is damaged.
    """
    answers = [] if most == 0 else _all(run_dir)
    wrong = [one for one in answers if one.score < RIGHT]
    right = [one for one in answers if one.score >= RIGHT]
    of_right = min(len(right), max(most - len(wrong), round(most * (1 - MOST_WRONG))))
    return [*_spread(wrong, most - of_right), *_spread(right, of_right)]


def _all(run_dir: Path) -> list[Answered]:
    """What several suites asked alike is there once."""
    found = {
        (line, row["key"], row["prompt_hash"]): _answered(line, row)
        for folder in evaluations(run_dir)
        for line in recorded(folder)
        for row in read_records(folder, line)[0]
        if row["scores"]
    }
    return list(found.values())


def _answered(line: str, row: Mapping[str, Any]) -> Answered:
    benchmark, _, setting = line.partition("/")
    return Answered(
        *(benchmark, setting, row["subtask"], row["key"], row["prompt_hash"]),
        prediction=row["samples"][0]["text"] if row["samples"] else row["answer"] or "",
        extracted=row["answer"],
        reference=row["reference"] or "",
        score=max(row["scores"].values()),
    )


def _spread(answers: Sequence[Answered], most: int) -> list[Answered]:
    count = min(most, len(answers))
    return [answers[i * len(answers) // count] for i in range(count)]


def prompts_of(run_dir: Path) -> Mapping[str, str]:
    """Hash → prompt of every example that the run's evaluation asks, made again from its configuration and its data.

    Raises:
        UserError: the configuration or the data cannot be read here.
    """
    from flanscale.config.compose import load
    from flanscale.evaluation.opening import suite_of
    from flanscale.evaluation.suites import prompt_hash

    suite = suite_of(load(run_dir))
    if not suite.lines and suite.faults:
        raise DataError(suite.faults[0])
    items = [item for line in suite.lines for item in line.asked.items]
    return {prompt_hash(item): item.prompt.text() for item in items}


def verdict(answer: Answered) -> tuple[str, str]:
    """A mark and a colour; between right and wrong the score."""
    if answer.score >= RIGHT:
        return "✔", "green"
    return ("✘", "red") if answer.score <= 0 else (f"{answer.score:.0f} %", "yellow")
