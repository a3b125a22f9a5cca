"""Which evaluations of a plan's cells are jobs of their own? Each is a cell in the run directory of the one it asks."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence

from flanscale.evaluation.opening import evaluation_name, suite_of
from flanscale.orchestration.planning.cost import Cost, rows_of_embedding
from flanscale.orchestration.planning.plan import Cell, Plan
from flanscale.orchestration.planning.resources import changed
from flanscale.run_directory import EVALUATIONS, read_result, read_state
from flanscale.schema import ClusterConfig, MeshConfig, RunConfig
from flanscale.sizing.flops import parameter_count


def with_evaluations(plan: Plan) -> Plan:
    """The plan with a cell for every evaluation that a job of its own has to do.

    That is so where `cluster.evaluation` says it, and where the cell that is to be asked has ended without this suite.
    """
    added = [evaluation_of(cell) for cell in plan.cells if cell.config.evaluation.asks and _apart(plan, cell)]
    return dataclasses.replace(plan, cells=(*plan.cells, *added))


def evaluations_of(plan: Plan, cells: Sequence[Cell]) -> Plan:
    """The plan of these cells' evaluations alone."""
    return dataclasses.replace(plan, cells=tuple(evaluation_of(cell, parents=()) for cell in cells))


def _apart(plan: Plan, cell: Cell) -> bool:
    if cell.config.cluster.evaluation is not None:
        return True
    directory = plan.directory(cell)
    if read_state(directory).state != "finished":
        return False  # it evaluates itself
    return read_result(directory / EVALUATIONS / evaluation_name(cell.config)) is None


def evaluation_of(cell: Cell, parents: tuple[str, ...] | None = None) -> Cell:
    """The evaluation that a cell's configuration asks for; it waits for the cell itself, or for these.

    Raises:
        ConfigError: the resources of its job do not fit together.
    """
    config = copy.deepcopy(cell.config)
    config.cluster = _resources(config)
    config.trainer.mesh = _mesh(config)
    name = evaluation_name(config)
    run = f"{cell.run}/{EVALUATIONS}/{name}"
    before = (cell.id,) if parents is None else parents
    return Cell(f"{cell.id}.{name}", run, config, _cost(config), before, asks=cell.id)


def _resources(config: RunConfig) -> ClusterConfig:
    given = config.cluster.evaluation or {}
    cluster = changed(config.cluster, "cluster.evaluation", given) if given else config.cluster
    return dataclasses.replace(cluster, evaluation=None)


def _mesh(config: RunConfig) -> MeshConfig:
    """The run's own where the job has as many devices, else copies of the model on all of them."""
    mesh, cluster = config.trainer.mesh, config.cluster
    devices = cluster.nodes * cluster.gpus if cluster.gpus else cluster.nodes * cluster.tasks_per_node
    if cluster.name != "slurm" or devices == math.prod((mesh.data, mesh.fsdp, mesh.tensor)):
        return mesh
    return MeshConfig(data=devices)


def _cost(config: RunConfig) -> Cost:
    """Operations of reading every prompt once and writing as many tokens as allowed: at most what it takes."""
    rows = rows_of_embedding(config)
    parameters = parameter_count(config.model, rows)
    suite, several = suite_of(config), config.evaluation.checkpoint == "suite" and config.trainer.steps > 0
    models = config.trainer.keep_checkpoints if several else 1
    tokens = models * suite.tokens
    return Cost(models * suite.items, tokens, parameters, 2.0 * parameters * tokens)
