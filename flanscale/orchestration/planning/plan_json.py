"""How do programs read a plan? The documents of `plan --json`, as docs/watching.md explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flanscale.chips import CHIPS
from flanscale.config.compose import Composer
from flanscale.orchestration.planning import memory
from flanscale.orchestration.planning.cost import cost_of, estimate
from flanscale.orchestration.planning.display_tune import tuning_document
from flanscale.orchestration.planning.ledger import ledger_of
from flanscale.orchestration.planning.order import in_order
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.orchestration.planning.preview import COMMON, Preview
from flanscale.orchestration.planning.tune import Tuning, tune
from flanscale.schema import RunConfig

FORMAT = 1


def plan_document(
    plan: Plan, order: str, counts: Sequence[int] | None = None, *, compiled: bool = False
) -> dict[str, Any]:
    """A study, with what a launch would do about each of its cells, in that order.

    `counts` and `compiled` are as in `preview.print_plan`.

    Raises:
        ConfigError: there is no such order, or no chip to tune for.
    """
    cells, seen = in_order(plan, plan.cells, order), Preview.of(plan)
    points: dict[str, list[dict[str, Any]]] = {}
    for point in (*plan.points, *plan.stages):
        points.setdefault(point.cell, []).append(point.axes)
    ahead = [cell for cell in plan.cells if seen.decisions[cell.id].action != "done"]
    return {
        "format": FORMAT,
        "study": plan.study.name,
        "title": plan.study.title,
        "overrides": list(plan.overrides),
        "runs": str(plan.runs),
        "axes": {key: list(values) for key, values in plan.study.axes.items()},
        "points": len(plan.points),
        "device_hours": {
            "spent": seen.spent,
            "queued": seen.device_hours(seen.that("wait")),
            "to_start": seen.device_hours(seen.starts),
        },
        "flops": sum(cell.cost.flops for cell in ahead),
        "removed": [entry.run for entry in ledger_of(plan).removed],
        "lacking": list(plan.lacking),
        "cells": [_cell(cell, seen, points.get(cell.id, [])) for cell in cells],
        **_tunings(seen.one_of_each_size, counts, compiled=compiled),
    }


def _cell(cell: Cell, seen: Preview, points: list[dict[str, Any]]) -> dict[str, Any]:
    decision, guess = seen.decisions[cell.id], seen.estimates.get(cell.id)
    return {
        "cell": cell.id,
        "run": cell.run,
        "points": points,
        "parents": list(cell.parents),
        "status": seen.views[cell.id].status,
        "action": decision.action,
        "reason": decision.reason,
        **asdict(cell.cost),
        "seconds": guess.seconds if guess else None,
        "device_hours": guess.device_hours if guess else None,
        "basis": guess.basis if guess else None,
        "memory": asdict(memory.footprint_of(cell.config)),
    }


def cell_document(
    overrides: Sequence[str], counts: Sequence[int] | None = None, *, compiled: bool = False
) -> dict[str, Any]:
    """One cell, what it takes, and on which mesh of which chip it fits.

    Raises:
        ConfigError: a wrong override, or no chip to tune for.
    """
    config = Composer().compose(overrides)
    cost, chip = cost_of(config), config.cluster.chip
    guess = estimate(config, cost, None, None)
    return {
        "format": FORMAT,
        **asdict(cost),
        "device_hours": guess.device_hours if guess else None,
        "memory": asdict(memory.footprint_of(config)),
        "fits": [
            {
                "chip": found.chip,
                "devices": found.devices,
                "mesh": asdict(found.mesh),
                "remat": found.remat,
                "memory": asdict(found.footprint),
                "device_memory": CHIPS[found.chip].memory,
                "fits": found.fits,
            }
            for found in memory.fits(config, [chip] if chip else COMMON)
        ],
        **_tunings([config], counts, compiled=compiled),
    }


def _tunings(configs: Sequence[RunConfig], counts: Sequence[int] | None, *, compiled: bool) -> dict[str, Any]:
    """Nothing where nobody asked for them."""
    if counts is None:
        return {}
    found = [tuning for config in configs for tuning in tune(config, counts)]
    return {"tune": [tuning_document(tuning, _compiled(tuning) if compiled else None) for tuning in found]}


def _compiled(tuning: Tuning) -> memory.Compiled | None:
    """What the compiler plans for the fastest setting."""
    return memory.compiled_memory(tuning.best.applied(tuning.config)) if tuning.best else None
