"""Where does each array live on the mesh: which logical axis is split over which mesh axis?

A parameter's logical axes follow from its name, an activation's are written where it is made; one dataclass maps
both to the mesh axes (data, fsdp, tensor).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flanscale.errors import ConfigError
from flanscale.schema import MeshConfig

logger = logging.getLogger(__name__)

MeshAxes = str | tuple[str, ...] | None

# Logical axes of every parameter, by the last part of its path; a stack of layers has one more in front, kept whole.
PARAMETER_AXES: dict[str, tuple[str | None, ...]] = {
    "embedding": ("vocab", "embed"),
    "head": ("embed", "vocab"),
    "query": ("embed", "heads"),
    "key": ("embed", "kv_heads"),
    "value": ("embed", "kv_heads"),
    "out": ("heads", "embed"),
    "query_bias": ("heads",),
    "key_bias": ("kv_heads",),
    "value_bias": ("kv_heads",),
    "out_bias": (None,),
    "gate": ("embed", "ff"),
    "up": ("embed", "ff"),
    "down": ("ff", "embed"),
    "gate_bias": ("ff",),
    "up_bias": ("ff",),
    "down_bias": (None,),
    "scale": (None,),
    "bias": (None,),
    "relative_bias": (None, "heads"),
}


@dataclass(frozen=True)
class ShardingRules:
    """The mesh axes that each logical axis is split over; None leaves it whole."""

    batch: MeshAxes = ("data", "fsdp")
    embed: MeshAxes = "fsdp"
    heads: MeshAxes = "tensor"
    kv_heads: MeshAxes = "tensor"  # every device has them all where they do not divide
    ff: MeshAxes = "tensor"
    vocab: MeshAxes = "tensor"

    def spec(self, axes: Iterable[str | None]) -> PartitionSpec:
        """The PartitionSpec of an array with these logical axes.

        Raises:
            ValueError: two of the logical axes would be split over one mesh axis.
        """
        axes = tuple(axes)
        entries = tuple(None if axis is None else getattr(self, axis) for axis in axes)
        used = [name for entry in entries for name in ((entry,) if isinstance(entry, str) else entry or ())]
        repeated = sorted({name for name in used if used.count(name) > 1})
        if repeated:
            raise ValueError(
                f"the logical axes {axes} split over the mesh axis {repeated[0]!r} twice: change ShardingRules"
            )
        return PartitionSpec(*entries)


RULES = ShardingRules()


def build_mesh(config: MeshConfig) -> Mesh:
    """A (data, fsdp, tensor) mesh over the first devices of the process.

    Raises:
        ConfigError: there are fewer devices than the mesh needs.
    """
    shape = (config.data, config.fsdp, config.tensor)
    needed, devices = math.prod(shape), jax.devices()
    if len(devices) < needed:
        raise ConfigError(
            f"trainer.mesh is {config.data}×{config.fsdp}×{config.tensor} and needs {needed} devices, "
            f"but this job has {len(devices)}: lower trainer.mesh.* or ask for more devices"
        )
    # JAX's default, Explicit axes, rejects plain gathers.
    return jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3, devices=devices[:needed])


def parameter_shardings(mesh: Mesh, params: Any, kv_heads: int, rules: ShardingRules = RULES) -> Any:
    """The NamedSharding of every leaf of a parameter tree (arrays or their shapes), by its name.

    Heads are never cut: keys and values of `kv_heads` heads that the mesh does not divide are whole on every device.
    """
    if kv_heads % parts_of(rules.kv_heads, mesh.shape):
        rules = replace(rules, kv_heads=None)

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        axes = PARAMETER_AXES[path[-1].key]
        spec = rules.spec((None,) * (leaf.ndim - len(axes)) + axes)
        return NamedSharding(mesh, divisible(spec, leaf.shape, mesh.shape, jax.tree_util.keystr(path)))

    return jax.tree_util.tree_map_with_path(sharding, params)


def batch_sharding(mesh: Mesh, rules: ShardingRules = RULES) -> NamedSharding:
    """The sharding of an array whose first axis is the batch row."""
    return NamedSharding(mesh, rules.spec(("batch",)))


def row_shards(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Tells the partitioner how an activation is split; does nothing outside `jax.set_mesh`."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, divisible(RULES.spec(axes), x.shape, mesh.shape))


def divisible(
    spec: PartitionSpec, shape: tuple[int, ...], parts: Mapping[str, int], name: str | None = None
) -> PartitionSpec:
    """The spec without the splits that do not come out even, which XLA refuses; those of a name are reported."""
    entries: list[MeshAxes] = []
    for entry, size in zip(spec, shape, strict=False):
        if size % parts_of(entry, parts):
            if name:
                text = "%s of shape %s is not split over %s: %d is not a multiple of %d"
                logger.warning(text, name, shape, entry, size, parts_of(entry, parts))
            entry = None
        entries.append(entry)
    return PartitionSpec(*entries)


def parts_of(entry: MeshAxes, parts: Mapping[str, int]) -> int:
    """Into how many parts those mesh axes split."""
    return math.prod(parts[axis] for axis in ((entry,) if isinstance(entry, str) else entry or ()))
