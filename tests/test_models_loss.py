"""Cross-entropy with its gradient in one go equals what differentiation of its definition gives."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from test_training_step import equations

from flanscale.models.loss import Head, cross_entropy
from flanscale.models.products import project

ROWS, LENGTH, WIDTH, VOCAB = 2, 8, 6, 11
HEADS = {
    "tied": Head(tied=True, scale=1.0, cap=None),
    "tied and scaled": Head(tied=True, scale=WIDTH**-0.5, cap=None),
    "untied": Head(tied=False, scale=1.0, cap=None),
    "capped": Head(tied=False, scale=1.0, cap=2.0),
}


def given(head: Head) -> tuple[jax.Array, ...]:
    """Hidden states, table, targets, and weights of which some are zero."""
    rng = np.random.default_rng(0)
    shape = (VOCAB, WIDTH) if head.tied else (WIDTH, VOCAB)
    x, table = rng.normal(0, 1, (ROWS, LENGTH, WIDTH)), rng.normal(0, 1, shape)
    weights = rng.integers(0, 3, (ROWS, LENGTH)) / 7
    targets = rng.integers(0, VOCAB, (ROWS, LENGTH))
    return *(jnp.asarray(a, jnp.float32) for a in (x, table)), jnp.asarray(targets), jnp.asarray(weights, jnp.float32)


def by_definition(head: Head, z_loss: float, x: Any, table: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
    logits = (x @ (table.T if head.tied else table)) * head.scale
    if head.cap is not None:
        logits = head.cap * jnp.tanh(logits / head.cap)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
    nll = -(log_p * weights).sum()
    return nll + z_loss * (jax.nn.logsumexp(logits, axis=-1) ** 2 * weights).sum(), nll


@pytest.mark.parametrize("stretches", [1, 4])
@pytest.mark.parametrize("name", HEADS)
def test_the_loss_and_its_gradients_are_those_of_the_definition(name: str, stretches: int) -> None:
    head, z_loss = HEADS[name], 0.3
    x, table, targets, weights = given(head)

    def ours(x: Any, table: Any) -> tuple[Any, Any]:
        objective, nll = cross_entropy(x, table, targets, weights, head, z_loss, stretches)
        return 3 * objective, nll  # as far as what follows asks

    def theirs(x: Any, table: Any) -> tuple[Any, Any]:
        objective, nll = by_definition(head, z_loss, x, table, targets, weights)
        return 3 * objective, nll

    found, expected = (jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True))(x, table) for f in (ours, theirs))
    assert float(found[0][0]) == pytest.approx(float(expected[0][0]), rel=1e-5)
    assert float(found[0][1]) == pytest.approx(float(expected[0][1]), rel=1e-5)
    alone = cross_entropy(x, table, targets, weights, head, z_loss, stretches)
    assert float(alone[0]) == pytest.approx(float(found[0][0]) / 3, rel=1e-6)
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_in_bfloat16_logits_and_the_tables_gradient_stay_float32() -> None:
    """Logits rounded to bfloat16 would be a hundredth off near 4."""
    head = HEADS["tied"]
    x, table, targets, weights = given(head)
    exact = jax.grad(lambda t: by_definition(head, 0.0, x, t, targets, weights)[0])(table)
    narrow = x.astype(jnp.bfloat16)
    found = jax.grad(lambda t: cross_entropy(narrow, t, targets, weights, head, 0.0, 1)[0])(table)
    assert found.dtype == jnp.float32
    assert (found != found.astype(jnp.bfloat16).astype(jnp.float32)).any()
    np.testing.assert_allclose(found, exact, atol=2e-2 * float(jnp.abs(exact).max()))
    value, _ = by_definition(head, 0.0, narrow.astype(jnp.float32), table.astype(jnp.bfloat16).astype(jnp.float32),
                             targets, weights)  # fmt: skip
    ours, _ = cross_entropy(narrow, table, targets, weights, head, 0.0, 1)
    assert float(ours) == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_product_and_its_gradients_add_up_in_float32(dtype: Any) -> None:
    """And a kernel's gradient is not rounded on its way."""
    rng = np.random.default_rng(0)
    x, kernel, upstream = (rng.normal(size=shape) for shape in ((3, 40, 16), (16, 24), (3, 40, 24)))
    narrow = [np.asarray(jnp.asarray(a, dtype), np.float64) for a in (x, kernel, upstream)]

    def loss(x: Any, kernel: Any) -> Any:
        return (project(x, kernel).astype(jnp.float32) * jnp.asarray(upstream, dtype)).sum()

    dx, dkernel = jax.jit(jax.grad(loss, (0, 1)))(jnp.asarray(x, dtype), jnp.asarray(kernel, jnp.float32))
    assert (dx.dtype, dkernel.dtype) == (dtype, jnp.float32)
    np.testing.assert_allclose(dkernel, np.einsum("bti,bto->io", narrow[0], narrow[2]), rtol=1e-4, atol=1e-4)
    close = 1e-5 if dtype == jnp.float32 else 2e-2
    np.testing.assert_allclose(np.asarray(dx, np.float64), narrow[2] @ narrow[1].T, atol=close * 10)


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_several_devices_sum_the_gradient_of_the_table_once_and_not_for_every_stretch(name: str) -> None:
    head = HEADS[name]
    of = jax.ShapeDtypeStruct
    x, table = of((8, LENGTH, 8), jnp.float32), of((16, 8) if head.tied else (8, 16), jnp.float32)
    targets, weights = (of((8, LENGTH), kind) for kind in (jnp.int32, jnp.float32))
    mesh = AbstractMesh((2, 4, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    loss = jax.grad(lambda x, table, *rest: cross_entropy(x, table, *rest, head, 0.0, 4)[0], (0, 1))
    with jax.sharding.use_abstract_mesh(mesh):
        program = jax.make_jaxpr(loss)(x, table, targets, weights)
    (mapped,) = (e for e in program.eqns if e.primitive.name == "shard_map")
    own = mapped.params["jaxpr"]
    (scan,) = (e for e in own.eqns if e.primitive.name == "scan")
    assert scan.params["length"] == 4
    of_table = [e for e in exchanges(own) if e.invars[0].aval.ndim == 2]
    assert [e.primitive.name for e in of_table].count("reduce_scatter") == 1
    summed = [axis for e in of_table for axis in e.params.get("axes") or e.params["axis_name"]]
    assert sorted(summed) == ["data", "fsdp"]
    assert not exchanges(scan.params["jaxpr"].jaxpr)


def exchanges(program: Any) -> list[Any]:
    """What devices do together in it."""
    return [e for e in equations(program) if re.match("psum|reduce_scatter|all_", e.primitive.name)]
