"""How far are the vocabulary's logits from the targets? Cross-entropy, with its gradient computed in the same go.

The logits of a batch are its largest array. They are made for a stretch of positions at a time and their gradient with
them, so that none are kept, and none made twice.

Dimensions: B rows, T positions, M positions of a stretch, D model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from flanscale.models.products import matmul, sum_of_rows, transposed
from flanscale.models.sharding import PARAMETER_AXES, RULES, divisible, parts_of


@dataclass(frozen=True)
class Head:
    """How hidden states become logits: cap · tanh(x table · scale / cap), or without a cap x table · scale."""

    tied: bool  # the table is that of the embeddings, [V, D]; otherwise [D, V]
    scale: float
    cap: float | None

    def logits(self, products: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        """From float32 products of hidden states and the table."""
        y = products if self.scale == 1 else products * self.scale
        return y if self.cap is None else self.cap * jnp.tanh(y / self.cap)


class _Stretch(NamedTuple):
    x: Float[Array, "*B D"]
    targets: Int[Array, "*B"]
    weights: Float[Array, "*B"]


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def cross_entropy(
    x: Float[Array, "B T D"],
    table: Float[Array, "V D"] | Float[Array, "D V"],
    targets: Int[Array, "B T"],
    weights: Float[Array, "B T"],
    head: Head,
    z_loss: float,
    stretches: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sums over weighted targets: of -log p + z_loss · log²Z, and of -log p alone, which passes no gradient on.

    Args:
        stretches: of T, one at a time; they must divide it.
    """
    given, narrow = _Stretch(x, targets, weights), table.astype(x.dtype)
    if stretches == 1:
        return _values(given, narrow, head, z_loss)[:2]
    found = jax.lax.map(lambda part: _values(part, narrow, head, z_loss)[:2], _split(given, stretches))
    return jnp.sum(found[0]), jnp.sum(found[1])


def _forward(
    x: Array, table: Array, targets: Array, weights: Array, head: Head, z_loss: float, stretches: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    given, narrow = _Stretch(x, targets, weights), table.astype(x.dtype)
    own = partial(_of_all_stretches, head=head, z_loss=z_loss, stretches=stretches)
    mesh = jax.sharding.get_abstract_mesh()
    whole_vocabulary = not mesh.empty and 1 < mesh.size == parts_of(RULES.batch, mesh.shape)
    if whole_vocabulary and len(x) % mesh.size == 0:
        objective, nll, dx, dtable = _on_every_device(own, given, narrow, head, mesh)
    else:
        objective, nll, dx, dtable = own(given, narrow)
    return (objective, nll), (dx, dtable)


def _on_every_device(own: Any, given: _Stretch, table: Array, head: Head, mesh: Any) -> tuple[Array, ...]:
    """Each device does its own rows; the table is gathered once and its gradient summed once, not for every stretch."""
    (split,) = RULES.spec(("batch",))
    axes = divisible(RULES.spec(PARAMETER_AXES["embedding" if head.tied else "head"]), table.shape, mesh.shape)

    def local(given: _Stretch, table: Array) -> tuple[Array, ...]:
        objective, nll, dx, dtable = own(given, table)
        for axis in split:
            if axis in axes:
                dtable = jax.lax.psum_scatter(dtable, axis, scatter_dimension=list(axes).index(axis), tiled=True)
            else:
                dtable = jax.lax.psum(dtable, axis)
        return jax.lax.psum(objective, split), jax.lax.psum(nll, split), dx, dtable

    rows, whole = PartitionSpec(split), PartitionSpec()
    given_as, made_as = (rows, whole), (whole, whole, rows, axes)
    return jax.shard_map(local, mesh=mesh, in_specs=given_as, out_specs=made_as, check_vma=False)(given, table)


def _of_all_stretches(
    given: _Stretch, table: Array, *, head: Head, z_loss: float, stretches: int
) -> tuple[Array, Array, Array, Array]:
    """(objective, -log p, gradient by x, gradient by the table), the last in float32."""
    if stretches == 1:
        return _with_gradients(given, table, head, z_loss)

    def add(sums: Any, part: _Stretch) -> tuple[Any, Array]:
        objective, nll, dx, dtable = _with_gradients(part, table, head, z_loss)
        return jax.tree.map(jnp.add, sums, (objective, nll, dtable)), dx

    zero = jnp.zeros(())
    start = (zero, zero, jnp.zeros(table.shape, jnp.float32))
    (objective, nll, dtable), dx = jax.lax.scan(add, start, _split(given, stretches))
    return objective, nll, jnp.moveaxis(dx, 0, 1).reshape(given.x.shape), dtable


def _backward(
    head: Head, z_loss: float, stretches: int, kept: tuple[Array, Array], gradients: tuple[Array, Array]
) -> tuple[Array, Array, None, None]:
    (dx, dtable), (upstream, _) = kept, gradients
    return (dx * upstream).astype(dx.dtype), dtable * upstream, None, None


cross_entropy.defvjp(_forward, _backward)


def _split(given: _Stretch, stretches: int) -> _Stretch:
    """[B, T, …] → [stretches, B, T / stretches, …]: positions are split because rows may lie on several devices."""
    return _Stretch(*(jnp.moveaxis(a.reshape(len(a), stretches, -1, *a.shape[2:]), 1, 0) for a in given))


class _Softmax(NamedTuple):
    logits: Float[Array, "M V"]
    e: Float[Array, "M V"]  # of the logits, the largest of a row taken away
    total: Float[Array, "M 1"]  # of e
    log_z: Float[Array, "M 1"]


def _values(part: _Stretch, table: Array, head: Head, z_loss: float) -> tuple[Array, Array, _Softmax]:
    """(objective, -log p) of a stretch."""
    x, weights = part.x.reshape(-1, part.x.shape[-1]), part.weights.reshape(-1, 1)
    logits = head.logits(matmul(x, transposed(table) if head.tied else table, jnp.float32))
    most = jnp.max(logits, axis=-1, keepdims=True)
    e = jnp.exp(logits - most)
    total = sum_of_rows(e)
    log_z = jnp.log(total) + most
    chosen = jnp.take_along_axis(logits, part.targets.reshape(-1, 1), axis=-1)
    nll = jnp.sum((log_z - chosen) * weights)
    return nll + z_loss * jnp.sum(log_z**2 * weights), nll, _Softmax(logits, e, total, log_z)


def _with_gradients(part: _Stretch, table: Array, head: Head, z_loss: float) -> tuple[Array, Array, Array, Array]:
    """(objective, -log p) of a stretch, and the objective's gradients by x and by the table, in float32."""
    objective, nll, (logits, e, total, log_z) = _values(part, table, head, z_loss)
    weights, targets = part.weights.reshape(-1, 1), part.targets.reshape(-1, 1)
    hit = jax.lax.broadcasted_iota(targets.dtype, logits.shape, 1) == targets
    slope = e * (weights * (1 + 2 * z_loss * log_z) / total) - jnp.where(hit, weights, 0)
    if head.cap is not None:
        slope = slope * (1 - (logits / head.cap) ** 2)
    slope = (slope * head.scale).astype(part.x.dtype)
    x = part.x.reshape(-1, part.x.shape[-1])
    dx = matmul(slope, table if head.tied else transposed(table), x.dtype).reshape(part.x.shape)
    dtable = matmul(transposed(slope), x, jnp.float32) if head.tied else matmul(transposed(x), slope, jnp.float32)
    return objective, nll, dx, dtable
