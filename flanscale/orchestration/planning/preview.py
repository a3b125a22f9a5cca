"""What would a launch do, and what would it cost? Compares a plan with the run directories; touches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from rich.console import Console

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.planning import display_tune, memory
from flanscale.orchestration.planning.cautions import cautions, mesh_rules
from flanscale.orchestration.planning.cost import (
    Estimate,
    Pace,
    cost_of,
    devices,
    estimate,
    estimated_seconds,
    finished_runs,
    pace_of,
    run_of,
    size_of,
)
from flanscale.orchestration.planning.display_plan import (
    compiled_line,
    memory_lines,
    memory_table,
    plan_table,
    removed_line,
    rule_lines,
)
from flanscale.orchestration.planning.evaluations import with_evaluations
from flanscale.orchestration.planning.figures import duration, hours, quantity
from flanscale.orchestration.planning.ledger import ledger_of
from flanscale.orchestration.planning.order import in_order
from flanscale.orchestration.planning.plan import Cell, Plan, plan_study
from flanscale.orchestration.planning.sheet import show
from flanscale.orchestration.planning.study import load_study
from flanscale.orchestration.planning.tune import tune
from flanscale.orchestration.running.liveness import View, asking_rarely, look
from flanscale.orchestration.running.repeat import Decision, decide
from flanscale.run_directory import read_each
from flanscale.schema import RunConfig

COMMON = ("b200", "h200", "h100", "a100", "tpu_v4", "tpu_v5e", "tpu_v5p", "tpu_v6e")  # shown where no chip is chosen


def make_plan(study: str, overrides: Sequence[str], *, insist: bool = True) -> Plan:
    """Plan a study by its name.

    Args:
        insist: that all data is here; otherwise the plan says what is lacking.

    Raises:
        ConfigError: no such study, a wrong override, or a cell that cannot be run.
    """
    plan = plan_study(load_study(study), overrides, Composer(), insist=insist)
    return plan if plan.lacking else with_evaluations(plan)


@dataclass(frozen=True)
class Preview:
    """A plan beside what is in the run directories."""

    plan: Plan
    views: Mapping[str, View]  # by cell id
    decisions: Mapping[str, Decision]

    @staticmethod
    def of(plan: Plan) -> Preview:
        known_jobs = asking_rarely()
        found = read_each(lambda cell: look(plan.directory(cell), known_jobs), plan.cells)
        views = {cell.id: view for cell, view in zip(plan.cells, found, strict=True)}
        return Preview(plan, views, {cell: decide(view) for cell, view in views.items()})

    def that(self, *actions: str) -> list[Cell]:
        """The cells about which a launch does one of these."""
        return [cell for cell in self.plan.cells if self.decisions[cell.id].action in actions]

    @property
    def starts(self) -> list[Cell]:
        """The cells that a launch would start."""
        return self.that("start", "resume", "retry")

    @cached_property
    def sizes(self) -> dict[str, str]:
        """Of every cell, by its id."""
        return {cell.id: size_of(cell.config) for cell in self.plan.cells}

    @property
    def one_of_each_size(self) -> list[RunConfig]:
        return list({self.sizes[cell.id]: cell.config for cell in self.plan.cells}.values())

    @cached_property
    def estimates(self) -> dict[str, Estimate | None]:
        """Of every cell that is not done."""
        done = {cell.id: self.views[cell.id].state.seconds for cell in self.that("done")}
        by_flops = estimated_seconds({cell.id: cell.cost.flops for cell in self.plan.cells}, done) or {}
        ahead = [cell for cell in self.plan.cells if cell.id not in done]
        paces = self._paces(ahead)
        return {
            cell.id: estimate(
                cell.config, cell.cost, None if cell.asks else paces[self.sizes[cell.id]], by_flops.get(cell.id)
            )
            for cell in ahead
        }

    def _paces(self, ahead: Sequence[Cell]) -> dict[str, Pace | None]:
        """By size: of the plan's own finished cells, or of others in the runs folder."""
        trained = [cell for cell in self.that("done") if not cell.asks]
        own = [run_of(cell.config, self.plan.directory(cell), self.views[cell.id].state) for cell in trained]
        one_of = {self.sizes[cell.id]: cell.config for cell in ahead}
        return {
            size: pace_of(chain((run for run in own if run.size == size), finished_runs(self.plan.runs, config)))
            for size, config in one_of.items()
        }

    def device_hours(self, cells: Sequence[Cell]) -> float | None:
        """Of cells that are not done; None where one of them is not known."""
        hours = [guess.device_hours if (guess := self.estimates[cell.id]) else None for cell in cells]
        return None if None in hours else sum(hour for hour in hours if hour is not None)

    @property
    def spent(self) -> float:
        """Device-hours of what is done."""
        return sum(self.views[cell.id].state.seconds * devices(cell.config) / 3600 for cell in self.that("done"))


