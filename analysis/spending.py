"""What were the runs trained on, and what did it cost: realised mixtures, device-hours, energy and money.

Seconds are those that the runs' own records hold, all attempts added up, evaluation included; a device's price and
power are what the study's configuration says (`cluster.dollars_per_hour`, `cluster.watts`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.runs import Study
from analysis.tables import MISSING
from flanscale.errors import ConfigError
from flanscale.run_directory import read_each, read_state

SHARE = "mixture/share/"


@dataclass(frozen=True)
class Spent:
    """On the cells of one model. None: not recorded, or not configured."""

    cells: int
    whole: bool
    """Whether all cells have recorded their time: else the last three are at least so much."""
    tokens: float
    flops: float
    device_hours: float | None
    kilowatt_hours: float | None
    dollars: float | None


def spent(study: Study) -> dict[str, Spent]:
    """By model, then of all together where there are several."""
    points = {point.cell: point for point in study.points}
    by_model: dict[str, list[str]] = {}
    for cell, point in points.items():
        by_model.setdefault(str(study.column(point, "model")), []).append(cell)
    hours = dict(zip(points, read_each(lambda cell: _device_hours(study, cell, points[cell].run), points), strict=True))
    found = {model: _spent(study, cells, hours) for model, cells in by_model.items()}
    return found if len(found) == 1 else found | {"all": _spent(study, list(points), hours)}


def cost(study: Study) -> pd.DataFrame:
    """`spent` as a table of text."""
    rows = [
        {
            "model": model,
            "cells": f"{each.cells:,}",
            "tokens trained on": f"{each.tokens:.3g}" if each.tokens else MISSING,
            "FLOPs planned": f"{each.flops:.3g}" if each.flops else MISSING,
            "device-hours": _least(each, each.device_hours, ",.3g"),
            "kWh": _least(each, each.kilowatt_hours, ",.3g"),
            "dollars": _least(each, each.dollars, ",.2f"),
        }
        for model, each in spent(study).items()
    ]
    return pd.DataFrame(rows)


def mixtures(study: Study) -> pd.DataFrame:
    """A row per number of tasks and arm: tasks, examples and epochs as they were, and the share of each source."""
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    epochs: dict[tuple[Any, ...], list[float]] = {}
    others = [axis for axis in study.axes if axis not in ("seed", "model", "mixture.count", "cot")]
    for point in study.points:
        last = study.records[point.cell].last
        if not last.get("mixture/tasks"):
            continue
        count, cot = study.column(point, "count"), study.column(point, "cot")
        row = {"tasks asked": f"{count:,}" if isinstance(count, int) else str(count)}
        row |= {"CoT": "yes" if cot else "no"} if "cot" in study.axes else {}
        row |= {axis: str(point.axes[axis]) for axis in others if axis in point.axes}
        row |= {"tasks": _number(last, "mixture/tasks"), "examples": _number(last, "mixture/examples")}
        row["most epochs of a task"] = MISSING
        shares = {key.removeprefix(SHARE): value for key, value in last.items() if key.startswith(SHARE)}
        row |= {f"{name}, %": f"{100 * value:.1f}" for name, value in shares.items() if isinstance(value, int | float)}
        key = tuple(row.items())
        rows.setdefault(key, row)
        if isinstance(epoch := last.get("mixture/max_epochs"), int | float):
            epochs.setdefault(key, []).append(epoch)
    told = [
        row | ({"most epochs of a task": f"{max(epochs[key]):.3g}"} if key in epochs else {})
        for key, row in rows.items()
    ]
    return pd.DataFrame(told).fillna(MISSING)


def _spent(study: Study, cells: Sequence[str], hours: Mapping[str, float | None]) -> Spent:
    known = {cell: each for cell in cells if (each := hours[cell]) is not None}
    configured = {cell: study.records[cell].config.get("cluster") for cell in cells}
    cluster = {cell: each if isinstance(each, Mapping) else {} for cell, each in configured.items()}
    tokens = [study.records[cell].last.get("train/tokens") for cell in cells]

    def bill(price: str, unit: float) -> float | None:
        prices = {cell: each for cell in known if (each := _amount(cluster[cell].get(price))) is not None}
        if not known or len(prices) < len(known):
            return None
        return unit * sum(taken * prices[cell] for cell, taken in known.items())

    return Spent(
        cells=len(cells),
        whole=len(known) == len(cells),
        tokens=sum(each for each in tokens if isinstance(each, int | float)),
        flops=sum(study.costs.get(cell, {}).get("flops") or 0.0 for cell in cells),
        device_hours=sum(known.values()) if known else None,
        kilowatt_hours=bill("watts", 1e-3),
        dollars=bill("dollars_per_hour", 1.0),
    )


def _device_hours(study: Study, cell: str, run: str) -> float | None:
    """None where nobody has recorded it: a run that is not here, or a copy without times."""
    devices = study.costs.get(cell, {}).get("devices")
    try:
        seconds = read_state(study.folder / run).seconds
    except ConfigError:  # told where the run is read
        return None
    spent = _amount(seconds)
    if not spent and study.records[cell].state not in ("planned", "queued"):
        return None
    return (spent or 0.0) * devices / 3600 if isinstance(devices, int) else None


def _amount(value: Any) -> float | None:
    """What can be added up; None for what was written by hand and cannot."""
    sound = type(value) in (int, float) and math.isfinite(value) and value >= 0
    return float(value) if sound else None


def _least(spent: Spent, value: float | None, form: str) -> str:
    return MISSING if value is None else f"{'' if spent.whole else '≥ '}{value:{form}}"


def _number(last: Mapping[str, Any], key: str) -> str:
    value = last.get(key)
    return f"{value:,}" if isinstance(value, int) else MISSING
