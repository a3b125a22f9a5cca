"""Which of a cell's processes is this one? The environment says so, before JAX is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from flanscale.errors import ConfigError

BY_HAND = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@dataclass(frozen=True)
class Rank:
    """A process among those that run one cell together."""

    index: int
    count: int


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """This process's place, as given by hand, by srun or by a TPU pod; (0, 1) where it is alone.

    A batch script has its job's SLURM_NTASKS but is one process; only a step started by srun has the step's own number.

    Raises:
        ConfigError: given by hand, but not whole.
    """
    if started_by_hand(environment):
        return Rank(_number(environment, "JAX_PROCESS_ID"), _number(environment, "JAX_NUM_PROCESSES"))
    if (tasks := int(environment.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        return Rank(int(environment["SLURM_PROCID"]), tasks)
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    return Rank(_number(environment, "TPU_WORKER_ID"), len(hosts)) if len(hosts) > 1 else Rank(0, 1)


def started_by_hand(environment: Mapping[str, str]) -> bool:
    """Whether somebody has said where the others are: JAX_COORDINATOR_ADDRESS is host:port of process 0."""
    return "JAX_COORDINATOR_ADDRESS" in environment and "JAX_NUM_PROCESSES" in environment


def own_gpus(environment: Mapping[str, str]) -> list[int] | None:
    """This Slurm task's equal part of its node's GPUs, by their numbers there; None without GPUs.

    Raises:
        ConfigError: they do not divide among the node's tasks.
    """
    visible = [number for number in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if number]
    if not visible or "SLURM_LOCALID" not in environment or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    tasks = int(environment["SLURM_STEP_NUM_TASKS"]) // int(environment["SLURM_STEP_NUM_NODES"])
    if len(visible) % tasks:
        raise ConfigError(
            f"a node has {len(visible)} GPUs for {tasks} processes:"
            " let cluster.gpus be a multiple of cluster.tasks_per_node"
        )
    each, task = len(visible) // tasks, int(environment["SLURM_LOCALID"])
    return list(range(task * each, (task + 1) * each))


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except (KeyError, ValueError):
        given = f"{name}={environment[name]}" if name in environment else f"{name} is not set"
        raise ConfigError(f"{given}: each of several processes needs its own number there, from 0") from None
