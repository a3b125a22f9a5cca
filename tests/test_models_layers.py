"""Shared layers: what is written by hand for speed equals what it replaces."""

import jax
import numpy as np

from flanscale.models.layers import project


def test_a_projection_of_any_leading_shape_is_a_matrix_product() -> None:
    x, kernel = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 3, 5), (5, 4)]))
    np.testing.assert_allclose(project(x, kernel), np.einsum("bti,io->bto", x, kernel), rtol=1e-5)
    np.testing.assert_allclose(project(x[0, 0], kernel), np.asarray(x[0, 0]) @ kernel, rtol=1e-5)
