"""What would a launch start? Turns a study into points and distinct cells; `repeat.decide` says what about each.

Nothing here writes; `plan_study` reads no more than the configuration and the data that it fingerprints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flanscale import identity
from flanscale.config.checks import leaves
from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.cost import Cost, cost_of
from flanscale.orchestration.planning.grid import points
from flanscale.orchestration.planning.resources import resources_of
from flanscale.orchestration.planning.study import Parent, Study, point_overrides, stage_overrides, with_overrides
from flanscale.schema import ClusterConfig, PathsConfig, RunConfig


@dataclass(frozen=True)
class Cell:
    """One run to make: a resolved configuration with its identity."""

    id: str
    run: str  # name of the run directory
    config: RunConfig
    cost: Cost
    parents: tuple[str, ...] = ()  # ids of cells of the same plan that must be finished before it starts
    asks: str | None = None  # id of the cell whose model it evaluates, where that is all that it does


@dataclass(frozen=True)
class Point:
    """One place of the grid and the cell that answers for it; several points may share a cell."""

    axes: dict[str, Any]
    cell: str


@dataclass(frozen=True)
class Plan:
    """A study made concrete: its points, and the distinct cells in the order of the grid."""

    study: Study  # with the user's overrides in it
    overrides: tuple[str, ...]
    points: tuple[Point, ...]
    cells: tuple[Cell, ...]  # parents before their children
    stages: tuple[Point, ...] = ()  # cells that others start from, with the axes that they have inherited
    lacking: tuple[str, ...] = ()  # what is not here; where there is any, no identity is known yet

    @property
    def paths(self) -> PathsConfig:
        """Where all cells of the plan put their results."""
        return self.cells[0].config.paths

    @property
    def runs(self) -> Path:
        """The folder of run directories."""
        return Path(self.paths.runs).expanduser().absolute()

    @property
    def clusters(self) -> list[ClusterConfig]:
        """The distinct resource shapes of the cells."""
        return list({repr(cell.config.cluster): cell.config.cluster for cell in self.cells}.values())

    def directory(self, cell: Cell) -> Path:
        """The run directory of a cell."""
        return self.runs / cell.run


def plan_study(study: Study, overrides: Sequence[str], composer: Composer, *, insist: bool = True) -> Plan:
    """Compose every point of a study, as the user's overrides change it, and find the distinct cells.

    Args:
        insist: that all data is here; otherwise the plan says what is lacking.

    Raises:
        ConfigError: a wrong override, a cell that cannot be run, data that is not there.
    """
    asked = with_overrides(study, overrides)
    return plan_points(asked, overrides, points(asked.axes, asked.exclude), composer, insist=insist)


def plan_points(
    study: Study, overrides: Sequence[str], grid: Sequence[dict[str, Any]], composer: Composer, *, insist: bool = True
) -> Plan:
    """The plan of these points, each one value for every axis of the study.

    Raises:
        ConfigError: a cell that cannot be run, data that is not there, cells that cannot share one launch.
    """
    cells: dict[str, Cell] = {}
    stages: dict[str, Point] = {}
    lacking: list[str] | None = None if insist else []

    def keep(cell: Cell) -> Cell:
        _check_same(cells.setdefault(cell.id, cell).config, cell.config)
        return cells[cell.id]

    def stage_of(parent: Parent, axes: Mapping[str, Any]) -> Cell:
        inherited = {key: axes[key] for key in parent.inherit}
        known = repr((parent, inherited))
        if known not in stages:
            before = stage_of(parent.parent, inherited) if parent.parent else None
            cell = keep(make_cell(composer, stage_overrides(study, parent, inherited), study.name, before, lacking))
            if cell.config.trainer.steps == 0:
                raise ConfigError(f"parent: {cell.run} trains nothing that another cell could start from")
            stages[known] = Point(inherited, cell.id)
        return cells[stages[known].cell]

    plan = []
    for axes in grid:
        before = stage_of(study.parent, axes) if study.parent else None
        cell = keep(make_cell(composer, point_overrides(study, axes), study.name, before, lacking))
        plan.append(Point(axes, cell.id))
    told = tuple(dict.fromkeys(lacking or ()))
    return _checked(Plan(study, tuple(overrides), tuple(plan), tuple(cells.values()), tuple(stages.values()), told))


def make_cell(
    composer: Composer,
    overrides: Sequence[str],
    study: str | None = None,
    parent: Cell | None = None,
    lacking: list[str] | None = None,
) -> Cell:
    """Compose and resolve one cell, which starts from another one of the plan where that is given.

    Args:
        composer: what composes it.
        overrides: in Hydra's grammar.
        study: whose cell it is, by name.
        parent: the other one.
        lacking: see `identity.resolve`.
    """
    config = composer.compose(overrides)
    if parent:
        if config.init.hf or config.init.run:
            raise ConfigError("init.hf and init.run are for the first stage of a study with `parent`: set them there")
        config.init.run = str(Path(parent.config.paths.runs).expanduser().absolute() / parent.run)
    resolved = identity.resolve(config, parent.config if parent else None, lacking)
    resolved.tracker = replace(resolved.tracker, group=study or resolved.tracker.group)
    resolved.cluster = resources_of(resolved)
    own = identity.identity(resolved)
    run = f"{own}-{identity.slug(resolved)}"
    return Cell(own, run, resolved, cost_of(resolved), (parent.id,) if parent else ())


def _check_same(one: RunConfig, other: RunConfig) -> None:
    """Refuse to merge two points that somebody wanted told apart by a knob that no result depends on."""
    if one is other:
        return
    for (name, field, a), (_, _, b) in zip(leaves(one), leaves(other), strict=True):
        if a != b and not field.metadata["changes_result"]:
            raise ConfigError(f"{name}={a} and {name}={b}: it changes no result, so it cannot be an axis of a study")


def _checked(plan: Plan) -> Plan:
    """The plan itself, when its cells can share one launch."""
    if len({repr(cell.config.paths) for cell in plan.cells}) > 1:
        raise ConfigError("paths differ between the cells of one study; they must be the same for all")
    if len({cluster.name for cluster in plan.clusters}) > 1:
        raise ConfigError("cluster.name differs between the cells of one study; launch them as two studies")
    return plan
