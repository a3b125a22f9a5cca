"""What did the paper find: its task-count ablation, in the shape that a study of one's own has here, and its scores of
the models that a study trains too.

Source, units and known defects of the numbers: `published/README.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import panels
from analysis.panels import Panel
from analysis.summary import Curve, Replicate

FOLDER = Path(__file__).parent / "published"
BENCHMARK = "PaLM, Chung et al. 2022"
COLUMNS = {
    ("mmlu", "direct"): "mmlu_direct",
    ("mmlu", "cot"): "mmlu_cot",
    ("bbh", "direct"): "bbh_direct",
    ("bbh", "cot"): "bbh_cot",
    ("tydiqa", "direct"): "tydiqa_direct",
    ("mgsm", "cot"): "mgsm_cot",
}
"""Of the tables, by benchmark and setting; their normalised average is of these six."""
MODELS = {
    "t5_small": ("T5", 0.08),
    "t5_base": ("T5", 0.25),
    "t5_large": ("T5", 0.78),
    "t5_xl": ("T5", 3.0),
    "t5_xxl": ("T5", 11.0),
    "palm_8b": ("PaLM", 8.0),
    "palm_62b": ("PaLM", 62.0),
    "palm_540b": ("PaLM", 540.0),
}
"""Family and billions of parameters in the tables, by the name of a model here."""


def table_3() -> pd.DataFrame:
    """PaLM at three sizes and five task counts; percent, one run a row, `suspect` names a doubtful column."""
    return pd.read_csv(FOLDER / "flan_table_3.csv")


def table_5() -> pd.DataFrame:
    """Every model before and after finetuning on all tasks; columns as in `table_3`."""
    return pd.read_csv(FOLDER / "flan_table_5.csv")


def task_count_panel() -> Panel:
    """The normalised average of Table 3 as a panel, to be fitted and drawn like a study's own.

    The paper prints no errors: all cells weigh alike, and a difference of one point counts as noise.
    """
    rows = table_3().to_dict("records")
    sizes = {_size(row["params_b"]): round(1e9 * row["params_b"]) for row in rows}
    runs = [
        Replicate(
            curve=Curve(_size(row["params_b"])),
            count=int(row["n_tasks"]),
            score=float(row["norm_avg"]),
            stderr=math.nan,
            stderr_tasks=math.nan,
            n=math.nan,
            lower_bound=0.0,
            normalized=float(row["norm_avg"]),
            cells=(f"{row['model']} {_size(row['params_b'])}, {row['mixtures']}",),
        )
        for row in rows
    ]
    return panels.panel(BENCHMARK, "", runs, sizes)


def counterparts(panel: Panel, panels: Sequence[Panel]) -> dict[str, dict[int, float]]:
    """What the paper measured of a panel's models at its numbers of tasks, by model: {tasks: normalised points}.

    Empty where that is nothing. The average has a counterpart where `panels` hold all its six members.
    """
    measured = {(each.benchmark, each.setting) for each in panels}
    own = COLUMNS.get((panel.benchmark, panel.setting))
    column = "norm_avg" if panel.is_average and measured.issuperset(COLUMNS) else own
    models = {curve.model: MODELS[curve.model] for curve in panel.curves if curve.model in MODELS}
    if column is None or not models or not panel.runs:
        return {}
    low = panel.runs[0].lower_bound
    found: dict[str, dict[int, float]] = {}
    for row in _rows():
        for model, place in models.items():
            if (row["family"], row["params_b"]) == place and row["n_tasks"] in panel.counts:
                found.setdefault(model, {})[int(row["n_tasks"])] = 100 * (float(row[column]) - low) / (100 - low)
    return {model: dict(sorted(points.items())) for model, points in found.items()}


@cache
def _rows() -> list[dict[Any, Any]]:
    """Of both tables; the ablation's last, which hold where both have one."""
    return [*table_5().to_dict("records"), *table_3().to_dict("records")]


def _size(billions: float) -> str:
    return f"{billions:g}B"
