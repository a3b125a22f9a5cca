"""What did the paper find: its task-count ablation, in the shape that a study of one's own has here.

Source, units and known defects of the numbers: `published/README.md`.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from analysis import panels
from analysis.panels import Panel
from analysis.summary import Curve, Replicate

FOLDER = Path(__file__).parent / "published"
BENCHMARK = "PaLM, Chung et al. 2022"


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


def _size(billions: float) -> str:
    return f"{billions:g}B"
