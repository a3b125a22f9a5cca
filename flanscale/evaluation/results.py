"""What came of an evaluation? Scores with their errors and everything that must be known of them, as one document."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flanscale.evaluation.aggregate import Average, Score, aggregate, average
from flanscale.evaluation.answering import Answered
from flanscale.evaluation.asking import points
from flanscale.evaluation.ceiling import ceiling
from flanscale.evaluation.estimate import Estimate, interval
from flanscale.evaluation.item import Asked, Item
from flanscale.evaluation.metrics import METRICS
from flanscale.evaluation.protocol import LanguageModel
from flanscale.evaluation.records import SKIPPED, Record
from flanscale.evaluation.smooth import accuracies, smooth
from flanscale.evaluation.suites import Suite
from flanscale.evaluation.vote import curve

FORMAT = 1

log = logging.getLogger(__name__)


def scores_of(answered: Sequence[Answered]) -> list[Score]:
    """The score of every line under each of its metrics, the headline first; none of lines without a scored item."""
    return [score for one in answered for score in _scores(one)]


def _scores(one: Answered) -> list[Score]:
    if not any(record.scores for record in one.records):
        return []
    return [
        aggregate(
            one.records,
            metric,
            benchmark=one.line.benchmark.name if metric == one.line.setting.metrics[0] else _beside(one, metric),
            setting=one.line.ask.mode,
            floors=one.line.asked.floors,
            missing=one.line.asked.missing,
        )
        for metric in one.line.setting.metrics
    ]


def _beside(one: Answered, metric: str) -> str:
    """Under which name a metric that is not the headline is logged."""
    return f"{one.line.benchmark.name}_{metric}"


def average_of(suite: Suite, scores: Sequence[Score]) -> Average | None:
    """The mean of the suite's members; None where none of them has a score."""
    members = [score for score in scores if f"{score.benchmark}/{score.setting}" in suite.average]
    return average(members) if members else None


def result_of(
    suite: Suite, answered: Sequence[Answered], model: LanguageModel | None, about: Mapping[str, Any]
) -> dict[str, Any]:
    """The document, a JSON object.

    Args:
        model: which was asked; None where its vocabulary is not known.
        about: whose answers these are: the fingerprint of the weights, where they come from, the engine's precision and
            context.
    """
    scores = [_scores(one) for one in answered]
    mean = average_of(suite, [score for own in scores for score in own])
    return {
        "format": FORMAT,
        "suite": suite.name,
        "fingerprint": suite.fingerprint,
        "sampling": asdict(suite.sampling),
        **about,
        "average": None
        if mean is None
        else {"name": mean.name, **_finite(asdict(mean)), "members": list(mean.members)},
        "lines": [
            _line(one, own, model) | {"asked": _asked(one, suite, about)}
            for one, own in zip(answered, scores, strict=True)
        ],
        "faults": list(suite.faults),
    }


