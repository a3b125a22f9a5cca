"""Fused attention does what the reference does: packed rows, windows, prefixes, relative bias, and all gradients.

cuDNN itself runs on GPUs alone. What surrounds it is tested here: JAX's function gets the same arguments, and computes
in plain XLA. Splash attention runs in Pallas' interpreter.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import model

from flanscale.models.attend import Attend, Cudnn, Reference, Splash, choose, prepare
from flanscale.models.masks import Mask
from flanscale.schema import ModelConfig

ROWS, LENGTH, WIDTH = 2, 12, 8
SEGMENTS = np.array([[1] * 5 + [2] * 4 + [3] * 2 + [0], [300] * 3 + [301] * 9], np.int32)  # numbers one bit apart
SOURCES = np.array([[1] * 6 + [2] * 3 + [3] * 3 + [0] * 2, [300] * 7 + [301] * 7], np.int32)


def config(**changes: Any) -> ModelConfig:
    return dataclasses.replace(model("decoder").config, head_dim=WIDTH, **changes)


def drawn(
    heads: int, keys: int, queries_at: int = LENGTH, keys_at: int = LENGTH, width: int = WIDTH
) -> list[jax.Array]:
    """Queries, keys, values and weights of the output."""
    rng = np.random.default_rng(0)
    shapes = [(ROWS, heads, queries_at, width), *[(ROWS, keys, keys_at, width)] * 2, (ROWS, heads, queries_at, width)]
    return [jnp.asarray(rng.normal(0, 1.5, shape), jnp.float32) for shape in shapes]


def value_and_gradients(attend: Callable[..., Attend], given: list[jax.Array], *bias: jax.Array) -> Any:
    *arguments, weights = given

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, *bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = attend(*bias)(q, k, v)
        return (y * weights).sum(), y

    names = tuple(range(3 + len(bias)))
    return jax.jit(jax.value_and_grad(loss, argnums=names, has_aux=True))(*arguments, *bias)


@pytest.fixture
def in_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's part done by XLA, with the same arguments."""
    real = jax.nn.dot_product_attention

    def stand_in(*arrays: Any, implementation: str, **rest: Any) -> jax.Array:
        assert implementation == "cudnn"
        return real(*arrays, implementation="xla", **rest)

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)


PACKED = Mask.packed(jnp.asarray(SEGMENTS), jnp.asarray(SEGMENTS), causal=True)
PREFIX = jnp.asarray([[1] * 3 + [0] * 2 + [1] * 2 + [0] * 5, [1] * 2 + [0] + [1] * 4 + [0] * 5], jnp.int32)
CASES = {
    "packed": (PACKED, {}),
    "window": (dataclasses.replace(PACKED, window=3), {"window": 3}),
    "window of some layers": (dataclasses.replace(PACKED, window=3), {"window": 3, "global_every": 2}),
    "prefix": (dataclasses.replace(PACKED, prefix=PREFIX), {"prefix_lm": True}),
    "one segment": (Mask(LENGTH, LENGTH, causal=True), {}),
}


@pytest.mark.usefixtures("in_xla")
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)], ids=["MHA", "GQA", "MQA"])
@pytest.mark.parametrize("name", CASES)
def test_cudnn_is_given_what_makes_it_the_reference(name: str, heads: tuple[int, int]) -> None:
    mask, changes = CASES[name]
    given = drawn(*heads)
    kernel = prepare("cudnn", config(**changes), mask)
    assert isinstance(kernel, Cudnn)
    same(value_and_gradients(lambda: kernel, given), value_and_gradients(lambda: prepare("xla", config(), mask), given))


@pytest.mark.usefixtures("in_xla")
@pytest.mark.parametrize("causal", [False, True])
def test_cudnn_adds_a_relative_bias_and_gives_its_gradient(causal: bool) -> None:
    mask = dataclasses.replace(PACKED, causal=causal)
    bias = jnp.asarray(np.random.default_rng(1).normal(0, 2, (1, 4, LENGTH, LENGTH)), jnp.float32)
    both = [
        value_and_gradients(lambda bias, name=name: prepare(name, config(), mask, bias), drawn(4, 4), bias)
        for name in ("cudnn", "xla")
    ]
    same(*both)


@pytest.mark.usefixtures("in_xla")
def test_cudnn_looks_across_at_the_sources_of_a_target() -> None:
    mask = Mask.packed(jnp.asarray(SEGMENTS), jnp.asarray(SOURCES))
    given = drawn(4, 4, keys_at=SOURCES.shape[1])
    same(*(value_and_gradients(lambda name=name: prepare(name, config(), mask), given) for name in ("cudnn", "xla")))


