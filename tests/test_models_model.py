"""Models: what may influence what, packed or not, cached or not."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import moved
from tiny import ARCHITECTURES, VOCAB, examples, logits, model, model_config, packed, shapes

from flanscale.models import Batch, Model, Params, build_model

BOTH = pytest.mark.parametrize("architecture", ARCHITECTURES)


def influence(architecture: str, batch: dict[str, np.ndarray], position: int) -> np.ndarray:
    """Per token of the vocabulary: how much its embedding changes the logits of row 0 at a position."""
    tiny = model(architecture, tie_embeddings=False)
    return np.abs(np.asarray(embedding_gradient(tiny, moved(tiny), batch, int(position)))).max(axis=1)


@partial(jax.jit, static_argnums=0)
def embedding_gradient(tiny: Model, params: Params, batch: Batch, position: int) -> jax.Array:
    weights = jax.random.normal(jax.random.key(1), (VOCAB,))  # logits summed up evenly would hide changes
    gradient = jax.grad(lambda p: tiny.apply(p, batch)[0, position] @ weights)(params)
    return gradient["vocabulary"]["embedding"]


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32_of_every_target_position(architecture: str, dtype: str) -> None:
    batch, tiny = packed(architecture, [[5, 6, 7]], [[8, 9]]), model(architecture, dtype)
    result = jax.eval_shape(tiny.apply, shapes(tiny), batch)
    assert result.shape == (*batch["decoder_target_tokens"].shape, VOCAB)
    assert result.dtype == jnp.float32


@pytest.mark.slow
@BOTH
def test_bfloat16_activations_stay_near_float32(architecture: str) -> None:
    batch = packed(architecture, *examples(np.random.default_rng(0), 3))
    params = moved(model(architecture))
    exact, rounded = (logits(model(architecture, dtype), params, batch) for dtype in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - rounded).max() < 0.15
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@BOTH
def test_no_position_sees_a_later_target(architecture: str) -> None:
    batch = packed(architecture, [[2, 3, 4]], [[10, 11, 12, 13]])
    first = 3 if architecture == "decoder" else 0  # the position that predicts token 10
    for seen in range(4):
        effect = influence(architecture, batch, first + seen)
        assert (effect[10 : 10 + seen] > 0).all(), "earlier targets and inputs matter"
        assert (effect[[2, 3, 4]] > 0).all()
        assert (effect[10 + seen : 14] == 0).all(), "the token to predict and those after it do not"


@BOTH
def test_no_segment_sees_another(architecture: str) -> None:
    batch = packed(architecture, [[2, 3], [12, 13, 14]], [[4, 5], [15, 16]])
    assert len(batch["decoder_positions"]) == 1
    first, second = (np.flatnonzero(batch["decoder_segment_ids"][0] == segment)[-1] for segment in (1, 2))
    in_first, in_second = influence(architecture, batch, first), influence(architecture, batch, second)
    assert (in_first[2:6] > 0).all()
    assert (in_first[12:] == 0).all()
    assert (in_second[12:17] > 0).all()
    assert (in_second[2:12] == 0).all()


def nll_per_example(architecture: str, inputs: list, targets: list, width: int) -> list[float]:
    tiny = model(architecture)
    rows = packed(architecture, inputs, targets, width)
    result = logits(tiny, moved(tiny, 3), rows).astype(np.float64)
    log_p = result - np.log(np.exp(result).sum(axis=-1, keepdims=True))
    nll = -np.take_along_axis(log_p, rows["decoder_target_tokens"][..., None], -1)[..., 0]
    losses = {}
    for row, segment in zip(*np.nonzero(np.diff(rows["decoder_segment_ids"], prepend=0, axis=1)), strict=True):
        number = rows["decoder_segment_ids"][row, segment]
        if number:
            at = rows["decoder_segment_ids"][row] == number
            losses[row, number] = float((nll * rows["decoder_loss_weights"])[row, at].sum())
    return list(losses.values())


@BOTH
def test_an_example_has_the_same_loss_packed_and_alone(architecture: str) -> None:
    inputs, targets = examples(np.random.default_rng(1), 5)
    together = nll_per_example(architecture, inputs, targets, width=40)
    alone = [nll_per_example(architecture, [x], [y], width=40)[0] for x, y in zip(inputs, targets, strict=True)]
    assert len(together) == 5
    np.testing.assert_allclose(together, alone, rtol=2e-6)


@BOTH
def test_padding_changes_nothing(architecture: str) -> None:
    inputs, targets = examples(np.random.default_rng(2), 2)
    np.testing.assert_allclose(
        nll_per_example(architecture, inputs, targets, width=16),
        nll_per_example(architecture, inputs, targets, width=40),
        rtol=2e-6,
    )


def test_rotary_positions_matter_only_as_differences() -> None:
    tiny = model("decoder")
    params = moved(tiny)
    batch = packed("decoder", [[5, 6, 7, 8, 9]], [[8, 9]])
    shifted = batch | {"decoder_positions": batch["decoder_positions"] + 3}
    backwards = batch | {"decoder_positions": batch["decoder_positions"][:, ::-1]}
    real = batch["decoder_segment_ids"] > 0
    results = [logits(tiny, params, b)[real] for b in (batch, shifted, backwards)]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    assert np.abs(results[0] - results[2]).max() > 1e-2


@BOTH
def test_dropout_depends_on_its_key_and_is_off_without_one(architecture: str) -> None:
    tiny = model(architecture, dropout=0.3, n_layers=1)
    params = moved(tiny)
    batch = packed(architecture, *examples(np.random.default_rng(0), 2))
    plain, first, again, second = (
        logits(tiny, params, batch, key) for key in (None, jax.random.key(1), jax.random.key(1), jax.random.key(2))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-2
    np.testing.assert_array_equal(plain, logits(model(architecture, n_layers=1), params, batch))


@pytest.mark.parametrize(
    ("architecture", "activation"), [(a, "geglu") for a in ARCHITECTURES] + [("decoder", a) for a in ("relu", "gelu")]
)
def test_every_parameter_learns_under_every_activation(architecture: str, activation: str) -> None:
    tiny = model(architecture, activation=activation, n_layers=1)
    params = moved(tiny)
    batch = packed(architecture, *examples(np.random.default_rng(0), 3))
    gradients = jax.jit(jax.grad(lambda p: jax.nn.logsumexp(tiny.apply(p, batch), axis=-1).sum()))(params)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradients))


def test_equal_models_are_one_static_argument() -> None:
    config = model_config("decoder")
    first, second = build_model(config, VOCAB), build_model(dataclasses.replace(config), VOCAB)
    assert first == second
    assert hash(first) == hash(second)
    assert first != build_model(config, VOCAB, "bfloat16")
    config.d_model = 64
    assert first.config.d_model == 16, "the model keeps its own copy"


def test_an_odd_head_width_is_refused_where_rotary_positions_need_pairs() -> None:
    with pytest.raises(ValueError, match=r"model\.head_dim is 7"):
        model("decoder", head_dim=7)
