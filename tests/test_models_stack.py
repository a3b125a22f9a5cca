"""Stacked layers: one tree, and one result, whether they run in a scan or one by one, remembered or computed again."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from families import DECODERS, moved
from tiny import ARCHITECTURES, SortingBatches, initial, model, trainer

from flanscale.models import Params
from flanscale.models.stack import Apart, params_apart, take_apart
from flanscale.training.step import loss_sums

SIZES = {"decoder": {"n_heads": 4, "head_dim": 4, **DECODERS["gemma2"]}, "encoder_decoder": {"tie_embeddings": False}}


def gradient(architecture: str, **changes: Any) -> tuple[Callable[..., Any], Params]:
    """The loss's gradient under dropout, as a function of the parameters, and those to begin with."""
    tiny = model(architecture, dropout=0.2, **SIZES[architecture], **changes)
    batch = next(SortingBatches(architecture, trainer(batch_rows=2, input_tokens=8, target_tokens=8)))
    return jax.value_and_grad(lambda p: loss_sums(tiny, p, batch, jax.random.key(1))[0]), moved(tiny)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def by_loop(request: pytest.FixtureRequest) -> tuple[str, Params, Any]:
    """Layers one by one, everything remembered."""
    ask, params = gradient(request.param)
    return request.param, params, jax.jit(ask)(params)


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(True, "dots"), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((False, "full"), (True, "none")))],
)
def test_neither_a_scan_nor_computing_again_changes_the_loss_or_its_gradient(
    by_loop: tuple[str, Params, Any], scan: bool, remat: str
) -> None:
    architecture, params, (value, gradients) = by_loop
    same, others = jax.jit(gradient(architecture, scan=scan, remat=remat)[0])(params)
    assert float(value) == pytest.approx(float(same), rel=1e-6)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * np.abs(a).max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_scan_starts_from_the_same_bits(architecture: str) -> None:
    tiny, scanned = (model(architecture, scan=scan) for scan in (False, True))
    jax.tree.map(np.testing.assert_array_equal, initial(tiny), initial(scanned))


def test_products_of_kernels_are_kept_under_dots_and_not_under_full() -> None:
    """Seen by the products of the backward pass: full makes those of the forward pass again."""

    def products(remat: str) -> int:
        again, params = gradient("decoder", remat=remat)
        return jax.jit(again).lower(params).as_text().count("stablehlo.dot_general")

    none, dots, full = (products(remat) for remat in ("none", "dots", "full"))
    assert none < dots < full


def test_layers_are_initialised_differently() -> None:
    kernels = np.asarray(initial(model("decoder"))["layers"]["feed_forward"]["up"])
    assert kernels.shape == (2, 16, 24)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


def test_a_stack_taken_apart_is_its_layers_and_its_gradient_is_stacked() -> None:
    stack = {"a": np.arange(6.0).reshape(3, 2), "b": np.arange(3.0)}
    layers = take_apart(stack, 3).layers
    np.testing.assert_array_equal(layers[2]["a"], [4, 5])
    assert float(layers[1]["b"]) == 1
    gradients = jax.grad(lambda s: sum((i + 1) * x["a"].sum() for i, x in enumerate(take_apart(s, 3).layers)))(stack)
    np.testing.assert_array_equal(gradients["a"], [[1, 1], [2, 2], [3, 3]])


def test_every_stack_of_a_tree_is_taken_apart() -> None:
    params = params_apart(initial(model("encoder_decoder")), 2)
    assert isinstance(params["encoder"]["layers"], Apart)
    assert isinstance(params["decoder"]["layers"], Apart)
    assert params["vocabulary"]["embedding"].ndim == 2
