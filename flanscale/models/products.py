"""How are activations and kernels multiplied, forwards and backwards?

All products take their operands in the precision of the activations and add up in float32. XLA's own derivative would
round a kernel's gradient to that precision before it is made float32 again, and on a CPU it would run the transposed
products of bfloat16 in float32, at half of the speed or a seventh (AMX).

Dimensions: M rows of activations, I width in, O width out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float


def project(
    x: Float[Array, "*B I"],
    kernel: Float[Array, "I O"],
    *,
    bias: Float[Array, " O"] | None = None,
    dtype: Any = None,
    name: str = "",
) -> Float[Array, "*B O"]:
    """The product in the precision of `x`, given in `dtype`; the kernel's gradient is float32, as the kernel is.

    A name lets `model.remat` speak of the product.
    """
    y = checkpoint_name(_product(x, kernel, jnp.dtype(dtype or x.dtype)), name)
    return y if bias is None else y + bias.astype(y.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: Float[Array, "*B I"], kernel: Float[Array, "I O"], dtype: Any) -> Float[Array, "*B O"]:
    return _product_forward(x, kernel, dtype)[0]


def _product_forward(x: Array, kernel: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    return matmul(_flat(x), kernel.astype(x.dtype), dtype).reshape(*x.shape[:-1], -1), (x, kernel)


def _product_backward(dtype: Any, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    g = _flat(gradient).astype(x.dtype)
    dx = matmul(g, transposed(kernel.astype(x.dtype)), x.dtype)
    return dx.reshape(x.shape), matmul(transposed(_flat(x)), g, kernel.dtype)


def _flat(x: Float[Array, "*B I"]) -> Float[Array, "M I"]:
    """A kernel's gradient then contracts one axis, which XLA's CPU backend runs three times faster than two."""
    return x.reshape(-1, x.shape[-1])


_product.defvjp(_product_forward, _product_backward)


def matmul(a: Float[Array, "M I"], b: Float[Array, "I O"], dtype: Any) -> Float[Array, "M O"]:
    """The product, added up in float32 and given in `dtype`."""

    def wide(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, preferred_element_type=jnp.float32).astype(dtype)

    def narrow(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, preferred_element_type=dtype)

    return wide(a, b) if dtype == jnp.float32 else jax.lax.platform_dependent(a, b, cpu=wide, default=narrow)


def transposed(a: Float[Array, "*B M I"]) -> Float[Array, "*B I M"]:
    """The last two axes exchanged, `row_by_row`."""
    return row_by_row(jnp.swapaxes(a, -1, -2))


def sum_of_rows(a: Float[Array, "*B M I"]) -> Float[Array, "*B M 1"]:
    """The sum over the last axis, on a CPU a product with ones: XLA would compute `a` a second time for the sum alone,
    slowly where it is an exponential.
    """

    def product(a: Array) -> Array:
        return jnp.matmul(a, jnp.ones((a.shape[-1], 1), a.dtype), preferred_element_type=a.dtype)

    return jax.lax.platform_dependent(a, cpu=product, default=partial(jnp.sum, axis=-1, keepdims=True))


def row_by_row(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same; bfloat16 on a CPU lies in memory as its axes are ordered.

    YNNPACK multiplies bfloat16 only where both operands lie so; XLA makes them float32 otherwise.
    """
    several = jax.sharding.get_abstract_mesh().size > 1  # the partitioner would gather what a layout is asked of
    if a.dtype != jnp.bfloat16 or several:
        return a
    laid = partial(with_layout_constraint, layouts=Layout(major_to_minor=tuple(range(a.ndim))))
    return jax.lax.platform_dependent(a, cpu=laid, default=lambda a: a)
