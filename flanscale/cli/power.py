"""What can a planned study see? `flanscale plan STUDY --power`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from flanscale import __version__
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.plan import Plan

if TYPE_CHECKING:
    from analysis.signal import Signal

NOISE = 3.0
"""Points of standard deviation between seeds where half is right, where neither pilot nor user says how many."""
ITEMS = 1200


def print_power(
    plan: Plan, console: Console, *, pilot: Path | None = None, noise: float | None = None, items: int | None = None
) -> None:
    """Say which effects the study's questions can tell from none, and what more runs would buy.

    Args:
        pilot: index of a study whose runs show how far seeds scatter.
        noise: the same as a statement: points of standard deviation where half is right.
        items: that are asked; the pilot's where there is one.

    Raises:
        ConfigError: both or neither kind of noise can be used.
    """
    from analysis import panels, power, signal, sources, summary
    from analysis.noise import stated
    from analysis.runs import Point, RunRecord, Study

    if pilot is not None and noise is not None:
        raise ConfigError("--pilot and --seed-noise both say how far seeds scatter: give one")
    study = Study(
        name=plan.study.name,
        title=plan.study.title,
        version=__version__,
        overrides=plan.overrides,
        axes=plan.study.axes,
        points=tuple(Point(point.axes, point.cell, point.cell) for point in plan.points),
        records={cell.id: RunRecord(cell.id, "planned", None, asdict(cell.config), {}) for cell in plan.cells},
        parameters={cell.id: cell.cost.parameters for cell in plan.cells},
        folder=plan.runs,
        source="plan",
    )
    known, number, said = (
        stated(NOISE if noise is None else noise),
        items or ITEMS,
        f"{NOISE if noise is None else noise:g} points",
    )
    told: list[str] = []
    if pilot is not None:
        pilot_study = sources.read(pilot)
        measured = panels.analyse(pilot_study)
        if not measured:
            raise ConfigError(f"--pilot {pilot.stem}: none of its runs is evaluated")
        scores = [panel for panel in measured if not panel.falls]
        if not scores:
            raise ConfigError(f"--pilot {pilot.stem}: its runs log losses alone, and effects are told in points")
        known = summary.pooled_noise(scores[-1].runs)
        if not known.known:
            raise ConfigError(f"--pilot {pilot.stem}: no cell of it has two runs, so that it shows no noise")
        number = items or int(scores[-1].means[0].n)
        said = f"{25 * known.deviation:.1f} points, as in {pilot.stem},"
        history, damaged = signal.checkpoint_scores(pilot_study)
        told = [*_print_signals(signal.signals(measured, history), pilot.stem, console), *damaged]
    grid = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title="Smallest difference that is seen, in points"
    )
    for name in ("question", "size"):
        grid.add_column(name)
    for name in ("as planned", *(f"{runs} runs" for runs in power.SEEDS if runs > 1)):
        grid.add_column(name, justify="right")
    for each in power.seen(study, known, number):
        cells = [each.smallest, *(each.by_runs[runs] for runs in power.SEEDS if runs > 1)]
        grid.add_row(
            each.question.text, each.question.size, *("none" if cell is None else f"{cell:.1f}" for cell in cells)
        )
    console.print(grid)
    factor = power.exponent_factor(study, known, number)
    known_well = f"known within a factor of {factor:.1f} (95 %)" if factor else "not bounded on both sides"
    counts = {point.axes.get("mixture.count") for point in plan.points} - {0, None}
    for line in (
        f"With a scatter between seeds of {said} where half is right, beyond the luck of {number:,} items; seen in four"
        " studies of five, by the report's test at 5 %, corrected for the other questions. Near 0 and near 100 seeds"
        " scatter less, and far smaller differences are seen.",
        *([f"The exponent of a power law (.35) would be {known_well}."] if len(counts) >= power.COUNTS else []),
        *told,
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_signals(found: Sequence[Signal], pilot: str, console: Console) -> list[str]:
    """A row a benchmark; returns what is to be said of the numbers."""
    from analysis.signal import LAST

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title=f"Signal and noise in {pilot}")
    grid.add_column("benchmark")
    for name in ("spread of means", "between seeds", "signal/noise", f"over last {LAST} checkpoints", "signal/noise"):
        grid.add_column(name, justify="right")
    for each in found:
        numbers = (each.spread, each.between_seeds, each.to_seeds, each.over_checkpoints, each.to_checkpoints)
        grid.add_row(each.title, *("unknown" if number is None else f"{number:.3g}" for number in numbers))
    console.print(grid)
    told = [
        "Spread: largest less smallest mean of a trained cell. Noise: standard deviation of one run, between seeds and"
        " over its last checkpoints."
    ]
    if not any(each.histories for each in found):
        told.append(
            f"No run of {pilot} has scores of several checkpoints, so that it does not show how far a score moves from"
            " one to the next: evaluation.checkpoint=suite asks all that trainer.keep_checkpoints keeps."
        )
    return told
