"""How do our scores look as results of lm-evaluation-harness? Its JSON, for the tools that read it; it is not needed.

A benchmark in a setting is a group, `bbh_cot`, each of its subtasks a task, `bbh_cot_snarks`; one that is its own only
subtask is a task. Scores are shares, where ours are percent. A group's score is the mean over its subtasks, not over
items as in most of the harness's groups, and its error that of our estimator. What the harness knows by another name
gets that: options ranked by the sum of their log-probabilities are `acc`, an answer that is a reference to the
character is `exact_match`. Items that were skipped are in the counts of a task's `metadata` alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flanscale.evaluation.answering import Answered
from flanscale.evaluation.estimate import Estimate
from flanscale.evaluation.item import Item, Setting
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.records import SKIPPED, Record
from flanscale.evaluation.results import scores_of
from flanscale.evaluation.suites import Line, Suite
from flanscale.run_directory import write_atomically

RANKED = {"sum": "acc", "per_token": "acc_per_token", "per_byte": "acc_bytes", "pmi": "acc_mutual_info"}
WRITTEN = {
    "exact": ("exact_match", "extracted"),
    "exact_match": ("exact_match", "normalised"),
    "rouge_l": ("rougeL", "extracted"),
    "qa_exact": ("exact_match", "squad"),
    "qa_f1": ("f1", "squad"),
}
"""Our metrics as (metric, filter) of the harness; two of one name differ in the filter."""
NO_ANSWER = "[invalid]"

Named = tuple[str, str]
"""A metric and a filter."""


def harness_results(suite: Suite, answered: Sequence[Answered], *, model: str, date: datetime) -> dict[str, Any]:
    """What `lm_eval.simple_evaluate` would return.

    Args:
        model: its name.
        date: when its evaluation began.

    Raises:
        DataError: no item of a line has a score.
    """
    results: dict[str, Any] = {
        "results": {},
        "groups": {},
        "group_subtasks": {},
        "configs": {},
        "versions": {},
        "n-shot": {},
        "higher_is_better": {},
        "n-samples": {},
        "samples": {},
        "config": {"model": model, "model_args": None},
        "date": date.timestamp(),
    }
    for one in answered:
        _add(results, one, suite.sampling)
    return results if results["groups"] else {key: value for key, value in results.items() if key != "groups"}


def write_results(results: Mapping[str, Any], folder: Path, date: datetime) -> Path:
    """The files that the harness's EvaluationTracker writes of results, ours or its own; the path of the first.

    They are `<folder>/<model>/results_<date>.json` and beside it `samples_<task>_<date>.jsonl` of each task.
    """
    name = results["config"]["model"]
    here, stamp = folder / _file_name(name), date.isoformat().replace(":", "-")
    here.mkdir(parents=True, exist_ok=True)
    samples = results.get("samples", {})
    for task, rows in samples.items():
        lines = [json.dumps(_storable(row), ensure_ascii=False, default=_plain) + "\n" for row in rows]
        write_atomically(here / f"samples_{task}_{stamp}.jsonl", "".join(lines))
    hashes = {
        task: _hash("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows))
        for task, rows in samples.items()
    }
    named = {"model_source": "flanscale", "model_name": name, "model_name_sanitized": _file_name(name)}
    whole = {key: value for key, value in results.items() if key != "samples"} | {"task_hashes": hashes} | named
    path = here / f"results_{stamp}.json"
    write_atomically(path, json.dumps(whole, indent=2, ensure_ascii=False, default=_plain))
    return path


# --- one line of a suite ----------------------------------------------------------------------------------------------


def _add(results: dict[str, Any], one: Answered, sampling: Sampling) -> None:
    line = one.line
    shots = line.setting.shots if line.ask.shots is None else line.ask.shots
    named = {_named(line.setting, score.metric): score for score in scores_of([one])}
    by_subtask: dict[str, list[tuple[Item, Record]]] = {}
    for item, record in zip(line.asked.items, one.records, strict=True):
        by_subtask.setdefault(item.subtask, []).append((item, record))
    group = f"{line.benchmark.name}_{line.ask.mode}"
    tasks = [group if subtask == line.benchmark.name else f"{group}_{subtask}" for subtask in by_subtask]
    for name in dict.fromkeys((group, *tasks)):
        results["versions"][name], results["n-shot"][name] = line.benchmark.version, shots
        results["higher_is_better"][name] = {metric: True for metric, _ in named}
    if tasks != [group]:
        results["group_subtasks"][group] = tasks
        results["groups"][group] = results["results"][group] = {
            "name": group,
            "alias": next((score.name for score in named.values()), group),
            **_measured({name: score.raw for name, score in named.items()}),
            "sample_count": {f"{metric},{kind}": score.n for (metric, kind), score in named.items()},
        }
    for task, (subtask, pairs) in zip(tasks, by_subtask.items(), strict=True):
        measured = _measured(
            {name: score.by_subtask[subtask] for name, score in named.items() if subtask in score.by_subtask}
        )
        results["results"][task] = {"name": task, "alias": subtask, **measured}
        results["n-samples"][task] = {"original": len(pairs), "effective": measured["sample_len"]}
        results["configs"][task] = {
            "task": task,
            "num_fewshot": shots,
            **_config(line, list(named), sampling),
            "metadata": {"version": line.benchmark.version, **_counts([record for _, record in pairs])},
        }
        results["samples"][task] = [
            sample
            for number, (item, record) in enumerate(pairs)
            if record.status != SKIPPED
            for sample in _samples(line, number, item, record, sampling)
        ]


def _named(setting: Setting, metric: str) -> Named:
    return (RANKED[setting.rank], "none") if setting.extract is None else WRITTEN[metric]


def _measured(estimates: Mapping[Named, Estimate]) -> dict[str, Any]:
    """Values and errors as shares, under the harness's keys."""
    found: dict[str, Any] = {"sample_len": max((estimate.n for estimate in estimates.values()), default=0)}
    for (metric, kind), estimate in estimates.items():
        found[f"{metric},{kind}"] = estimate.value / 100
        found[f"{metric}_stderr,{kind}"] = estimate.stderr / 100 if estimate.n > 1 else "N/A"
    return found


