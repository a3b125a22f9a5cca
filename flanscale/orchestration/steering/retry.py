"""Which cells are started again, and as what? Plans of what run directories keep, for `launch` to carry out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from flanscale import identity
from flanscale.config.assignment import assign
from flanscale.config.checks import GROUPS, fields
from flanscale.config.compose import Composer, checked, load
from flanscale.config.overrides import parse_override
from flanscale.errors import ConfigError, UserError, one_line
from flanscale.orchestration.dispatch.launch import Report, launch
from flanscale.orchestration.planning.cost import cost_of
from flanscale.orchestration.planning.ledger import Ledger
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.orchestration.planning.resources import resources_of
from flanscale.orchestration.planning.study import Study
from flanscale.orchestration.running.claim import claim
from flanscale.orchestration.running.job import RUNNER
from flanscale.orchestration.running.liveness import look
from flanscale.orchestration.running.sharing import following
from flanscale.orchestration.steering.targets import Seen
from flanscale.orchestration.watching.selection import failure_class
from flanscale.run_directory import read_state, write_state
from flanscale.schema import ClusterConfig, RunConfig

PLACES = ("paths", "sweep")  # where a cell is found again
FINGERPRINTED = ("init", "tokenizer", "data")  # may be moved, as long as their content stays
NOT_BEGUN = "not begun; `flanscale launch` starts it"
OTHER_VERSION = "made by another version of flanscale; `flanscale launch` starts it anew"


@dataclass(frozen=True)
class Left:
    """A cell that is not started, and why."""

    cell: Seen
    reason: str


@dataclass(frozen=True)
class Retry:
    """What is started again, by study and executor, and what is left."""

    plans: tuple[tuple[Ledger, Plan], ...]
    again: tuple[Seen, ...]
    left: tuple[Left, ...]

    @property
    def classes(self) -> frozenset[str]:
        """Of the failures that are tried again."""
        return frozenset(kind for cell in self.again if (kind := failure_class(cell.view)))


def make_retry(cells: Sequence[Seen], overrides: Sequence[str]) -> Retry:
    """Decide about each cell, as `meant` says, and compose those that are started.

    Raises:
        ConfigError: an override of what changes a result, or one that makes no cell that can be run.
    """
    changes = [_change(text) for text in overrides]
    again, left = [], []
    made: dict[tuple[str, str], tuple[Ledger, list[Cell]]] = {}
    chosen = {cell.entry.id for cell in cells if cell.meant and _reason(cell) is None}
    for cell in {cell.directory: cell for cell in cells}.values():  # two studies may share it
        reason = _reason(cell) or (None if cell.meant else _not_meant(cell)) or _unready(cell, chosen)
        reason = reason or _other_data(cell, changes)
        composed = None if reason else _compose(cell, changes, chosen)
        if composed is None:
            left.append(Left(cell, reason or OTHER_VERSION))
            continue
        again.append(cell)
        key = (str(cell.ledger.path), composed.config.cluster.name)
        made.setdefault(key, (cell.ledger, []))[1].append(composed)
    plans = [(ledger, part_of(ledger, found, overrides)) for ledger, found in made.values()]
    return Retry(tuple(plans), tuple(again), tuple(left))


def _reason(cell: Seen) -> str | None:
    """Why a cell cannot be started again; None when it can."""
    if cell.problem:
        return cell.problem
    if cell.view.alive:
        return "running" if cell.view.status == "running" else "queued"
    if cell.view.lost:
        return None
    return "finished" if cell.view.status == "finished" else NOT_BEGUN


def _not_meant(cell: Seen) -> str:
    kind = failure_class(cell.view)
    return f"{cell.view.status}{f' ({kind})' if kind not in (None, cell.view.status) else ''}, not asked for"


def _unready(cell: Seen, chosen: Iterable[str]) -> str | None:
    """Which cell it would have to wait for, that is neither finished nor started together with it."""
    for entry in cell.ledger.entries:
        waits = entry.id in cell.entry.parents and entry.id not in chosen
        if waits and read_state(cell.ledger.directory(entry)).state != "finished":
            return f"starts from {entry.run}, which is not finished"
    return None


def _other_data(cell: Seen, changes: Sequence[tuple[str, Any]]) -> str | None:
    """Why a cell that failed on its data would fail again: it lacks some, or what was mended makes another cell."""
    if failure_class(cell.view) != "data" or _moved(changes):
        return None
    try:
        identity.verify(load(cell.directory))
    except (UserError, OSError) as error:
        return one_line(error)
    return None


def _moved(changes: Sequence[tuple[str, Any]]) -> bool:
    return any(key.split(".")[0] in FINGERPRINTED for key, _ in changes)


# --- overriding ---------------------------------------------------------------------------------------------------


def _change(text: str) -> tuple[str, Any]:
    """One override, of what changes no result.

    Raises:
        ConfigError: it changes a result, or the place where the cell is found again.
    """
    key, value = parse_override(text)
    section = key.split(".")[0]
    inside = {name: field.metadata for name, field in fields().items() if f"{name}.".startswith(f"{key}.")}
    changing = [name for name, about in inside.items() if about.get("changes_result")]
    if changing:
        what = key if changing == [key] else f"{key} (with {changing[0]})"
        raise ConfigError(f"{text}: {what} changes the result, so it makes another cell; use `flanscale launch`")
    if section in PLACES:
        raise ConfigError(f"{text}: {section} says where the run is, and it stays there")
    return key, value


def _compose(cell: Seen, changes: Sequence[tuple[str, Any]], chosen: Iterable[str]) -> Cell | None:
    """The cell as its run directory keeps it, with the changes; None when this version has no such cell."""
    kept = load(cell.directory)
    trained, _, evaluation = cell.entry.id.partition(".")
    if identity.identity(kept) != trained:
        return None
    run = changed(kept, changes)
    if _moved(changes):
        run = identity.resolve(run)
        if identity.identity(run) != trained:
            told = " ".join(f"{key}={value}" for key, value in changes)
            raise ConfigError(f"{told}: other content than {cell.entry.run} was planned with")
    places = {"runs": str(cell.ledger.runs), "studies": str(cell.ledger.path.parent)}
    run.paths = replace(run.paths, **places)  # wherever this is typed
    parents = tuple(parent for parent in cell.entry.parents if parent in chosen)
    cost = replace(cost_of(run), steps=cell.entry.steps, flops=cell.entry.flops)
    return Cell(cell.entry.id, cell.entry.run, run, cost, parents, asks=trained if evaluation else None)


def changed(kept: RunConfig, changes: Sequence[tuple[str, Any]]) -> RunConfig:
    """A run's configuration with other values of some keys and groups, and the resources that follow from them.

    Raises:
        ConfigError: they make no cell that can be run.
    """
    chosen = {key: value for key, value in changes if key in GROUPS}
    composed = Composer().compose([f"{key}={value}" for key, value in chosen.items()])
    run = replace(kept, **{key: getattr(composed, key) for key in chosen})
    typed = {key: value for key, value in changes if key not in chosen}
    by_model = {
        model: {key: value for key, value in values.items() if f"cluster.{key}" not in typed}
        for model, values in run.cluster.by_model.items()
    }
    run.cluster = replace(run.cluster, by_model=by_model)
    document = OmegaConf.structured(run)
    for key, value in typed.items():
        assign(document, key, value)
    other = checked(document)
    other.cluster = _with_threads(run.cluster, other.cluster)
    other.cluster = resources_of(other)
    return other


def _with_threads(before: ClusterConfig, now: ClusterConfig) -> ClusterConfig:
    """Threads of libraries follow the cores where they did so before."""
    return replace(now, environment=now.environment | following(now.environment, before.cpus, now.cpus))


def part_of(ledger: Ledger, cells: Sequence[Cell], overrides: Sequence[str]) -> Plan:
    """The cells as a part of their study."""
    ids = {cell.id for cell in cells}
    axes: Mapping[str, tuple[Any, ...]] = {axis: tuple(values) for axis, values in ledger.axes.items()}
    study = Study(ledger.study, MappingProxyType(axes), title=ledger.title)
    points = tuple(point for point in ledger.points if point.cell in ids)
    return Plan(study, tuple(overrides), points, tuple(cells))


# --- carrying it out ----------------------------------------------------------------------------------------------


def carry_out(
    retry: Retry, console: Console, *, again: str, wait: bool | None, runner: str = RUNNER, report: Report | None = None
) -> int:
    """Launch what is to be started again; returns the worst exit code of `launch`, Slurm's cells first."""
    for cell in retry.again:
        _forgive(cell)
    plans = sorted(retry.plans, key=lambda pair: pair[1].clusters[0].name != "slurm")  # which returns at once
    codes = [
        launch(plan, console, again=again, wait=wait, runner=runner, report=report, retry=retry.classes, index=ledger)
        for ledger, plan in plans
    ]
    return max(codes, default=0)


def _forgive(cell: Seen) -> None:
    """Count its setbacks from nothing again."""
    with claim(cell.directory, patience=0) as mine:
        if mine and not look(cell.directory).alive:  # an attempt writes its record without asking
            write_state(cell.directory, replace(read_state(cell.directory), stalled=0))
