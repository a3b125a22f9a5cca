"""Shared layers: what is written by hand for speed equals what it replaces."""

import jax
import numpy as np

from flanscale.models.layers import MASKED, project, softmax


def test_softmax_and_its_gradient_are_jaxs() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 4, 9)) * 5
    x = x.at[0, 0, 3:].add(MASKED).at[1].add(MASKED)  # partly and wholly masked rows
    weights = jax.random.normal(jax.random.key(1), x.shape)
    for function in (softmax, jax.nn.softmax):
        value, gradient = jax.value_and_grad(lambda y, f=function: (f(y) * weights).sum())(x)
        if function is softmax:
            ours = value, gradient
    np.testing.assert_allclose(ours[0], value, rtol=1e-6)
    np.testing.assert_allclose(ours[1], gradient, atol=1e-6)


def test_a_projection_of_any_leading_shape_is_a_matrix_product() -> None:
    x, kernel = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 3, 5), (5, 4)]))
    np.testing.assert_allclose(project(x, kernel), np.einsum("bti,io->bto", x, kernel), rtol=1e-5)
    np.testing.assert_allclose(project(x[0, 0], kernel), np.asarray(x[0, 0]) @ kernel, rtol=1e-5)
