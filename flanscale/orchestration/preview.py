"""What would a launch do, and what would it cost? Compares a plan with the run directories; touches nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from flanscale.config import Composer
from flanscale.orchestration.cost import estimated_seconds
from flanscale.orchestration.display import duration, plan_table, quantity
from flanscale.orchestration.liveness import asking_rarely, look
from flanscale.orchestration.plan import Plan, decide, plan_study
from flanscale.orchestration.study import load_study


def make_plan(study: str, overrides: Sequence[str]) -> Plan:
    """Plan a study by its name.

    Raises:
        ConfigError: no such study, a wrong override, or a cell that cannot be run.
    """
    return plan_study(load_study(study), overrides, Composer())


def print_plan(plan: Plan, console: Console) -> None:
    """Show what a launch would do about every cell, and the sum of it."""
    known_jobs = asking_rarely()
    seen = {cell.id: look(plan.directory(cell), known_jobs) for cell in plan.cells}
    decisions = {cell: decide(view) for cell, view in seen.items()}
    measured = {cell: view.state.seconds for cell, view in seen.items() if decisions[cell].action == "done"}
    seconds = estimated_seconds({cell.id: cell.cost.flops for cell in plan.cells}, measured)
    ahead = [cell for cell in plan.cells if decisions[cell.id].action != "done"]
    time = f", {duration(sum(seconds.values()))} in all at the pace of the finished ones" if seconds and ahead else ""
    console.print(plan.study.title, style="bold", markup=False, highlight=False)
    console.print(plan_table(plan, decisions, seconds))
    console.print(
        f"{len(plan.points)} points, {len(plan.cells)} distinct cells, {len(plan.cells) - len(ahead)} done;"
        f" to do: {quantity(sum(cell.cost.flops for cell in ahead))}FLOP of training{time}",
        highlight=False,
        soft_wrap=True,
    )
