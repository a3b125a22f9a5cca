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
from jaxtyping import Array, Float, Int

from flanscale.models.products import matmul, sum_of_rows, transposed


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
    if stretches == 1:
        objective, nll, dx, dtable = _with_gradients(given, narrow, head, z_loss)
        return (objective, nll), (dx, dtable)

    def add(sums: Any, part: _Stretch) -> tuple[Any, Array]:
        objective, nll, dx, dtable = _with_gradients(part, narrow, head, z_loss)
        return jax.tree.map(jnp.add, sums, (objective, nll, dtable)), dx

    zero = jnp.zeros(())
    (objective, nll, dtable), dx = jax.lax.scan(add, (zero, zero, jnp.zeros_like(table)), _split(given, stretches))
    return (objective, nll), (jnp.moveaxis(dx, 0, 1).reshape(x.shape), dtable)


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
