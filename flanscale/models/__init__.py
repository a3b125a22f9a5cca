"""Models: JAX functions from parameters and packed rows to logits."""

from flanscale.models.model import Batch, Model, Params, build_model
from flanscale.models.sharding import ShardingRules, batch_sharding, build_mesh, parameter_shardings

__all__ = [
    "Batch",
    "Model",
    "Params",
    "ShardingRules",
    "batch_sharding",
    "build_mesh",
    "build_model",
    "parameter_shardings",
]
