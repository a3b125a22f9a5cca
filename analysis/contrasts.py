"""What did rationales and what did more tasks change: differences between arms, paired on the items both answered.

    Δ CoT      trained with rationales − without, at the same number of tasks
    Δ volume   the largest number of tasks − the smallest (above 0), in the same arm

in each panel, so that direct-prompted and CoT-prompted evaluation stay apart. The seeds' error comes from the pooled
variance. The items' error is that of the per-item difference, stratified by task: what makes an item easy for all cells
cancels. Where predictions are not at hand the cells' own errors are added up instead, which is too wide, and said.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.panels import Panel
from analysis.runs import AVERAGE, Study, average_members, scores
from analysis.summary import Curve, Estimate, Mean, combine

ALL_SIZES = "all sizes"

Weights = Mapping[tuple[Curve, int], float]


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means, with its interval; `paired` tells whether item by item."""

    question: str
    size: str
    estimate: Estimate
    paired: bool


def contrasts(panel: Panel, items: pd.DataFrame | None) -> list[Contrast]:
    """The contrasts that a panel's cells allow, per size and over all sizes. `items` comes from `read_items`."""
    asked = [(question, size, weights) for size in _sizes(panel) for question, weights in _questions(panel, size)]
    means = {(mean.curve, mean.count): mean for mean in panel.means}
    return [
        Contrast(question, size, *_estimate(weights, means, items))
        for question, size, weights in asked
        if all(place in means for place in weights)
    ]


def read_items(study: Study, panel: Panel) -> pd.DataFrame | None:
    """Points of every item (index task, id) in every scored cell (columns) of a panel, on the normalised scale.

    None where a cell's predictions are not at hand, or cells answered different items.
    """
    directory = {point.cell: study.folder / point.run for point in study.points}
    columns: dict[str, pd.Series] = {}
    for cell in {cell: None for run in panel.runs if run.scored for cell in run.cells}:
        record = study.records[cell]
        average = (panel.benchmark, panel.setting) == AVERAGE
        members = average_members(record) if average else [(panel.benchmark, panel.setting)]
        parts = []
        for member in members:
            part = _read_predictions(directory[cell], *member)
            if part is None:
                return None
            parts.append(part * 100 / (100 - scores(record)[member]["lower_bound"]) / len(members))
        columns[cell] = pd.concat(parts).groupby(level=[0, 1], sort=False).sum() if average else parts[0]
    frame = pd.DataFrame(columns)
    return None if frame.empty or frame.isna().to_numpy().any() else frame


def stratified_variance(difference: pd.Series) -> float:
    """Variance of the mean of task means of an item-level quantity (index task, id), the tasks taken as given."""
    by_task = difference.groupby(level=0, sort=False)
    inside = (by_task.var(ddof=1) / by_task.size()).fillna(0.0)
    return float(inside.sum()) / len(inside) ** 2


def _read_predictions(run_dir: Path, benchmark: str, setting: str) -> pd.Series | None:
    path = run_dir / "predictions" / f"{benchmark}.jsonl.gz"
    if not path.exists():
        return None
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["setting"] == setting]
    index = pd.MultiIndex.from_tuples([(row["task"], row["id"]) for row in rows], names=["task", "id"])
    return pd.Series([float(row["score"]) for row in rows], index=index)


def _sizes(panel: Panel) -> list[str]:
    sizes = list(dict.fromkeys(curve.size for curve in panel.curves))
    return [ALL_SIZES, *sizes] if len(sizes) > 1 else sizes


def _questions(panel: Panel, size: str) -> list[tuple[str, Weights]]:
    """What can be asked of a size (or of all, averaged), as weights on the means."""
    counts = [count for count in panel.counts if count > 0]
    curves = [curve for curve in panel.curves if size in (ALL_SIZES, curve.size)]
    trained = {arm: [curve for curve in curves if curve.cot is arm] for arm in (True, False, None)}
    low, high = min(counts, default=0), max(counts, default=0)
    out: list[tuple[str, Weights]] = []
    if trained[True] and trained[False]:
        across = [_minus(_over(trained[True], [count]), _over(trained[False], [count])) for count in counts]
        out.append(("Δ CoT, mean over task counts", _mean(across)))
        out += [
            (f"Δ CoT at {count:,} tasks", each)
            for count, each in zip(counts, across, strict=True)
            if count in (low, high)
        ]
    if low < high:
        for arm, words in ((True, " with CoT"), (False, " without CoT"), (None, "")):
            if trained[arm]:
                gain = _minus(_over(trained[arm], [high]), _over(trained[arm], [low]))
                out.append((f"Δ volume, {low:,} → {high:,} tasks{words}", gain))
    return out


def _over(curves: Sequence[Curve], counts: Sequence[int]) -> Weights:
    places = [(curve, count) for curve in curves for count in counts]
    return dict.fromkeys(places, 1 / len(places))


def _minus(one: Weights, other: Weights) -> Weights:
    return {**one, **{place: -weight for place, weight in other.items()}}


def _mean(parts: Sequence[Weights]) -> Weights:
    return {place: weight / len(parts) for part in parts for place, weight in part.items()}


def _estimate(
    weights: Weights, means: Mapping[tuple[Curve, int], Mean], items: pd.DataFrame | None
) -> tuple[Estimate, bool]:
    value = sum(weight * means[place].value for place, weight in weights.items())
    seed_variance = sum(weight**2 * means[place].seed_variance for place, weight in weights.items())
    if items is None:
        item_variance = sum(weight**2 * means[place].item_variance for place, weight in weights.items())
    else:
        per_cell = {
            cell: weight / len(means[place].cells) for place, weight in weights.items() for cell in means[place].cells
        }
        difference = items[list(per_cell)].to_numpy() @ np.array(list(per_cell.values()))
        item_variance = stratified_variance(pd.Series(difference, index=items.index))
    seed_df = next(iter(means.values())).seed_df
    return combine(value, seed_variance, seed_df, item_variance), items is not None
