"""How well does a model do tasks that it was never trained on? Each held-out task is asked in each prompting mode.

A benchmark's score is the unweighted mean over its tasks of the mean over their examples, in percent. Every cell of a
study answers the same items in the same order, so that cells can be compared item by item.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flanscale.errors import DataError
from flanscale.evaluation.metrics import METRICS
from flanscale.evaluation.protocol import LanguageModel, Question, Sampling
from flanscale.schema import EvaluationConfig, RunConfig
from flanscale.tasks.registry import open_evaluation, open_wordings
from flanscale.tasks.task import Collection, Example, Task
from flanscale.tasks.templates import Wordings, evaluation_form, extract_answer, load_wordings, render

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One question of one held-out task in one prompting mode."""

    setting: str
    task: str
    example: Example
    prompt: str


@dataclass(frozen=True)
class Answer:
    """What the model made of an item, and its score (0…100) under each metric."""

    item: Item
    text: str
    extracted: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Score:
    """One benchmark in one prompting mode. Errors are standard errors in points (see `flanscale.tracking.tracker`)."""

    benchmark: str
    setting: str
    score: float
    stderr: float
    stderr_tasks: float
    n: int
    lower_bound: float = 0.0

    @property
    def scale(self) -> float:
        """Normalised points per point of score."""
        return 100.0 / (100.0 - self.lower_bound)

    @property
    def normalized(self) -> float:
        """(score − chance) / (100 − chance), in percent; negative below chance (Chung et al. 2022, footnote 5)."""
        return (self.score - self.lower_bound) * self.scale


@dataclass(frozen=True)
class Average:
    """The normalised average with what went into it."""

    score: float
    stderr: float
    members: list[str]


def asked_of(config: RunConfig) -> tuple[str, list[Item]]:
    """What a cell is asked: the name of the collection that asks it, and every question.

    Raises:
        DataError: that collection's data is not here, or it has no held-out task.
    """
    collection = open_evaluation(config)
    items = build_items(
        held_out_tasks(collection),
        config.evaluation,
        exemplars=config.mixture.exemplars,
        wordings=open_wordings(config.mixture.templates, config.data),
    )
    return collection.name, items


def build_items(
    tasks: Sequence[Task], config: EvaluationConfig, *, exemplars: int, wordings: Wordings | None = None
) -> list[Item]:
    """Every question, by setting, then task, then example; wordings take turns over a task's examples.

    Args:
        exemplars: most worked examples before a question; they are the task's own, never other held-out examples.
        wordings: the project's where none are given.

    Raises:
        DataError: a task without examples.
    """
    items = []
    wordings = wordings or load_wordings("own", None)
    if config.settings and (short := [task.name for task in tasks if len(task.exemplars) < exemplars]):
        log.warning(
            "mixture.exemplars=%d, but %d of %d held-out tasks have fewer of their own and are asked with what they"
            " have: %s",
            *(exemplars, len(short), len(tasks), ", ".join([*short[:3], *(["…"] if len(short) > 3 else [])])),
        )
    for setting in config.settings:
        for task in tasks:
            if not task.examples:
                raise DataError(f"held-out task {task.name} has no examples")
            form = evaluation_form(setting == "cot", min(exemplars, len(task.exemplars)))
            for index in range(min(config.examples_per_task, len(task.examples))):
                prompt = render(task, index, form, index, wordings)
                items.append(Item(setting, task.name, task.examples[index], prompt.input))
    return items


def held_out_tasks(collection: Collection) -> list[Task]:
    """The collection's held-out tasks, loaded.

    Raises:
        DataError: there is none.
    """
    if not collection.held_out:
        raise DataError(f"{collection.name} has no held-out task with data here, so nothing can be evaluated")
    return [collection.task(name) for name in collection.held_out]


def answer(items: Sequence[Item], model: LanguageModel, config: EvaluationConfig) -> list[Answer]:
    """Ask the model every item and score what it says, in the items' order."""
    answers = []
    for setting, limit in (("direct", config.direct_tokens), ("cot", config.cot_tokens)):
        asked = [item for item in items if item.setting == setting]
        texts = ["" for _ in asked]
        questions = [Question(str(number), item.prompt) for number, item in enumerate(asked)]
        for batch in model.generate(questions, max_new_tokens=limit, stop=(), sampling=Sampling()):
            for place, written in batch.items():
                texts[place] = written[0].text
        for item, text in zip(asked, texts, strict=True):
            extracted = extract_answer(text, cot=setting == "cot")
            scores = {name: METRICS[name](extracted, item.example.references) for name in config.metrics}
            answers.append(Answer(item, text, extracted, scores))
    return answers


