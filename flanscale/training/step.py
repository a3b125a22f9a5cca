"""What does one optimizer step do: loss, gradient, update, and the sums that the log is made of?

Dimensions: B rows of the global batch, T target positions, V vocabulary, M microbatches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from flanscale.models import Batch, Model, Params, batch_sharding, parameter_shardings
from flanscale.sizing.architecture import check_heads
from flanscale.training.optimizers import Optimizer


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sums:
    """What accumulates on the device between two rows of the log; part of the checkpoint, so that rows are too."""

    loss: Float[Array, ""]
    tokens: Float[Array, ""]  # target tokens, the loss's denominator
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]  # those that moved the parameters
    learning_rate: Float[Array, ""]  # of the last step


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    step: Int[Array, ""]
    params: Params
    optimizer: Any
    nonfinite_steps: Int[Array, ""]  # skipped, in a row, up to now
    sums: Sums


class Outcome(NamedTuple):
    """What the host looks at after every step."""

    skipped: Int[Array, ""]  # steps skipped in a row, this one included
    loss: Float[Array, ""]  # mean over the target tokens of this step


Step = Callable[[TrainState, Batch, Array], tuple[TrainState, Outcome]]


def zero_sums() -> Sums:
    zero: Any = np.zeros((), np.float32)
    return Sums(zero, zero, zero, zero.astype(np.int32), zero)


init_params = jax.jit(Model.init, static_argnums=0)  # jitted so that it is traced once, for shapes and values


def init_state(model: Model, optimizer: Optimizer, key: Array) -> TrainState:
    return first_state(optimizer, init_params(model, key))


def first_state(optimizer: Optimizer, params: Params) -> TrainState:
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, params, optimizer.direction.init(params), zero, jax.tree.map(jnp.asarray, zero_sums()))


def abstract_state(model: Model, optimizer: Optimizer, mesh: Mesh) -> Any:
    """A TrainState of shapes and shardings: moments lie as their parameters do, everything smaller is copied.

    Raises:
        ValueError: the mesh does not divide the model's heads.
    """
    check_heads(model.config, mesh.shape["tensor"])
    shapes = jax.eval_shape(partial(init_state, model, optimizer), jax.random.key(0))
    whole = NamedSharding(mesh, PartitionSpec())
    params = parameter_shardings(mesh, shapes.params, model.config.kv_heads)
    known = {
        _names(path): (leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree_util.tree_leaves_with_path(shapes.params), jax.tree.leaves(params), strict=True
        )
    }

    def of_moment(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        shape, sharding = known.get(_names(path), (None, whole))
        return sharding if leaf.shape == shape else whole

    moments = jax.tree_util.tree_map_with_path(of_moment, shapes.optimizer)
    shardings = dataclasses.replace(jax.tree.map(lambda _: whole, shapes), params=params, optimizer=moments)
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, shardings)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The parameter that a leaf belongs to: the keys of dictionaries along its path."""
    return tuple(part.key for part in path if isinstance(part, jax.tree_util.DictKey))


def shardings_of(abstract: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def build_step(model: Model, optimizer: Optimizer, abstract: Any, *, z_loss: float, microbatches: int = 1) -> Step:
    """The jitted step `(state, batch, key) → (state, outcome)`; the given state is used up.

    States are laid out as `abstract` says, batches by rows over its mesh.
    A step whose loss or gradient is not finite leaves parameters and optimizer as they were.
    """
    shardings, whole = shardings_of(abstract), abstract.step.sharding
    rows = batch_sharding(whole.mesh)
    gradient = partial(loss_and_gradient, model, shardings.params, rows, z_loss=z_loss, microbatches=microbatches)
    dropout = model.config.dropout > 0

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Outcome]:
        dropout_key = jax.random.fold_in(key, state.step) if dropout else None
        (loss, nll, tokens), gradients = gradient(state.params, batch, dropout_key)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        direction, moments = optimizer.direction.update(gradients, state.optimizer, state.params)
        rate = optimizer.rate(state.step)
        params = jax.tree.map(lambda p, d: p + rate * d, state.params, direction)
        sums = Sums(
            loss=state.sums.loss + nll,
            tokens=state.sums.tokens + tokens,
            gradient_norm=state.sums.gradient_norm + norm,
            steps=state.sums.steps + 1,
            learning_rate=rate,
        )

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        nonfinite = jnp.where(finite, 0, state.nonfinite_steps + 1)
        new = TrainState(
            step=state.step + 1,
            params=keep(params, state.params),
            optimizer=keep(moments, state.optimizer),
            nonfinite_steps=nonfinite,
            sums=keep(sums, state.sums),
        )
        return new, Outcome(nonfinite, nll / jnp.maximum(tokens, 1.0))

    return jax.jit(step, in_shardings=(shardings, rows, whole), out_shardings=(shardings, whole), donate_argnums=0)


def loss_and_gradient(
    model: Model,
    params_shardings: Any,
    rows: NamedSharding,
    params: Params,
    batch: Batch,
    dropout_key: Array | None,
    *,
    z_loss: float,
    microbatches: int,
) -> tuple[tuple[Array, Array, Array], Params]:
    """(objective, sum of negative log-likelihoods, target tokens) of a batch, and the objective's gradient.

    Every microbatch is divided by the tokens of the whole batch, so that the parts add up to the whole however
    unevenly their tokens lie; a mean of the parts' means would not.
    """
    weights = batch["decoder_loss_weights"]
    tokens = jnp.sum(weights)
    batch = batch | {"decoder_loss_weights": weights / jnp.maximum(tokens, 1.0)}

    def objective(params: Params, part: Batch, key: Array | None) -> tuple[Array, Array]:
        return loss_sums(model, params, part, key, z_loss)[:2]

    gradient = jax.value_and_grad(objective, has_aux=True)
    if microbatches == 1:
        (loss, nll), gradients = gradient(params, batch, dropout_key)
        return (loss, nll * tokens, tokens), gradients
    spread = NamedSharding(rows.mesh, PartitionSpec(None, *rows.spec))

    def split(x_BxT: Array) -> Array:
        """[M, B/M, T]; every device keeps its own rows, a part of them in each microbatch."""
        x_MxBxT = jnp.moveaxis(x_BxT.reshape(-1, microbatches, *x_BxT.shape[1:]), 1, 0)
        return jax.lax.with_sharding_constraint(x_MxBxT, spread)

    def add(sums: Any, xs: tuple[Batch, Array]) -> tuple[Any, None]:
        part, number = xs
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, number)
        return jax.tree.map(jnp.add, sums, gradient(params, part, key)), None

    zeros = jax.lax.with_sharding_constraint(jax.tree.map(jnp.zeros_like, params), params_shardings)
    parts = (jax.tree.map(split, batch), jnp.arange(microbatches))
    ((loss, nll), gradients), _ = jax.lax.scan(add, ((jnp.zeros(()), jnp.zeros(())), zeros), parts)
    return (loss, nll * tokens, tokens), gradients


def loss_sums(
    model: Model, params: Params, batch: Batch, dropout_key: Array | None, z_loss: float = 0.0
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Sums over the batch's weighted target tokens: -log p + z_loss · log²Z, -log p alone, and the weights themselves.

    Only the first passes a gradient on.
    """
    x_BxTxD = model.hidden(params, batch, dropout_key)
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    return *model.loss(params, x_BxTxD, targets, weights, z_loss), jnp.sum(weights)
