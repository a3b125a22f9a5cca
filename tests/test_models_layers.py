"""Shared layers: what is written by hand for speed equals what it replaces."""

import jax
import numpy as np

from flanscale.models.products import project, sum_of_rows


def test_a_projection_of_any_leading_shape_is_a_matrix_product() -> None:
    x, kernel = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 3, 5), (5, 4)]))
    np.testing.assert_allclose(project(x, kernel), np.einsum("bti,io->bto", x, kernel), rtol=1e-5)
    np.testing.assert_allclose(project(x[0, 0], kernel), np.asarray(x[0, 0]) @ kernel, rtol=1e-5)


def test_the_sum_of_rows_is_that_of_the_definition_and_passes_on_what_is_not_finite() -> None:
    a = np.array(jax.random.normal(jax.random.key(0), (2, 3, 1000)))
    np.testing.assert_allclose(sum_of_rows(a), a.sum(axis=-1, keepdims=True, dtype=np.float64), rtol=0, atol=1e-4)
    for lost in (np.nan, np.inf):
        a[1, 2, 7] = lost
        assert np.isfinite(sum_of_rows(a)).sum() == 5