def print_plan(
    plan: Plan,
    console: Console,
    *,
    order: str = "grid",
    with_memory: bool = False,
    compiled: bool = False,
    counts: Sequence[int] | None = None,
) -> None:
    """Show what a launch would do about every cell, and the sum of it.

    Args:
        plan: the study.
        console: where to show it.
        order: in which the cells are shown, one of `order.ORDERS`.
        with_memory: add what each size takes on its devices.
        compiled: add what the compiler says to that, and to the fastest settings.
        counts: add the fastest settings of each size on so many devices; none given: on those of its job.

    Raises:
        ConfigError: there is no such order, or no chip to tune for.
    """
    cells = in_order(plan, plan.cells, order)
    seen = Preview.of(plan)
    footprints = {cell.id: memory.footprint_of(cell.config) for cell in plan.cells if cell.config.cluster.chip}
    console.print(plan.study.title, style="bold", markup=False, highlight=False)
    show(plan_table(plan, cells, seen.decisions, seen.estimates, footprints), console)
    for line in totals(seen):
        console.print(line, highlight=False, soft_wrap=True)
    for config in seen.one_of_each_size:
        if with_memory or (counts is None and (compiled or not memory.footprint_of(config).fits(_memory(config)))):
            _print_memory(config, console, compiled=compiled and counts is None)
    if counts is not None:
        _print_tunings(seen.one_of_each_size, counts, console, compiled=compiled)
    ahead = [cell for cell in plan.cells if seen.decisions[cell.id].action != "done"]
    apart = [cell for cell in plan.cells if cell.asks]
    waiting, failed, parents = len(seen.that("wait")), len(seen.that("failed")), len({s.cell for s in plan.stages})
    for line in [*rule_lines(plan), *mesh_rules(plan), *cautions(plan)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if removed := ledger_of(plan).removed:
        console.print(removed_line(plan.study.name, removed), highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{len(plan.points)} points, {len(plan.cells) - len(apart)} distinct cells"
        f"{f' with {parents} parents' if parents else ''}"
        f"{f', {len(apart)} evaluations as jobs of their own' if apart else ''}, {len(plan.cells) - len(ahead)} done"
        f"{f', {waiting} queued or running' if waiting else ''}"
        f"{f', {failed} failed and waiting for `flanscale retry`' if failed else ''};"
        f" to do: {quantity(sum(cell.cost.flops for cell in ahead if not cell.asks))}FLOP of training"
        f"{_asked(ahead)}",
        highlight=False,
        soft_wrap=True,
    )


def _asked(ahead: Sequence[Cell]) -> str:
    """What evaluations that are jobs of their own may take."""
    work = sum(cell.cost.flops for cell in ahead if cell.asks)
    return f", at most {quantity(work)}FLOP of evaluation" if work else ""


def print_cell(
    overrides: Sequence[str], console: Console, *, compiled: bool = False, counts: Sequence[int] | None = None
) -> None:
    """Show what one cell takes, and on which mesh of which chip it fits. Needs none of its data.

    Args:
        overrides: the cell.
        console: where to show it.
        compiled: add what the compiler says to that.
        counts: show the fastest settings on so many devices instead; none given: on those of its job.

    Raises:
        ConfigError: a wrong override, or no chip to tune for.
    """
    config = Composer().compose(overrides)
    console.print(_cell_words(config), highlight=False, soft_wrap=True)
    if counts is not None:
        _print_tunings([config], counts, console, compiled=compiled)
        return
    _print_memory(config, console, compiled=compiled)
    chips = [config.cluster.chip] if config.cluster.chip else COMMON
    if found := memory.fits(config, chips):
        show(memory_table(found), console)
    else:
        console.print("none fits: take fewer or shorter rows, or trainer.microbatches", soft_wrap=True)


def _cell_words(config: RunConfig) -> str:
    """What a cell is and, where its chip is known, how long the chips would take."""
    cost, cluster = cost_of(config), config.cluster
    words = (
        f"{quantity(cost.parameters)} parameters; {cost.steps:,} steps: {quantity(cost.tokens)} tokens,"
        f" {quantity(cost.flops)}FLOP of training"
    )
    if guess := estimate(config, cost, None, None):
        words += f", {hours(guess.device_hours)} {cluster.chip}-hours at an MFU of {cluster.mfu:.0%} (cluster.mfu)"
    return words


def check_budget(plan: Plan, hours: float) -> None:
    """Refuse a launch that would take more device-hours than there are.

    Raises:
        ConfigError: it would, or nobody can tell.
    """
    seen = Preview.of(plan)
    needed = seen.device_hours(seen.starts)
    if needed is None:
        raise ConfigError(
            f"--budget {hours:g}: nothing says how long these cells take; give cluster.chip=<name>, or let one finish"
        )
    if needed > hours:
        bases = "measured" if all(e.basis == "measured" for e in seen.estimates.values() if e) else "estimated"
        raise ConfigError(
            f"--budget {hours:g}: the {len(seen.starts)} cells to start need {needed:.3g} device-hours ({bases}),"
            f" {needed - hours:.3g} more; raise it, or launch fewer cells"
        )


def _memory(config: RunConfig) -> float:
    return memory.CHIPS[config.cluster.chip].memory if config.cluster.chip else float("inf")


def _print_memory(config: RunConfig, console: Console, *, compiled: bool) -> None:
    taken = memory.footprint_of(config)
    chip = config.cluster.chip
    other = memory.smallest_fit(config, chip) if chip and not taken.fits(_memory(config)) else None
    for line in memory_lines(config, taken, other):
        console.print(line, highlight=False, soft_wrap=True)
    if compiled:
        line = compiled_line(memory.compiled_memory(config), taken, _memory(config))
        console.print(line, highlight=False, soft_wrap=True)


def _print_tunings(configs: Sequence[RunConfig], counts: Sequence[int], console: Console, *, compiled: bool) -> None:
    tunings = [tuning for config in configs for tuning in tune(config, counts)]
    for tuning in tunings:
        console.print(display_tune.title(tuning), highlight=False, soft_wrap=True)
        if tuning.best:
            show(display_tune.table(tuning), console)
        for line in display_tune.lines(tuning):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if compiled and (best := tuning.best):
            planned = memory.compiled_memory(best.applied(tuning.config))
            line = compiled_line(planned, best.footprint, _memory(tuning.config))
            console.print(line, highlight=False, soft_wrap=True)
    console.print(display_tune.ABOUT, highlight=False, soft_wrap=True)


# --- in all -----------------------------------------------------------------------------------------------------------


def totals(seen: Preview) -> list[str]:
    """Device-hours, dollars and energy of a study, and where the figures come from; nothing where nothing is known."""
    starts, waiting = seen.starts, seen.that("wait")
    if not any(seen.estimates.values()) and not seen.spent:
        return []
    parts = [f"{hours(seen.spent)} spent"]
    if waiting:
        parts.append(f"{hours(seen.device_hours(waiting))} queued or running")
    parts.append(f"{hours(seen.device_hours(starts))} to start")
    lines = [f"device-hours: {', '.join(parts)}{_basis(seen)}"]
    if wall := _wall(seen, [*starts, *waiting]):
        lines.append(wall)
    if bill := _bill(seen, [*starts, *waiting]):
        lines.append(bill)
    return lines


def _basis(seen: Preview) -> str:
    """How the hours of what is ahead are known, by cells."""
    bases = [guess.basis for guess in seen.estimates.values() if guess]
    mfus = {f"{cell.config.cluster.mfu:.0%}" for cell in seen.plan.cells}
    words = {
        "measured": "measured on finished runs of the same size",
        "pace": "by FLOPs at the pace of finished ones",
        "mfu": f"assuming an MFU of {' or '.join(sorted(mfus))} (cluster.mfu) and no evaluation",
    }
    said = [
        f"{words[basis]}{f' for {bases.count(basis)} cells' if len(set(bases)) > 1 else ''}"
        for basis in words
        if basis in bases
    ]
    return f" ({'; '.join(said)})" if said else ""


def _wall(seen: Preview, cells: Sequence[Cell]) -> str:
    """How long the cells take as many at once as `cluster.parallelism` allows, children after their parents."""
    most = seen.plan.cells[0].config.cluster.parallelism
    left = {cell.id: guess.seconds for cell in cells if (guess := seen.estimates[cell.id])}
    if most is None or len(left) < len(cells) or not cells:
        return ""
    ends: dict[str, float] = {}
    for cell in seen.plan.cells:  # parents come first
        if cell.id in left:
            ends[cell.id] = left[cell.id] + max((ends.get(parent, 0.0) for parent in cell.parents), default=0.0)
    taken = max(sum(left.values()) / most, *ends.values())
    return f"about {duration(taken)} with {most} cells at once (cluster.parallelism), without waiting in queues"


def _bill(seen: Preview, cells: Sequence[Cell]) -> str:
    """Dollars and kilowatt-hours of what is ahead, where prices are configured for all of it."""
    each = [(cell.config.cluster, seen.estimates[cell.id]) for cell in cells]
    known = [(cluster, guess.device_hours) for cluster, guess in each if guess]
    if len(known) < len(each) or not known:
        return ""
    dollars = [cluster.dollars_per_hour for cluster, _ in known]
    watts = [cluster.watts for cluster, _ in known]
    said = []
    if None not in dollars:
        said.append(f"{sum((d or 0) * taken for d, (_, taken) in zip(dollars, known, strict=True)):,.2f} dollars")
    if None not in watts:
        said.append(f"{sum((w or 0) * taken for w, (_, taken) in zip(watts, known, strict=True)) / 1000:,.3g} kWh")
    return f"still to pay: {', '.join(said)}" if said else ""