def _config(line: Line, names: Sequence[Named], sampling: Sampling) -> dict[str, Any]:
    config: dict[str, Any] = {
        "test_split": line.ask.split or line.benchmark.splits[0],
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in dict.fromkeys(metric for metric, _ in names)
        ],
        "repeats": line.ask.samples,
    }
    if line.setting.extract is None:
        return config | {"output_type": "multiple_choice"}
    return config | {"output_type": "generate_until", "generation_kwargs": _generation(line, sampling)}


def _generation(line: Line, sampling: Sampling) -> dict[str, Any]:
    draws = line.ask.samples > 1
    return {
        "until": list(line.setting.stop),
        "max_gen_toks": line.setting.max_new_tokens,
        "do_sample": draws,
        "temperature": sampling.temperature if draws else 0.0,
    }


def _counts(records: Sequence[Record]) -> dict[str, Any]:
    return {
        "status": dict(Counter(record.status for record in records)),
        "dropped_shots": sum(record.dropped > 0 for record in records),
        "cut_answers": sum(not sample.ended for record in records for sample in record.samples),
    }


# --- one item ---------------------------------------------------------------------------------------------------------


def _samples(line: Line, number: int, item: Item, record: Record, sampling: Sampling) -> list[dict[str, Any]]:
    """One for each filter, as the harness keeps them."""
    prompt = item.prompt.text(record.shots)
    if item.options:
        target: Any = item.gold
        arguments: list[Any] = [(prompt, option) for option in item.options]
        answers: list[Any] = [(option.logprob, option.greedy) for option in record.options]
        responses = [[answer] for answer in answers]
    else:
        target = record.reference or ""
        arguments = [(prompt, _generation(line, sampling))]
        responses = [[sample.text for sample in record.samples]]
        answers = [NO_ANSWER if record.answer is None else record.answer]
    doc = {
        "key": item.key,
        "question": item.prompt.question,
        "options": list(item.options or item.listed),
        "references": list(item.references),
        "cluster": item.cluster,
        "status": record.status,
        "shots": record.shots,
        "flags": list(record.flags),
    }
    whole = {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": arguments,
        "resps": responses,
        "filtered_resps": answers,
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(prompt),
        "target_hash": _hash(str(target)),
    }
    points: dict[str, dict[str, float]] = {} if record.scores else {"none": {}}
    for ours, value in record.scores.items():
        metric, kind = _named(line.setting, ours)
        points.setdefault(kind, {})[metric] = value / 100
    return [whole | {"filter": kind, "metrics": list(own), **own} for kind, own in points.items()]


def _storable(sample: Mapping[str, Any]) -> dict[str, Any]:
    """With texts for what differs in type from task to task, so that all files are read as one table."""
    arguments = {
        f"gen_args_{number}": {f"arg_{place}": part for place, part in enumerate(given)}
        for number, given in enumerate(sample["arguments"])
    }
    texts = {key: _texts(sample[key]) for key in ("resps", "filtered_resps")}
    return {**sample, **texts, "arguments": arguments, "target": str(sample["target"])}


def _texts(value: Any) -> Any:
    return [_texts(part) for part in value] if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers of NumPy as numbers, everything else as its text."""
    return value.item() if hasattr(value, "item") else str(value)


def _file_name(model: str) -> str:
    return re.sub(r'["<>:/|\\?*\[\]]+', "__", model)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
