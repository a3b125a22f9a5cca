"""How do several processes train one model? They join before any device is touched, and each feeds its own rows.

Every process runs the same program on the same global arrays; what it holds of them is what lies on its own devices.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flanscale.errors import ConfigError
from flanscale.models import Batch, batch_sharding
from flanscale.processes import own_gpus, started_by_hand, this_rank
from flanscale.training.metrics import Size

COLLECTIVE_ERRORS = (jax.errors.JaxRuntimeError, ValueError)  # the latter where JAX finds out as it dispatches
LOST = ("Gloo", "NCCL", "UNAVAILABLE")  # what is in a collective's error when a process is gone


def join(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes of this job, if there are any. Call it before anything touches a device.

    They are found by what starts them: `srun` (see `flanscale.processes`), a TPU pod, or by hand.

    Raises:
        ConfigError: the devices do not divide among the processes of a node.
        JaxRuntimeError: the others do not come.
    """
    rank = this_rank(environment)
    if rank.count == 1 or jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from our own handler
    if started_by_hand(environment):
        jax.distributed.initialize(
            environment["JAX_COORDINATOR_ADDRESS"],
            num_processes=rank.count,
            process_id=rank.index,
            cluster_detection_method="deactivate",
        )
    else:
        jax.distributed.initialize(local_device_ids=own_gpus(environment))


@contextmanager
def together(agreed: type[BaseException]) -> Iterator[None]:
    """After an error in this block, this process waits for no other when it exits: they may be waiting for it.

    JAX lets every process wait for all others before it exits, for five minutes.

    Args:
        agreed: what all processes raise at the same moment; they do leave together.

    Raises:
        JaxRuntimeError: UNAVAILABLE, in place of what a collective says when a process is gone.
    """
    try:
        yield
    except agreed:
        raise
    except BaseException as error:
        if jax.distributed.is_initialized():
            atexit.register(os._exit, 1)  # runs before what JAX has registered
            if isinstance(error, COLLECTIVE_ERRORS) and any(word in str(error) for word in LOST):
                said = str(error).split("\n", 1)[0]
                raise jax.errors.JaxRuntimeError(
                    f"UNAVAILABLE: another process of this cell is gone; its log.<rank>.txt may tell why ({said})"
                ) from error
        raise


def host_of(mesh: Mesh, rows: int) -> tuple[int, int]:
    """(index, count): the equal part of a global batch of so many rows that this process's devices hold.

    Processes that hold the same rows, because a model is split between them, have the same part.

    Raises:
        ConfigError: the rows of this process are not one such part, or a process has no device of the mesh.
    """
    if jax.process_count() == 1:
        return 0, 1
    if len({device.process_index for device in mesh.devices.flat}) < jax.process_count():
        raise ConfigError(
            f"trainer.mesh {dict(mesh.shape)} leaves processes without work: their product must be the"
            f" {jax.device_count()} devices of this cell's {jax.process_count()} processes"
        )
    places = batch_sharding(mesh).devices_indices_map((rows,))
    held = {places[device][0].indices(rows)[:2] for device in mesh.local_devices}
    first, end = min(start for start, _ in held), max(stop for _, stop in held)
    count = rows // (end - first)
    if (
        sum(stop - start for start, stop in held) != end - first
        or first % (end - first)
        or count * (end - first) != rows
    ):
        raise ConfigError(
            f"trainer.mesh {dict(mesh.shape)} gives process {jax.process_index()} of {jax.process_count()} the rows "
            f"{sorted(held)} of {rows}, which are not one equal part: let data × fsdp be a multiple of the processes"
        )
    return first // (end - first), count


def place(sharding: NamedSharding, batch: dict[str, Any]) -> Batch:
    """A global batch on the devices, from the rows of this process."""
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def total(parts: int, size: Size) -> Size:
    """The sum over all processes, of which several may feed the same one of so many parts of a batch."""
    if jax.process_count() == 1:
        return size
    everywhere = multihost_utils.process_allgather(np.asarray(size)).sum(axis=0)
    return Size(*(int(count) * parts // jax.process_count() for count in everywhere))


class AnyProcess:
    """Whether any process of the job wants something. Asked at every step, it answers as of the step before.

    So nobody waits for the slowest host, and all hear the same answer at the same step. Alone, it answers at once.
    """

    def __init__(self, mesh: Mesh, mine: Callable[[], bool]) -> None:
        self._mine, self._asked = mine, None
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._any = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._devices = len(mesh.local_devices)

    def __call__(self) -> bool:
        if jax.process_count() == 1:
            return self._mine()
        before, wanted = self._asked, np.full(self._devices, self._mine())
        self._asked = self._any(jax.make_array_from_process_local_data(self._sharding, wanted))
        return before is not None and bool(before)