def _asked(one: Answered, suite: Suite, about: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal characters over all that an answer depends on but the weights."""
    sampling = asdict(suite.sampling) if one.line.ask.samples > 1 else None
    parts = [one.line.fingerprint, about.get("precision"), about.get("context"), sampling]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _line(one: Answered, scores: Sequence[Score], model: LanguageModel | None) -> dict[str, Any]:
    line, asked = one.line, one.line.asked
    return {
        "name": line.name,
        "benchmark": line.benchmark.name,
        "setting": line.ask.mode,
        "version": line.benchmark.version,
        "prompts": line.fingerprint,
        "scores": [_score(score, asked) for score in scores],
        "missing": list(asked.missing),
        "notes": [*asked.notes, *_unasked(one)],
        **_of_options(one),
        **_of_texts(one, model),
    }


def _unasked(one: Answered) -> list[str]:
    """A sentence where all questions of a line were too long to be asked."""
    skipped = sum(record.status == SKIPPED for record in one.records)
    every = skipped == len(one.records)
    return [f"All {skipped} questions are longer than the model's context, so none was asked."] if every else []


def _score(score: Score, asked: Asked) -> dict[str, Any]:
    low, high = interval(score.raw)
    return _finite(
        {
            "metric": score.metric,
            "benchmark": score.benchmark,
            "label": score.label,
            "score": score.score,
            "stderr": score.stderr,
            "stderr_tasks": score.stderr_tasks,
            "low": low,
            "high": high,
            "n": score.n,
            "lower_bound": score.lower_bound,
            "normalized": score.normalized,
            "normalized_stderr": score.normalized_stderr,
            "above_chance": score.chance.value,
            "chance": score.floor.chance,
            "majority": score.floor.majority,
            **asdict(score.counts),
            "failed": score.counts.failed,
            "flagged": score.counts.flagged,
            "clean": None if score.clean is None else {"score": score.clean.score, "n": score.clean.n},
            "subtasks": {
                name: {
                    "score": own.value,
                    "stderr": own.stderr,
                    "n": own.n,
                    "lower_bound": asked.floors[name].paper,
                }
                for name, own in score.by_subtask.items()
            },
            "categories": _by_category(score, asked.categories),
        }
    )


def _by_category(score: Score, categories: Mapping[str, str]) -> dict[str, Any]:
    """The mean of the subtasks of each category, where subtasks have any."""
    groups: dict[str, list[Estimate]] = {}
    for name, own in score.by_subtask.items():
        if name in categories:
            groups.setdefault(categories[name], []).append(own)
    return {
        name: {
            "score": sum(own.value for own in owns) / len(owns),
            "stderr": math.sqrt(sum(own.stderr**2 for own in owns)) / len(owns),
            "n": sum(own.n for own in owns),
        }
        for name, owns in sorted(groups.items())
    }


def _of_options(one: Answered) -> dict[str, Any]:
    """Of lines whose options are ranked."""
    if not any(record.options for record in one.records):
        return {}
    texts = {item.key: item.listed or item.options for item in one.line.asked.items}
    by = accuracies(one.records, texts, one.line.setting.rank)
    finite = any(
        all(math.isfinite(option.logprob) for option in record.options) for record in one.records if record.options
    )
    measured = vars(smooth(one.records)) if finite else {}
    return {
        "ranked_by": by.headline,
        "rankings": {name: _estimate(own) for name, own in by.by.items()},
        "smooth": {name: _estimate(value) for name, value in measured.items() if isinstance(value, Estimate)},
    }


def _of_texts(one: Answered, model: LanguageModel | None) -> dict[str, Any]:
    """Of lines that are answered in words: what the vocabulary can write at all, and votes of fewer samples."""
    setting, items = one.line.setting, one.line.asked.items
    if setting.extract is None or not setting.metrics or not any(item.references for item in items):
        return {}
    found: dict[str, Any] = {} if model is None else {"ceiling": _ceiling(one, model)}
    if one.line.ask.samples > 1:
        by_key = {item.key: item for item in items}
        found["votes"] = [
            _estimate(own) for own in curve(one.records, lambda record, text: _worth(by_key, record, text, one))
        ]
    return found


def _ceiling(one: Answered, model: LanguageModel) -> dict[str, Any]:
    items = one.line.asked.items
    texts = list(dict.fromkeys(text for item in items for text in item.references))
    spelled = dict(zip(texts, model.spelled(texts), strict=True))
    most = ceiling(items, lambda text: spelled[text], METRICS[one.line.setting.metrics[0]])
    if most.warning:
        log.warning("%s: %s", one.line.name, most.warning)
    return _finite({"share": most.share, "subtasks": dict(most.by_subtask)})


def _worth(items: Mapping[str, Item], record: Record, answer: str, one: Answered) -> float:
    setting = one.line.setting
    return points(setting, answer, items[record.key].references)[setting.metrics[0]]


def _estimate(own: Estimate) -> dict[str, Any]:
    return _finite({"value": own.value, "stderr": own.stderr, "n": own.n})


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """With null for what is no number."""
    return {
        name: (value if math.isfinite(value) else None) if isinstance(value, float) else value
        for name, value in row.items()
    }
