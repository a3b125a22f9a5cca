"""In which direction, and how far, does a gradient move the parameters?

The rate is kept apart from the direction: the training step multiplies them, so that the logged rate is the one used
and a skipped step does not shift the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from flanscale.models.stack import LAYERS
from flanscale.schema import OptimizerConfig

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


class Optimizer(NamedTuple):
    direction: optax.GradientTransformation  # gives the step for a rate of 1, downhill
    rate: Schedule  # of the number of steps taken


def build_optimizer(config: OptimizerConfig, steps: int) -> Optimizer:
    """The optimizer of a run of `steps` steps."""
    clip = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    decay = [optax.add_decayed_weights(config.weight_decay)] if config.weight_decay else []
    return Optimizer(optax.chain(*clip, _rule(config), *decay, optax.scale(-1.0)), schedule(config, steps))


def _rule(config: OptimizerConfig) -> optax.GradientTransformation:
    if config.name == "adafactor":
        return adafactor(config.decay_rate)
    adam = optax.scale_by_adam(config.b1, config.b2)
    return muon(adam) if config.name == "muon" else adam


def adafactor(decay_rate: float) -> optax.GradientTransformation:
    """Adafactor without momentum, relative to each parameter's root mean square (arXiv:1804.04235, Algorithm 5).

    T5X's settings: ε₁ = 1e-30, ε₂ = 1e-3, clipping at 1, factored where both sides are at least 128.
    """
    return for_each_layer(
        optax.chain(
            optax.scale_by_factored_rms(decay_rate=decay_rate, epsilon=1e-30, min_dim_size_to_factor=128),
            optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms(1e-3),
        )
    )


def muon(adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Muon for the kernels of layers, Adam for the rest: tables, norms and biases (arXiv:2502.16982, Algorithm 1).

    A kernel's step is its momentum made orthogonal, times 0.2 √(longer side): then its root mean square is that of
    Adam's steps, and one rate serves both (§2.2).
    """

    def is_kernel(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: _in_stack(path) and leaf.ndim == 3, params)

    def is_other(params: Any) -> Any:
        return jax.tree.map(lambda kernel: not kernel, is_kernel(params))

    def axes(kernels: Any) -> Any:
        return jax.tree.map(lambda _: MuonDimensionNumbers(reduction_axis=1, output_axis=2), kernels)

    def rescaled(kernels: Any, params: Any) -> Any:
        return jax.tree.map(lambda kernel: 0.2 * math.sqrt(max(kernel.shape[1:])) * kernel, kernels)

    orthogonal = optax.chain(scale_by_muon(weight_dimension_numbers=axes), optax.stateless(rescaled))
    return optax.chain(optax.masked(orthogonal, is_kernel), optax.masked(adam, is_other))


class StackedState(NamedTuple):
    layers: Any  # every leaf with the layer axis in front; None where there are no stacks
    rest: Any


def for_each_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """The rule with every layer of a stack as a parameter of its own, as T5X's `FactorDim.BATCH`.

    Without it, statistics that run over a whole parameter would run over all layers together.
    """

    def init(params: Any) -> StackedState:
        layers, rest = _parted(params)
        return StackedState(jax.vmap(rule.init)(layers) if jax.tree.leaves(layers) else None, rule.init(rest))

    def update(updates: Any, state: StackedState, params: Any) -> tuple[Any, StackedState]:
        (layers, rest), (layer_params, rest_params) = _parted(updates), _parted(params)
        rest, rest_state = rule.update(rest, state.rest, rest_params)
        layer_state = None
        if jax.tree.leaves(layers):
            layers, layer_state = jax.vmap(rule.update)(layers, state.layers, layer_params)
        joined = jax.tree.map(lambda a, b: b if a is None else a, layers, rest, is_leaf=lambda leaf: leaf is None)
        return joined, StackedState(layer_state, rest_state)

    return optax.GradientTransformation(init, update)


def _parted(tree: Any) -> tuple[Any, Any]:
    """The tree twice, with None where a leaf does not belong: stacks of layers, and everything else."""

    def part(wanted: bool) -> Any:
        def keep(path: tuple[Any, ...], leaf: Any) -> Any:
            return leaf if _in_stack(path) is wanted else None

        return jax.tree_util.tree_map_with_path(keep, tree)

    return part(True), part(False)


def _in_stack(path: tuple[Any, ...]) -> bool:
    return any(getattr(key, "key", None) == LAYERS for key in path)


def schedule(config: OptimizerConfig, steps: int) -> Schedule:
    """Linear warm-up, then constant or a cosine that reaches zero at `steps`."""

    def rate(step: Int[Array, ""]) -> Float[Array, ""]:
        done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        shape = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1))) if config.schedule == "cosine" else 1.0
        warmup = jnp.minimum(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        return jnp.asarray(config.learning_rate * shape * warmup, jnp.float32)

    return rate
