"""What memory does the compiler itself plan for a training step? Compiled ahead, for devices that need not exist.

A program for `flanscale plan --compile`, which imports no JAX: one JSON object on standard input, one on standard
output. The caller sets JAX_PLATFORMS=cpu and, in XLA_FLAGS, as many host devices as the mesh has. Nothing is allocated:
parameters and rows are shapes. With libtpu installed, a TPU's own compiler plans for a slice that is nowhere near, and
with JAX's CUDA plug-in XLA and ptxas do so for GPUs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from flanscale.models import Model, batch_sharding, build_mesh, build_model
from flanscale.schema import MeshConfig, ModelConfig, OptimizerConfig, TrainerConfig
from flanscale.training.footprint import abstract_rows
from flanscale.training.gpu_targets import TARGETS
from flanscale.training.optimizers import build_optimizer
from flanscale.training.step import abstract_state, build_step

# What libtpu would ask a TPU host for, and wait for; and several may compile at once.
NO_HOST = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def compiled_memory(
    model: ModelConfig,
    vocab_size: int,
    optimizer: OptimizerConfig,
    trainer: TrainerConfig,
    topology: str | None = None,
) -> dict[str, float]:
    """Bytes on each device of the compiled step, and the seconds that compiling took.

    `arguments`: the state and the rows; `output`: the new state, of which `alias` bytes lie where the old one was;
    `temporary`: everything in between.

    Args:
        topology: of a TPU slice, such as v4:8x8x8, or of GPUs by partitions × hosts × GPUs, such as h100:1x2x8;
            None compiles for the devices of this process.
    """
    mesh = slice_mesh(trainer.mesh, topology) if topology else build_mesh(trainer.mesh)
    made = build_model(model, vocab_size, trainer.precision, mesh.devices.flat[0].platform)
    began = time.perf_counter()
    taken = lowered_step(made, optimizer, trainer, mesh).compile().memory_analysis()
    return {
        "arguments": taken.argument_size_in_bytes,
        "output": taken.output_size_in_bytes,
        "alias": taken.alias_size_in_bytes,
        "temporary": taken.temp_size_in_bytes,
        "seconds": time.perf_counter() - began,
    }


def lowered_step(model: Model, optimizer: OptimizerConfig, trainer: TrainerConfig, mesh: Mesh) -> Any:
    """The training step of shapes on a mesh, ready to be compiled."""
    rule = build_optimizer(optimizer, max(trainer.steps, 1))
    state, key = abstract_state(model, rule, mesh), jax.eval_shape(lambda: jax.random.key(0))
    with jax.set_mesh(mesh):
        step: Any = build_step(model, rule, state, z_loss=trainer.z_loss, microbatches=trainer.microbatches)
        return step.lower(state, placed_rows(model, trainer, mesh), key)


def placed_rows(model: Model, trainer: TrainerConfig, mesh: Mesh) -> dict[str, Any]:
    """The shapes of a batch, split over the mesh."""
    rows, split = abstract_rows(trainer, model.config, trainer.batch_rows), batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split) for name, x in rows.items()}


def slice_mesh(config: MeshConfig, topology: str) -> Mesh:
    """A mesh over the first chips of a TPU slice, or the first GPUs of some hosts, that need not exist.

    Needs libtpu, or JAX's CUDA plug-in.
    """
    from jax.experimental import topologies

    name, _, sides = topology.partition(":")
    if name in TARGETS:
        described = topologies.get_topology_desc(platform="cuda", target_config=TARGETS[name], topology=sides)
    else:
        os.environ.update(NO_HOST)
        whole = {"chip_config_name": "megacore"} if name in ("v4", "v5p") else {}  # a chip is one device
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **whole)
    found = described.devices
    shape = (config.data, config.fsdp, config.tensor)
    devices: Any = np.array(found[: int(np.prod(shape))]).reshape(shape)
    return Mesh(devices, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def main() -> None:
    given: dict[str, Any] = json.load(sys.stdin)
    trainer = TrainerConfig(**{**given["trainer"], "mesh": MeshConfig(**given["trainer"]["mesh"])})
    model, optimizer = ModelConfig(**given["model"]), OptimizerConfig(**given["optimizer"])
    json.dump(compiled_memory(model, given["vocab_size"], optimizer, trainer, given["topology"]), sys.stdout)


if __name__ == "__main__":
    main()
