"""A study that never ran: run directories and an index exactly as the orchestrator writes them, from a known truth.

T tasks · I items of each
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flanscale.run_directory import Failure, RunState, write_state
from flanscale.run_directory.evaluations import close_records, write_result

SIZES = {"nano": (2, 48), "micro": (3, 64), "mini": (4, 128)}
AXES = {"model": ["nano", "micro"], "mixture.count": [0, 9, 89, 282, 1836], "cot": [False, True], "seed": [0, 1]}
FAILURE = Failure("nonfinite_loss", "not finite at step 50", traceback="", step=50, host="h")


def truth(axes: Mapping[str, Any], setting: str) -> float:
    """Expected score in percent: c − a·n^−0.4, with a higher ceiling where rationales are trained and asked for."""
    count = axes["mixture.count"]
    if count == 0:
        return 0.4
    ceiling = 30.0 + 8.0 * (axes["model"] == "micro")
    if axes["cot"]:
        ceiling += 40.0 if setting == "cot" else -4.0
    elif setting == "cot":
        ceiling *= 0.7
    return ceiling - 0.85 * ceiling * (count / 9) ** -0.4


@dataclass
class World:
    """What is true of the benchmarks, and how noisy it is to find out."""

    settings: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"procedural": ["direct", "cot"]})
    averaged: Sequence[str] = ("procedural",)
    truth: Callable[[Mapping[str, Any], str], float] = truth
    seed_spread: float = 3.0  # standard deviation between seeds, in points where the score is 50
    lower_bound: float = 0.0
    tasks: int = 24
    items: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.difficulty_TxI = {
            setting: self.rng.normal(0, 0.8, (self.tasks, 1)) + self.rng.normal(0, 0.8, (self.tasks, self.items))
            for setting in ("direct", "cot")
        }

    def correct(self, axes: Mapping[str, Any], setting: str) -> np.ndarray:
        """Which items one run gets right, [T, I]."""
        expected = np.clip(self.truth(axes, setting) / 100, 1e-4, 1 - 1e-4)
        ease = _ease(expected, self.difficulty_TxI[setting]) + self.rng.normal(0, self.seed_spread / 25)
        return self.rng.random((self.tasks, self.items)) < _chance(ease, self.difficulty_TxI[setting])


def write_study(
    root: Path,
    *,
    name: str = "quickstart",
    title: str = "Task count × size × rationales",
    axes: Mapping[str, list[Any]] = AXES,
    states: Mapping[int, str] | None = None,
    records: bool = True,
    **world: Any,
) -> Path:
    """Write `root/studies/NAME.json` and `root/runs/*`; returns the index.

    `states` maps the number of a point to the state that its run is left in ("missing": no run directory).
    """
    truth_of_it = World(**world)
    cells: dict[str, str] = {}
    points, costs = [], {}
    for number, values in enumerate(itertools.product(*axes.values())):
        point = dict(zip(axes, values, strict=True))
        resolved = {"model": "nano", "mixture.count": 9, "cot": False, "seed": 0} | point
        if resolved["mixture.count"] == 0:
            resolved["cot"] = False
        cell = cells.setdefault(json.dumps(resolved, sort_keys=True), f"{len(cells):010x}")
        arm = "cot" if resolved["cot"] else "direct"
        run = f"{cell}-{resolved['model']}-{resolved['mixture.count']}-{arm}-s{resolved['seed']}"
        points.append({"axes": point, "cell": cell, "run": run})
        layers, width = SIZES.get(resolved["model"], SIZES["nano"])
        costs[cell] = {"steps": 500, "parameters": 12 * layers * width**2, "flops": 1e12}
        state = (states or {}).get(number, "finished")
        if state != "missing" and not (root / "runs" / run).exists():
            _write_run(root / "runs" / run, resolved, state, truth_of_it, records)
    index = root / "studies" / f"{name}.json"
    index.parent.mkdir(parents=True, exist_ok=True)
    about = {"format": 1, "study": name, "title": title, "flanscale": "0.1.0", "runs": "../runs", "overrides": []}
    index.write_text(json.dumps(about | {"axes": dict(axes), "points": points, "cells": costs}))
    return index


def _write_run(run_dir: Path, axes: dict[str, Any], state: str, world: World, records: bool) -> None:
    run_dir.mkdir(parents=True)
    count, steps = axes["mixture.count"], 0 if axes["mixture.count"] == 0 else 500
    (run_dir / "config.yaml").write_text(yaml.safe_dump(_config(axes, steps)))
    write_state(run_dir, RunState(state, attempt=1, failure=FAILURE if state == "failed" else None))
    rows: list[dict[str, Any]] = [{"step": 0, "mixture/tasks": count, "mixture/tasks_requested": count}]
    rows += [{"step": step, "train/loss": 3.0 / (1 + step / 100)} for step in range(50, steps + 1, 50)]
    if state == "finished":
        answers = {
            (benchmark, setting): world.correct(axes, setting)
            for benchmark, settings in world.settings.items()
            for setting in settings
        }
        rows.append({"step": steps} | _evaluation(answers, world))
        if records:
            _write_records(run_dir, answers, world)
    lines = [json.dumps(row | {"attempt": 1, "time": 1.0 + number}) + "\n" for number, row in enumerate(rows)]
    (run_dir / "metrics.jsonl").write_text("".join(lines) + ('{"step": 50' if state == "running" else ""))


def _evaluation(answers: Mapping[tuple[str, str], np.ndarray], world: World) -> dict[str, Any]:
    row: dict[str, Any] = {}
    scale = 100 / (100 - world.lower_bound)
    members = [key for key in answers if key[0] in world.averaged]
    for (benchmark, setting), correct_TxI in answers.items():
        score = 100 * correct_TxI.mean()
        values = {
            "score": score,
            "stderr": 100 * _stderr(correct_TxI),
            "stderr_tasks": 100 * correct_TxI.mean(axis=1).std(ddof=1) / np.sqrt(world.tasks),
            "n": correct_TxI.size,
            "lower_bound": world.lower_bound,
            "normalized": scale * (score - world.lower_bound),
        }
        row |= {f"eval/{benchmark}/{setting}/{name}": value for name, value in values.items()}
    together_TxI = np.mean([answers[key] for key in members], axis=0)
    row["eval/normalized_average"] = float(np.mean([row[f"eval/{b}/{s}/normalized"] for b, s in members]))
    row["eval/normalized_average_stderr"] = 100 * scale * _stderr(together_TxI)
    row["eval/normalized_average_members"] = [f"{benchmark}/{setting}" for benchmark, setting in members]
    return row


def _stderr(correct_TxI: np.ndarray) -> float:
    """Of the mean of task means, the tasks taken as given."""
    tasks, items = correct_TxI.shape
    return float(np.sqrt(correct_TxI.var(axis=1, ddof=1).sum() / items)) / tasks


def _write_records(run_dir: Path, answers: Mapping[tuple[str, str], np.ndarray], world: World) -> None:
    folder = run_dir / "evaluations" / "suite-0"
    lines = []
    for (benchmark, setting), correct_TxI in answers.items():
        close_records(folder, f"{benchmark}/{setting}", _records(correct_TxI))
        subtasks = {f"task{task:03d}": _subtask(correct_I, world) for task, correct_I in enumerate(correct_TxI)}
        score = {"benchmark": benchmark, "label": benchmark, "metric": "exact", "subtasks": subtasks}
        lines.append({"name": f"{benchmark}/{setting}", "setting": setting, "scores": [score]})
    write_result(folder, {"suite": "suite", "lines": lines, "faults": []})


def _subtask(correct_I: np.ndarray, world: World) -> dict[str, float]:
    stderr = 100 * float(correct_I.std(ddof=1)) / math.sqrt(correct_I.size)
    score = 100 * float(correct_I.mean())
    return {"score": score, "stderr": stderr, "n": correct_I.size, "lower_bound": world.lower_bound}


def _records(correct_TxI: np.ndarray) -> Iterator[dict[str, Any]]:
    for (task, item), hit in np.ndenumerate(correct_TxI):
        scores = {"exact": 100.0 * bool(hit)}
        yield {
            "key": f"{task}/{item}",
            "subtask": f"task{task:03d}",
            "cluster": "",
            "prompt_hash": "0",
            "scores": scores,
        }


def _chance(ease: float, difficulty_TxI: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-(ease + difficulty_TxI))))


def _ease(expected: float, difficulty_TxI: np.ndarray) -> float:
    """At which the mean over all items is the expected share, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _chance(middle, difficulty_TxI).mean() < expected else (low, middle)
    return (low + high) / 2


def _config(axes: Mapping[str, Any], steps: int) -> dict[str, Any]:
    layers, width = SIZES.get(axes["model"], SIZES["nano"])
    mixture = {"count": axes["mixture.count"], "order_seed": axes.get("mixture.order_seed", 0)}
    return {
        "seed": axes["seed"],
        "cot": axes["cot"],
        "model": {"name": axes["model"], "d_model": width, "n_layers": layers},
        "mixture": mixture,
        "trainer": {"steps": steps},
        "fingerprints": {"procedural": "5eed5eed"},
    }
