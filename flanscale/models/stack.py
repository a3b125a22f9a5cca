"""How is one layer repeated? Its parameters carry a leading layer axis N; the layers run in a scan or one by one.

The tree is that of `nn.scan` with `variable_axes={"params": 0}`, and is the same however the layers run: `model.scan`
and `model.remat` are choices of a job, not of a checkpoint. It is made here by hand because generation must be able to
take the layers apart once, before its loop: XLA slices them anew for every token otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array

from flanscale.schema import ModelConfig

LAYERS = "layers"  # the name in a parameter tree under which everything has the layer axis

Layers = Any  # a tree of arrays [N, ...], or Apart
Step = Callable[[Array, Any], tuple[Array, Any]]  # (x, one layer's part of everything) → (x, what the layer gives)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Apart:
    """One tree for each layer."""

    layers: tuple[Any, ...]


_SAVED = {"dots": ("attention", "feed_forward"), "attention": ("attention",), "full": ()}  # names of products


def _policy(remat: str) -> Callable[..., Any]:
    """Whether a value is kept: products of these names, and what a fused attention gives beside its output."""
    names = _SAVED[remat]
    named = jax.checkpoint_policies.save_only_these_names(*names)

    def keep(primitive: Any, *avals: Any, **params: Any) -> Any:
        return ("attention" in names and "attention_fwd" in primitive.name) or named(primitive, *avals, **params)

    return keep


def stacked_params(parent: nn.Module, block: nn.Module, count: int, *example: Any) -> Layers:
    """The parameters of `count` blocks, each initialised from a key of its own on an example of its arguments."""
    if not parent.is_initializing():
        return parent.get_variable("params", LAYERS)

    def init(key: Array) -> Layers:
        return jax.vmap(lambda own: block.init(own, *example)["params"])(jax.random.split(key, count))

    return parent.param(LAYERS, init)


def run_layers(step: Step, x: Array, parts: tuple[Layers, ...], config: ModelConfig) -> tuple[Array, Layers]:
    """Carries `x` through all layers; gives it with what every layer gave, stacked under a scan and else apart.

    `step` gets a layer's number and its share of each of `parts`.
    """
    if config.remat in _SAVED:
        step = jax.checkpoint(step, policy=_policy(config.remat), prevent_cse=not config.scan)
    count = config.n_layers
    if config.scan:
        return jax.lax.scan(step, x, (np.arange(count), *parts))
    given = []
    apart = [part if isinstance(part, Apart) else take_apart(part, count) for part in parts]
    for own in zip(range(count), *(part.layers for part in apart), strict=True):
        x, out = step(x, own)
        given.append(out)
    return x, Apart(tuple(given))


def take_apart(stack: Layers, count: int) -> Apart:
    """The layers of a stack. The gradient is put together in one go, not as a sum of padded pieces."""
    leaves, form = jax.tree.flatten(stack)
    pieces = [[piece[0] for piece in jax.lax.split(leaf, (1,) * count)] for leaf in leaves]
    return Apart(tuple(jax.tree.unflatten(form, [leaf[i] for leaf in pieces]) for i in range(count)))


def params_apart(params: dict[str, Any], count: int) -> dict[str, Any]:
    """A parameter tree whose stacks of layers are taken apart."""
    return {
        name: take_apart(value, count)
        if name == LAYERS
        else params_apart(value, count)
        if isinstance(value, dict)
        else value
        for name, value in params.items()
    }