def benchmark_name(collection: str, metric: str, config: EvaluationConfig) -> str:
    """The collection's name, with the metric's where there are several."""
    return collection if len(config.metrics) == 1 else f"{collection}_{metric}"


def summarise(answers: Sequence[Answer], collection: str, config: EvaluationConfig) -> list[Score]:
    """The score of each metric in each prompting mode, with its two standard errors."""
    scores = []
    for metric in config.metrics:
        for setting in config.settings:
            by_task: dict[str, list[float]] = {}
            for given in answers:
                if given.item.setting == setting:
                    by_task.setdefault(given.item.task, []).append(given.scores[metric])
            scores.append(_score(benchmark_name(collection, metric, config), setting, list(by_task.values())))
    return scores


def _score(benchmark: str, setting: str, by_task: Sequence[Sequence[float]]) -> Score:
    """Mean of task means; `stderr` from the spread inside tasks (stratified), `stderr_tasks` from the tasks' means."""
    means = np.array([np.mean(scores) for scores in by_task])
    inside = np.array([np.var(scores, ddof=1) / len(scores) if len(scores) > 1 else 0.0 for scores in by_task])
    count = len(means)
    return Score(
        benchmark,
        setting,
        score=float(means.mean()),
        stderr=float(np.sqrt(inside.sum()) / count),
        stderr_tasks=float(means.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan"),
        n=sum(map(len, by_task)),
    )


def normalized_average(
    scores: Sequence[Score], answers: Sequence[Answer], collection: str, config: EvaluationConfig
) -> Average:
    """The mean of the normalised scores of `config.average`'s metrics over the settings.

    Members that answer the same examples are correlated, so the standard error is that of each example's mean over
    the members, stratified by task.
    """
    names = {benchmark_name(collection, metric, config): metric for metric in config.average}
    members = [score for score in scores if score.benchmark in names]
    numbers = _numbers(answers)
    by_example: dict[tuple[str, int], float] = {}
    for member in members:
        for given, number in zip(answers, numbers, strict=True):
            if given.item.setting == member.setting:
                key = (given.item.task, number)
                points = given.scores[names[member.benchmark]] * member.scale / len(members)
                by_example[key] = by_example.get(key, 0.0) + points
    by_task: dict[str, list[float]] = {}
    for (task, _), points in by_example.items():
        by_task.setdefault(task, []).append(points)
    return Average(
        score=float(np.mean([member.normalized for member in members])),
        stderr=_score("average", "all", list(by_task.values())).stderr,
        members=[f"{member.benchmark}/{member.setting}" for member in members],
    )


def prompt_hash(prompt: str) -> str:
    """Sixteen hexadecimal characters by which `predictions/` names a prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def prediction_rows(answers: Sequence[Answer], metric: str) -> Iterator[dict[str, str | float]]:
    """One row per answered item, as `predictions/<benchmark>.jsonl.gz` holds them; no two ids of a task are alike."""
    for given, name in zip(answers, _unique_ids(answers), strict=True):
        yield {
            "setting": given.item.setting,
            "task": given.item.task,
            "id": name,
            "prompt_hash": prompt_hash(given.item.prompt),
            "prediction": given.text,
            "extracted": given.extracted,
            "reference": given.item.example.target,
            "score": given.scores[metric],
        }


def _numbers(answers: Sequence[Answer]) -> list[int]:
    """The number of each answered example in its task, from 0, alike in all settings; ids may be those of several."""
    before: Counter[tuple[str, str]] = Counter()
    numbers = []
    for given in answers:
        place = (given.item.setting, given.item.task)
        numbers.append(before[place])
        before[place] += 1
    return numbers


def _unique_ids(answers: Sequence[Answer]) -> list[str]:
    """The ids of the answered examples; with their number, from 1, in tasks where two have the same."""
    ids: dict[tuple[str, str], list[str]] = {}
    for given in answers:
        ids.setdefault((given.item.setting, given.item.task), []).append(given.item.example.id)
    repeated = {place for place, names in ids.items() if len(set(names)) < len(names)}
    return [
        f"{given.item.example.id}#{number + 1}"
        if (given.item.setting, given.item.task) in repeated
        else given.item.example.id
        for given, number in zip(answers, _numbers(answers), strict=True)
    ]
