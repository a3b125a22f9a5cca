"""What has a cell of the job that it shares? Its part of the cores, and GPUs of its own or a part of one's memory.

Worked out when the cell starts, so that its configuration keeps what was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from flanscale.schema import ClusterConfig

THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # follow cluster.cpus where conf/ sets them to it
GPU_MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION"
GPU_LISTS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def environment_of(cluster: ClusterConfig) -> dict[str, str]:
    """The environment of one of `cells_at_once` cells, to be set before JAX is imported, which reads it once."""
    environment, together = dict(cluster.environment), cluster.cells_at_once
    if together > 1:
        environment |= following(environment, cluster.cpus, cluster.cpus // together)
    if together > cluster.gpus > 0:
        whole = float(environment.get(GPU_MEMORY, "0.9"))
        environment[GPU_MEMORY] = f"{whole * cluster.gpus / together:.3f}"
    return environment


def following(environment: Mapping[str, str], before: int, now: int) -> dict[str, str]:
    """Threads of libraries that are as many as the cores were, for so many cores now."""
    return {key: str(now) for key in THREADS if environment.get(key) == str(before)}


def visible_gpus(environment: Mapping[str, str], slot: int, slots: int) -> dict[str, str]:
    """The GPUs of one of several cells side by side: its own where there are enough, else one that some share."""
    found = {}
    for name in GPU_LISTS:
        gpus = [number for number in environment.get(name, "").split(",") if number]
        if gpus:
            each = len(gpus) // slots
            mine = gpus[slot * each : (slot + 1) * each] if each else [gpus[slot % len(gpus)]]
            found[name] = ",".join(mine)
    return found