def same(ours: Any, theirs: Any) -> None:
    """Within what adding 16 · 32² to a float32 score loses; of padding no one asks."""
    real = (SEGMENTS > 0)[:, None, :, None]
    np.testing.assert_allclose(ours[0][1] * real, theirs[0][1] * real, atol=1e-2)
    for a, b in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-2 * float(jnp.abs(b).max()))


@pytest.mark.usefixtures("in_xla")
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)], ids=["MHA", "GQA", "MQA"])
@pytest.mark.parametrize("name", ["cudnn", "xla"])
def test_a_segment_is_the_same_to_the_bit_whatever_stands_beside_it(name: str, heads: tuple[int, int]) -> None:
    kernel = prepare(name, config(), PACKED)
    q, k, v, weights = drawn(*heads)
    other = jnp.asarray(np.array([[2], [300]]) == SEGMENTS)[:, None, :, None]  # one segment of each row
    weights = jnp.where(other, 0, weights)
    before = value_and_gradients(lambda: kernel, [q, k, v, weights])
    q, k, v = (jnp.where(other, 20 * x[:, :, ::-1], x) for x in (q, k, v))
    after = value_and_gradients(lambda: kernel, [q, k, v, weights])
    np.testing.assert_array_equal(jnp.where(other, 0, before[0][1]), jnp.where(other, 0, after[0][1]))
    for a, b in zip(before[1], after[1], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not jnp.where(other, b, 0).any()


@pytest.mark.parametrize("heads", [(2, 2), (2, 1)], ids=["MHA", "MQA"])
@pytest.mark.parametrize("changes", [{}, {"window": 40}, {"attention_cap": 5.0}], ids=["packed", "window", "cap"])
def test_splash_attention_is_the_reference(changes: dict[str, Any], heads: tuple[int, int]) -> None:
    ids = np.repeat([[1, 2, 3, 0], [1, 1, 2, 2]], 32, axis=1).astype(np.int32)
    segments = jnp.asarray(ids)
    mask = dataclasses.replace(Mask.packed(segments, segments, causal=True), window=changes.get("window"))
    given = drawn(*heads, 128, 128, width=64)
    kernel = prepare("splash", config(**changes), mask)
    assert isinstance(kernel, Splash)
    ours = value_and_gradients(lambda: dataclasses.replace(kernel, interpret=True), given)
    theirs = value_and_gradients(lambda: prepare("xla", config(**changes), mask), given)
    np.testing.assert_allclose(ours[0][1], theirs[0][1], atol=2e-3)
    for a, b in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * float(jnp.abs(b).max()))


# --- which one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "dtype", "changes", "expected"),
    [
        ("cpu", "bfloat16", {}, "xla"),
        ("gpu", "bfloat16", {}, "cudnn"),
        ("gpu", "float32", {}, "xla"),
        ("gpu", "bfloat16", {"head_dim": 256}, "xla"),
        ("gpu", "bfloat16", {"head_dim": 128}, "cudnn"),
        ("gpu", "bfloat16", {"attention_cap": 50.0}, "xla"),
        ("gpu", "bfloat16", {"attention": "xla"}, "xla"),
        ("tpu", "float32", {}, "splash"),
        ("tpu", "bfloat16", {"prefix_lm": True}, "xla"),
    ],
)
def test_a_platforms_fused_kernel_is_taken_where_it_can_serve(
    platform: str, dtype: str, changes: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And a line in the log says why it cannot."""
    with caplog.at_level(logging.WARNING):
        assert choose(dataclasses.replace(config(), **changes), dtype, platform) == expected
    refused = expected == "xla" and platform != "cpu" and "attention" not in changes
    assert ("attention: xla, several times slower" in caplog.text) == refused


def test_a_kernel_that_is_named_and_cannot_serve_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"model.attention=cudnn: cuDNN takes bfloat16, not trainer.precision=float32"):
        choose(config(attention="cudnn"), "float32", "gpu")
    encoder = dataclasses.replace(model("encoder_decoder").config, attention="splash")
    with pytest.raises(ValueError, match=r"model.attention=splash: splash attention has no relative bias"):
        choose(encoder, "bfloat16", "tpu")


def test_lengths_that_a_kernel_does_not_take_go_to_the_reference_and_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(prepare("splash", config(), Mask(100, 100, causal=True)), Reference)
        assert isinstance(prepare("cudnn", config(), Mask(7, 7), jnp.zeros((1, 4, 7, 7))), Reference)
    assert "attention: xla for 100 × 100 positions; splash takes multiples of 128" in caplog.text
    assert "attention: xla for 7 × 7 positions; cudnn takes multiples of 2" in caplog.text
