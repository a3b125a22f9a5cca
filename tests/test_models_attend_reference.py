"""Attention written by hand for speed equals attention by definition, and so do its gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanscale.models.attend import Reference
from flanscale.models.masks import MASKED


def by_definition(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray, weights: np.ndarray
) -> tuple[float, tuple[np.ndarray, ...]]:
    """(sum of weights × attention, its gradients), by the chain rule in NumPy; rows wholly masked are float32's."""
    scores = ((q @ np.swapaxes(k, -1, -2)) + bias).astype(np.float64)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    dp = weights @ np.swapaxes(v, -1, -2)
    dscores = p * (dp - (dp * p).sum(axis=-1, keepdims=True))
    shared = tuple(axis for axis in range(4) if bias.shape[axis] == 1)
    dbias = dscores.sum(axis=shared, keepdims=True)
    dk, dv = np.swapaxes(dscores, -1, -2) @ q, np.swapaxes(p, -1, -2) @ weights
    return float((p @ v * weights).sum()), (dscores @ k, dk, dv, dbias)


def drawn(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 3, shape).astype(np.float32) for shape in shapes]


def case(bias_shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Queries, keys, values and a bias of that shape, with rows partly and wholly masked."""
    q, k, v, bias = drawn((3, 2, 5, 4), (3, 2, 7, 4), (3, 2, 7, 4), bias_shape)
    bias[0, 0, 0, 2:] += np.float32(MASKED)
    bias[-1, 0, -1] += np.float32(MASKED)
    return q, k, v, bias


@jax.jit
def value_and_gradients(arguments: list[tuple[np.ndarray, ...]], weights: np.ndarray) -> list[Any]:
    """Of each case, in one program."""
    loss = jax.value_and_grad(lambda q, k, v, bias: (Reference(bias)(q, k, v) * weights).sum(), argnums=(0, 1, 2, 3))
    return [loss(*each) for each in arguments]


def test_attention_and_all_its_gradients_are_those_of_the_definition() -> None:
    """Whatever dimensions the bias shares."""
    arguments = [case(shape) for shape in [(3, 2, 5, 7), (1, 2, 5, 7), (3, 1, 5, 7), (3, 1, 1, 7)]]
    (weights,) = drawn((3, 2, 5, 4))
    for given, (value, gradients) in zip(arguments, value_and_gradients(arguments, weights), strict=True):
        expected, expected_gradients = by_definition(*given, weights)
        assert float(value) == pytest.approx(expected, rel=1e-5)
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_in_bfloat16_the_softmax_stays_exact() -> None:
    """Scores near 100 differ by less than bfloat16 resolves; their softmax must not."""
    q = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
    bias = jnp.array([100.0, 100.1]).reshape(1, 1, 1, 2)
    v = jnp.array([[1.0] * 4, [0.0] * 4], jnp.bfloat16).reshape(1, 1, 2, 4)
    weight = Reference(bias)(q, jnp.zeros((1, 1, 2, 4), jnp.bfloat16), v)
    assert weight.dtype == jnp.bfloat16
    np.testing.assert_allclose(weight.astype(jnp.float32), 1 / (1 + np.exp(0.1)), rtol=1e-2)
