"""A shipped study that never ran: its real plan and index, with run directories that a known truth has filled.

    index = simulate(root, plan, truth)

`truth(config, axes, setting)` is the expected share of what lies between chance and all right, in percent, for direct
or CoT prompts. Runs of other seeds differ in the log-odds of it, and every item comes out right or wrong by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.config.compose import save as save_config
from flanscale.orchestration.planning.ledger import ledger_of, write_ledger
from flanscale.orchestration.planning.plan import Plan
from flanscale.run_directory import RunState, write_state
from flanscale.schema import RunConfig

FLAN = {
    ("mmlu", "direct"): (25.0, 1531),
    ("mmlu", "cot"): (25.0, 1531),
    ("bbh", "direct"): (25.7, 6511),
    ("bbh", "cot"): (25.7, 6511),
    ("tydiqa", "direct"): (0.0, 5000),
    ("mgsm", "cot"): (0.0, 2500),
}
OTHERS = {("procedural", "direct"): (0.0, 1200), ("procedural", "cot"): (0.0, 1200)}
"""Lower bound in percent and number of items."""

Truth = Callable[[RunConfig, Mapping[str, Any], str], float]


def simulate(root: Path, plan: Plan, truth: Truth, *, spread: float = 0.1, seed: int = 0) -> Path:
    """Write the study of `plan` below `root`, whose paths it must have; returns its index.

    `spread`: standard deviation between seeds, in log-odds.
    """
    rng = np.random.default_rng(seed)
    axes = {point.cell: point.axes for point in plan.points}
    for cell in (cell for cell in plan.cells if cell.id in axes):
        run_dir = plan.runs / cell.run
        run_dir.mkdir(parents=True)
        save_config(cell.config, run_dir)
        write_state(run_dir, RunState("finished", attempt=1))
        count, steps = cell.config.mixture.count, cell.cost.steps
        rows = [{"step": 0, "mixture/tasks": count, "mixture/tasks_requested": count}]
        shift = spread * rng.normal() if count else 0.0
        expected = partial(truth, cell.config, axes[cell.id])
        rows.append({"step": steps} | _evaluation(expected, cell.config, shift, rng))
        text = "".join(json.dumps(row | {"attempt": 1, "time": 1.0}) + "\n" for row in rows)
        (run_dir / "metrics.jsonl").write_text(text)
    ledger = ledger_of(plan)
    ledger.path.parent.mkdir(parents=True, exist_ok=True)
    write_ledger(ledger)
    return ledger.path


def _evaluation(
    truth: Callable[[str], float], config: RunConfig, shift: float, rng: np.random.Generator
) -> Mapping[str, object]:
    row: dict[str, object] = {}
    members = FLAN if config.evaluation.suite == "flan" else OTHERS
    normalized, variances = [], []
    for (benchmark, setting), (low, items) in members.items():
        share = low / 100 + (1 - low / 100) * np.clip(truth(setting) / 100, 1e-4, 1 - 1e-4)
        odds = math.log(share / (1 - share)) + shift
        score = 100 * rng.binomial(items, 1 / (1 + math.exp(-odds))) / items
        stderr = math.sqrt(max(score * (100 - score), 1) / items)
        scale = 100 / (100 - low)
        normalized.append(scale * (score - low))
        variances.append((scale * stderr) ** 2)
        figures = {
            "score": score,
            "stderr": stderr,
            "stderr_tasks": 2 * stderr,
            "n": items,
            "lower_bound": low,
            "normalized": normalized[-1],
            "normalized_stderr": scale * stderr,
        }
        row |= {f"eval/{benchmark}/{setting}/{name}": value for name, value in figures.items()}
    row["eval/normalized_average"] = float(np.mean(normalized))
    row["eval/normalized_average_stderr"] = math.sqrt(sum(variances)) / len(members)
    row["eval/normalized_average_members"] = [f"{benchmark}/{setting}" for benchmark, setting in members]
    return row
