"""Which weights are these, and are they numbers? By sums that do not depend on how a mesh splits them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt

from flanscale.errors import NonFiniteWeights
from flanscale.models import Params

ODD = 2654435761  # multiplies places, so that tensors with the same numbers in another order differ


def fingerprint(params: Params) -> str:
    """Sixteen hexadecimal characters over the names, sizes, types and bits of all parameters.

    Raises:
        NonFiniteWeights: one of them is no finite number.
    """
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(params), strict=True)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    sums, finite = jax.device_get(_read(leaves))
    if broken := [name for name, good in zip(names, finite, strict=True) if not good]:
        more = f" (and {len(broken) - 1} other tensors)" if len(broken) > 1 else ""
        raise NonFiniteWeights(f"the weights hold numbers that are not finite, in {broken[0]}{more}: nothing is asked")
    digest = hashlib.sha256()
    for name, leaf, own in zip(names, leaves, sums, strict=True):
        digest.update(f"{name} {leaf.shape} {leaf.dtype} {own.tolist()}\n".encode())
    return digest.hexdigest()[:16]


@jax.jit
def _read(leaves: Sequence[Array]) -> tuple[list[UInt[Array, "2"]], list[Bool[Array, ""]]]:
    return [_sums(leaf) for leaf in leaves], [jnp.all(jnp.isfinite(leaf)) for leaf in leaves]


def _sums(leaf: Array) -> UInt[Array, "2"]:
    """The sum of all bit patterns, and that of each times a number that its place decides, modulo 2³²."""
    kind = {2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, kind).astype(jnp.uint32)
    place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for axis in reversed(range(leaf.ndim)):
        place = place + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= leaf.shape[axis]
    weighted = (bits + jnp.uint32(1)) * (place * jnp.uint32(ODD) + jnp.uint32(1))
    return jnp.stack([jnp.sum(bits, dtype=jnp.uint32), jnp.sum(weighted, dtype=jnp.uint32)])
