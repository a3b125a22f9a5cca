"""Which runs are asked a suite? Plans of evaluations of runs that have ended, for `launch` to carry out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from flanscale.config.compose import load
from flanscale.config.overrides import parse_override
from flanscale.config.places import available
from flanscale.errors import ConfigError
from flanscale.evaluation.opening import check_suite
from flanscale.orchestration.dispatch.launch import launch
from flanscale.orchestration.planning.cost import cost_of
from flanscale.orchestration.planning.evaluations import evaluation_of
from flanscale.orchestration.planning.finding import Target
from flanscale.orchestration.planning.ledger import Entry, Ledger
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.orchestration.steering.retry import changed, part_of
from flanscale.run_directory import (
    FAILURE_CLASSES,
    RunState,
    is_evaluation,
    read_result,
    read_state,
    write_state,
)

SECTIONS = ("evaluation", "cluster", "data", "trainer.precision", "trainer.mesh", "tracker")
"""What may be other than it was when the run was trained."""


@dataclass(frozen=True)
class Asking:
    """Evaluations to do, by study; the folders of all that are asked for, and why runs are left."""

    plans: tuple[tuple[Ledger, Plan], ...]
    folders: tuple[Path, ...]
    left: tuple[tuple[str, str], ...]


def suite_overrides(suite: str) -> list[str]:
    """The overrides that `--suite` stands for: a file of `conf/evaluation`, or lines of a suite with commas between.

    Raises:
        ConfigError: a line is empty.
    """
    if suite in available("evaluation"):
        return [f"evaluation={suite}"]
    lines = [line.strip() for line in suite.split(",")]
    if not all(lines):
        raise ConfigError(
            f"--suite {suite!r}: a file of conf/evaluation, or lines with commas between, none of them empty"
        )
    name = "-".join(line.replace("/", "_") for line in lines)
    return [
        f"evaluation.suite={name if len(name) <= 60 else f'{len(lines)}_lines'}",
        f"evaluation.asks=[{','.join(lines)}]",
    ]


def make_asking(targets: Sequence[Target], overrides: Sequence[str]) -> Asking:
    """The evaluations of every finished run of the targets.

    Raises:
        ConfigError: an override of what the run was trained with, or one that makes no evaluation.
    """
    changes = [_allowed(text) for text in overrides]
    plans, folders, left = [], [], []
    for target in targets:
        cells = []
        for entry in target.entries:
            directory = target.ledger.directory(entry)
            if is_evaluation(directory):
                continue
            if (state := read_state(directory).state) != "finished":
                left.append((entry.run, state))
                continue
            cell = evaluation_of(_asked(target.ledger, entry, changes), parents=())
            folders.append(target.ledger.runs / cell.run)
            if read_result(folders[-1]) is None:
                _begin_again(folders[-1])
                cells.append(cell)
        if cells:
            plans.append((_ledger(target.ledger, cells), part_of(target.ledger, cells, overrides)))
    return Asking(tuple(plans), tuple(folders), tuple(left))


def carry_out(asking: Asking, console: Console, *, again: str, wait: bool | None) -> int:
    """Launch what is to be asked, what has failed before too; the worst exit code of `launch`."""
    codes = [
        launch(plan, console, again=again, wait=wait, index=ledger, retry=FAILURE_CLASSES)
        for ledger, plan in asking.plans
    ]
    return max(codes, default=0)


def _begin_again(folder: Path) -> None:
    """An evaluation that is recorded as finished, and whose result is gone, has not been done."""
    if (state := read_state(folder)).state == "finished":
        write_state(folder, RunState(attempt=state.attempt))


def _allowed(text: str) -> tuple[str, object]:
    key, value = parse_override(text)
    if not any(f"{key}.".startswith(f"{section}.") for section in SECTIONS):
        raise ConfigError(
            f"{text}: an evaluation takes overrides of {', '.join(SECTIONS)}; the run is as it was trained"
        )
    return key, value


def _asked(ledger: Ledger, entry: Entry, changes: Sequence[tuple[str, object]]) -> Cell:
    """The run that is asked, with the evaluation that is wanted of it now."""
    config = changed(load(ledger.directory(entry)), changes)
    config.paths = replace(config.paths, runs=str(ledger.runs), studies=str(ledger.path.parent))
    if not config.evaluation.asks:
        raise ConfigError(f"{entry.run} asks nothing by itself: say what with --suite")
    check_suite(config)
    return Cell(entry.id, entry.run, config, cost_of(config))


def _ledger(ledger: Ledger, cells: Sequence[Cell]) -> Ledger:
    """The study as these evaluations alone, to be followed; its index stays as it is."""
    entries = tuple(Entry(c.id, c.run, c.cost.steps, c.cost.parameters, c.cost.flops) for c in cells)
    return replace(ledger, entries=entries, points=(), removed=())
