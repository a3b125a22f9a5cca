"""What does this cell's job ask for? The cluster's values, with those that `cluster.by_model` gives for its model."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flanscale.config.checks import check_value
from flanscale.config.places import group_files
from flanscale.errors import ConfigError, nearest, one_line
from flanscale.orchestration.running.sharing import following
from flanscale.schema import ClusterConfig, MeshConfig, RunConfig

FOR_ALL = ("name", "by_model", "evaluation", "notify")  # of the study, not of a model
PLATFORM = "JAX_PLATFORMS"


def resources_of(config: RunConfig) -> ClusterConfig:
    """The resources of one cell, `by_model` applied and emptied.

    A Slurm job that asks for GPUs must get them: it fails rather than train on the CPU.

    Raises:
        ConfigError: `by_model` has an unknown model, key or value; processes, GPUs and mesh do not fit together.
    """
    cluster = config.cluster
    for model, values in cluster.by_model.items():
        if _name_of(model) == config.model.name or model == config.model.name:
            cluster = changed(cluster, f"cluster.by_model.{model}", values)
    _check(cluster, config.trainer.mesh)
    environment = dict(cluster.environment)
    if cluster.name == "slurm" and cluster.gpus:
        environment.setdefault(PLATFORM, "cuda")
    return dataclasses.replace(cluster, by_model={}, environment=environment)


def rounds(cluster: ClusterConfig, cells: int) -> int:
    """How many of a job's cells run one after another: each may take `timeout_minutes`."""
    return math.ceil(cells / cluster.cells_at_once)


@cache
def _name_of(model: str) -> str:
    """What `conf/model/<model>.yaml` calls its model, or the name itself where it is one."""
    files = group_files("model")
    if model in files:
        return str(yaml.safe_load(files[model].read_text(encoding="utf-8")).get("name", model))
    names = {_name_of(stem) for stem in files}
    if model not in names:
        raise ConfigError(f"cluster.by_model.{model}: no such model{nearest(model, [*files, *names])}")
    return model


def changed(cluster: ClusterConfig, section: str, values: Any) -> ClusterConfig:
    """The cluster with other values of its keys, which are those of a section.

    Raises:
        ConfigError: an unknown key or a value that is not allowed.
    """
    known = {field.name: field for field in dataclasses.fields(cluster) if field.name not in FOR_ALL}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section}: expected keys of cluster with their values, got {values!r}; e.g. {{gpus: 4}}")
    merged = OmegaConf.structured(cluster)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{section}.{key}: not a resource of a cell{nearest(key, known)}")
        try:
            merged.merge_with({key: value})
        except OmegaConfBaseException as error:
            raise ConfigError(f"{section}.{key}={value}: {one_line(error)}") from error
        check_value(f"{section}.{key}", known[key].metadata, getattr(OmegaConf.to_object(merged), key))
    other = typing.cast(ClusterConfig, OmegaConf.to_object(merged))
    given = values.get("environment", {})
    threads = following(cluster.environment, cluster.cpus, other.cpus)
    other.environment |= {key: count for key, count in threads.items() if key not in given}
    return other


def _check(cluster: ClusterConfig, mesh: MeshConfig) -> None:
    gpus, tasks, nodes = cluster.gpus, cluster.tasks_per_node, cluster.nodes
    _check_several(cluster)
    if cluster.name != "slurm":
        if tasks > 1 or nodes > 1:
            raise ConfigError(
                f"cluster={cluster.name} runs a cell as one process, not cluster.nodes × cluster.tasks_per_node ="
                f" {nodes} × {tasks}: set both to 1, or use cluster=slurm"
            )
        return
    if gpus % tasks:
        raise ConfigError(
            f"cluster.tasks_per_node={tasks} with cluster.gpus={gpus}: the processes of a node share its GPUs equally;"
            f" set cluster.tasks_per_node to {gpus}, one of its divisors, or 1"
        )
    devices = mesh.data * mesh.fsdp * mesh.tensor
    if cluster.cells_at_once > 1 and gpus and devices != (own := max(1, gpus // cluster.cells_at_once)):
        raise ConfigError(
            f"trainer.mesh has {devices} devices, and each of cluster.cells_at_once={cluster.cells_at_once} cells on"
            f" cluster.gpus={gpus} has {own}: set one of the three"
        )
    if gpus and cluster.cells_at_once == 1 and devices != nodes * gpus:
        raise ConfigError(
            f"trainer.mesh has data × fsdp × tensor = {mesh.data} × {mesh.fsdp} × {mesh.tensor} = {devices} devices,"
            f" and the job cluster.nodes × cluster.gpus = {nodes} × {gpus} = {nodes * gpus}: {_fitting(cluster, mesh)}"
        )


def _check_several(cluster: ClusterConfig) -> None:
    """Raise `ConfigError` where several cells cannot share a job as asked."""
    many, together = cluster.cells_per_job, cluster.cells_at_once
    if cluster.name != "slurm" and (many > 1 or together > 1):
        raise ConfigError(
            f"cluster.cells_per_job={many} cluster.cells_at_once={together}: cluster={cluster.name} has no jobs;"
            " cluster.parallelism=N runs N cells at once"
        )
    if together > many:
        raise ConfigError(
            f"cluster.cells_at_once={together}: more than the cells of a job; set cluster.cells_per_job={together} too"
        )
    if many > 1 and (cluster.nodes > 1 or cluster.tasks_per_node > 1):
        raise ConfigError(
            f"cluster.cells_per_job={many}: its cells are one process each, and cluster.nodes={cluster.nodes},"
            f" cluster.tasks_per_node={cluster.tasks_per_node}; set these to 1, or cells_per_job"
        )
    if together > cluster.cpus:
        raise ConfigError(f"cluster.cells_at_once={together}: more than cluster.cpus={cluster.cpus}, which they share")
    if cluster.gpus and cluster.gpus % together and together % cluster.gpus:
        raise ConfigError(
            f"cluster.cells_at_once={together}: cluster.gpus={cluster.gpus} cannot be shared equally; let one be a"
            " multiple of the other"
        )


def _fitting(cluster: ClusterConfig, mesh: MeshConfig) -> str:
    """Which number to change: the mesh's copies where they can make up for it, else the GPUs."""
    wanted, shards = cluster.nodes * cluster.gpus, mesh.fsdp * mesh.tensor
    if wanted % shards == 0:
        return f"set trainer.mesh.data={wanted // shards}, or as many GPUs as the mesh has devices"
    devices = mesh.data * shards
    if devices % cluster.nodes == 0:
        return f"set cluster.gpus={devices // cluster.nodes}"
    return f"set cluster.nodes and cluster.gpus so that their product is {devices}"
