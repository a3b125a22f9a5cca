"""What were the runs trained on, and what did it cost: realised mixtures, device-hours, energy and money.

Seconds are those that the runs' own records hold, all attempts added up, evaluation included; a device's price and
power are what the study's configuration says (`cluster.dollars_per_hour`, `cluster.watts`).
"""

from __future__ import annotations

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
    """On the cells of one model. None: not recorded, or not configured for all of them."""

    cells: int
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
            "device-hours": MISSING if each.device_hours is None else f"{each.device_hours:,.3g}",
            "kWh": MISSING if each.kilowatt_hours is None else f"{each.kilowatt_hours:,.3g}",
            "dollars": MISSING if each.dollars is None else f"{each.dollars:,.2f}",
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
        shares = {key.removeprefix(SHARE): value for key, value in last.items() if key.startswith(SHARE)}
        row |= {f"{name}, %": f"{100 * value:.1f}" for name, value in shares.items() if isinstance(value, int | float)}
        key = tuple(row.items())
        rows.setdefault(key, row)
        if isinstance(epoch := last.get("mixture/max_epochs"), int | float):
            epochs.setdefault(key, []).append(epoch)
    told = [
        row | {"most epochs of a task": f"{max(epochs[key]):.3g}"} if key in epochs else row
        for key, row in rows.items()
    ]
    return pd.DataFrame(told).fillna(MISSING)


def _spent(study: Study, cells: Sequence[str], hours: Mapping[str, float | None]) -> Spent:
    known = [each for cell in cells if (each := hours[cell]) is not None]
    whole = len(known) == len(cells) and sum(known) > 0
    configured = {cell: study.records[cell].config.get("cluster") for cell in cells}
    cluster = {cell: each if isinstance(each, Mapping) else {} for cell, each in configured.items()}
    tokens = [study.records[cell].last.get("train/tokens") for cell in cells]

    def bill(price: str, unit: float) -> float | None:
        prices = [each for cell in cells if isinstance(each := cluster[cell].get(price), int | float)]
        if not whole or len(prices) < len(cells):
            return None
        return unit * sum(taken * each for taken, each in zip(known, prices, strict=True))

    return Spent(
        cells=len(cells),
        tokens=sum(each for each in tokens if isinstance(each, int | float)),
        flops=sum(study.costs.get(cell, {}).get("flops") or 0.0 for cell in cells),
        device_hours=sum(known) if whole else None,
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
    return seconds * devices / 3600 if isinstance(devices, int) else None


def _number(last: Mapping[str, Any], key: str) -> str:
    value = last.get(key)
    return f"{value:,}" if isinstance(value, int) else MISSING
