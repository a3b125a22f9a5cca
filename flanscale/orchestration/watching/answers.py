"""What has a run answered? A few of its evaluated examples, the wrong ones first, each with its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from flanscale.run_directory import predictions, read_predictions

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
    extracted: str
    reference: str
    score: float  # percent


KEYS = [field.name for field in fields(Answered) if field.name != "benchmark"]


def some_answers(run_dir: Path, most: int) -> list[Answered]:
    """So many, the same ones each time: wrong ones first, then right ones, evenly spread over tasks and settings.

    An answer that several metrics score is shown once, under the one that gives it most.

    Raises:
        ConfigError: a file of predictions is damaged.
    """
    best: dict[tuple[str, ...], Answered] = {}
    for benchmark, path in predictions(run_dir).items():
        for row in read_predictions(path, KEYS):
            one = Answered(benchmark, **row)
            which = one.setting, one.task, one.id, one.prompt_hash
            if one.score >= best.setdefault(which, one).score:
                best[which] = one
    wrong = [one for one in best.values() if one.score < RIGHT]
    right = [one for one in best.values() if one.score >= RIGHT]
    of_right = min(len(right), max(most - len(wrong), round(most * (1 - MOST_WRONG))))
    return [*_spread(wrong, most - of_right), *_spread(right, of_right)]


def _spread(answers: Sequence[Answered], most: int) -> list[Answered]:
    count = min(most, len(answers))
    return [answers[i * len(answers) // count] for i in range(count)]


def prompts_of(run_dir: Path) -> Mapping[str, str]:
    """Hash → prompt of every example that the run's evaluation asks, made again from its configuration and its data.

    Raises:
        UserError: the configuration or the data cannot be read here.
    """
    from flanscale.config.compose import load
    from flanscale.evaluation.heldout import asked_of, prompt_hash

    _, items = asked_of(load(run_dir))
    return {prompt_hash(item.prompt): item.prompt for item in items}


def verdict(answer: Answered) -> tuple[str, str]:
    """A mark and a colour; between right and wrong the score."""
    if answer.score >= RIGHT:
        return "✔", "green"
    return ("✘", "red") if answer.score <= 0 else (f"{answer.score:.0f} %", "yellow")
