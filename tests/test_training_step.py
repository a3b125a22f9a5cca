"""The loss: a mean over the target tokens of the whole batch, in one piece or in several."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from families import moved
from tiny import ADAM, ARCHITECTURES, VOCAB, SortingBatches, logits, model, replaced, shapes, trainer

from flanscale.models import Model, build_mesh
from flanscale.schema import MeshConfig
from flanscale.sizing import memory
from flanscale.training import build_optimizer
from flanscale.training.optimizers import Optimizer
from flanscale.training.step import TrainState, abstract_state, build_step, first_state, loss_sums, shardings_of

STILL = replaced(ADAM, learning_rate=0.0)
ADAM_STEPS = pytest.mark.parametrize(("z_loss", "microbatches"), [(0.0, 4), (0.5, 1)])
BOTH = pytest.mark.parametrize("architecture", ARCHITECTURES)

first = jax.jit(first_state, static_argnums=0)


def batch_of(architecture: str) -> dict[str, np.ndarray]:
    return next(SortingBatches(architecture, trainer()))


@BOTH
def test_the_sums_are_those_of_every_weighted_target_token(architecture: str) -> None:
    tiny, batch = model(architecture, n_layers=1), batch_of(architecture)
    batch["decoder_loss_weights"] *= np.linspace(0, 2, 4, dtype=np.float32)[:, None]
    objective, nll, tokens = jax.jit(loss_sums, static_argnums=(0, 4))(tiny, moved(tiny), batch, None, 0.5)
    scores = logits(tiny, moved(tiny), batch).astype(np.float64)
    log_z = np.log(np.exp(scores).sum(axis=-1))
    chosen = np.take_along_axis(scores, batch["decoder_target_tokens"][..., None], -1)[..., 0]
    weights = batch["decoder_loss_weights"].astype(np.float64)
    assert float(nll) == pytest.approx(((log_z - chosen) * weights).sum(), rel=1e-5)
    assert float(objective) == pytest.approx(float(nll) + 0.5 * (log_z**2 * weights).sum(), rel=1e-5)
    assert float(tokens) == pytest.approx(weights.sum())


@BOTH
def test_a_loss_computed_in_pieces_has_the_same_value_and_gradient(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, batch = model(architecture, n_layers=1), batch_of(architecture)

    def value_and_gradient(logits_at_once: int) -> tuple[jax.Array, dict]:
        monkeypatch.setattr(memory, "LOGITS_AT_ONCE", logits_at_once)
        return jax.jit(jax.value_and_grad(lambda p: loss_sums(tiny, p, batch, None)[0]))(moved(tiny))

    positions = batch["decoder_target_tokens"].size
    whole, pieces = value_and_gradient(positions * VOCAB), value_and_gradient(positions * VOCAB // 4)
    assert float(whole[0]) == pytest.approx(float(pieces[0]), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), whole[1], pieces[1])


def test_the_pieces_never_hold_more_logits_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, batch = model("decoder", n_layers=1), batch_of("decoder")
    monkeypatch.setattr(memory, "LOGITS_AT_ONCE", 4 * 8 * VOCAB)
    for ask in (loss_sums, jax.grad(lambda *given: loss_sums(*given)[0], argnums=1)):
        program = jax.jit(ask, static_argnums=0).lower(tiny, shapes(tiny), batch, None).as_text()
        assert f"tensor<{4 * 8}x{VOCAB}xf32>" in program
        assert f"tensor<{4 * 32}x{VOCAB}xf32>" not in program


@cache
def adam_step(z_loss: float, microbatches: int) -> tuple[TrainState, Any]:
    """(shapes of the state, the compiled step) of a decoder whose optimizer does not move it."""
    tiny, optimizer = model("decoder", n_layers=1), build_optimizer(STILL, 1)
    abstract = abstract_state(tiny, optimizer, build_mesh(MeshConfig()))
    step: Any = build_step(tiny, optimizer, abstract, z_loss=z_loss, microbatches=microbatches)
    return abstract, step.lower(abstract, batch_of("decoder"), jax.random.key(0)).compile()


@ADAM_STEPS
def test_a_step_descends_the_mean_loss_and_the_weighted_square_of_log_z(z_loss: float, microbatches: int) -> None:
    tiny, batch, (abstract, step) = model("decoder", n_layers=1), batch_of("decoder"), adam_step(z_loss, microbatches)
    params = moved(tiny)
    state = jax.device_put(first(build_optimizer(STILL, 1), params), shardings_of(abstract))
    after, outcome = step(state, batch, jax.random.key(0))

    def objective(p: dict) -> jax.Array:
        log_p = jax.nn.log_softmax(scores := tiny.apply(p, batch))
        nll = -jnp.take_along_axis(log_p, batch["decoder_target_tokens"][..., None], -1)[..., 0]
        weights = batch["decoder_loss_weights"]
        return ((nll + z_loss * jax.nn.logsumexp(scores, axis=-1) ** 2) * weights).sum() / weights.sum()

    norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(jax.jit(jax.grad(objective))(params))))
    assert float(after.sums.gradient_norm) == pytest.approx(norm, rel=1e-4)
    assert (int(outcome.skipped), int(after.step), int(after.sums.steps)) == (0, 1, 1)
    assert float(outcome.loss) == pytest.approx(float(after.sums.loss) / float(after.sums.tokens))


@ADAM_STEPS
def test_a_step_uses_the_memory_of_the_state_it_is_given(z_loss: float, microbatches: int) -> None:
    used = adam_step(z_loss, microbatches)[1].memory_analysis()
    assert used.alias_size_in_bytes > 0.95 * used.output_size_in_bytes  # the rest is what is logged


def ragged(architecture: str, rows: int = 8) -> dict[str, np.ndarray]:
    """Rows with next to no target tokens, with all of them, and with none."""
    batch = next(SortingBatches(architecture, trainer(batch_rows=rows)))
    batch["decoder_loss_weights"] *= np.array([0, 1e-3, 1, 1, 0, 0, 5, 1], np.float32)[:, None]
    batch["decoder_loss_weights"][2, 3:] = 0
    return batch


@cache
def descent(architecture: str, microbatches: int, dropout: float) -> tuple[Model, Optimizer, Any]:
    """(a model, an optimizer that subtracts the gradient, their compiled step)."""
    tiny = model(architecture, n_layers=1, dropout=dropout)
    optimizer = Optimizer(optax.scale(-1.0), lambda step: jnp.asarray(1.0))
    abstract = abstract_state(tiny, optimizer, build_mesh(MeshConfig()))
    return tiny, optimizer, build_step(tiny, optimizer, abstract, z_loss=0.1, microbatches=microbatches)


def stepped(
    architecture: str, microbatches: int, batch: dict[str, np.ndarray], dropout: float = 0.0, number: int = 0
) -> TrainState:
    """The state after one step; the loss's gradient is read off it: parameters before minus after."""
    tiny, optimizer, step = descent(architecture, microbatches, dropout)
    state = replaced(first(optimizer, moved(tiny)), step=jnp.asarray(number))
    return step(state, batch, jax.random.key(0))[0]


@BOTH
@pytest.mark.parametrize("microbatches", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_microbatches_of_very_uneven_tokens_add_up_to_the_whole_batch(architecture: str, microbatches: int) -> None:
    batch = ragged(architecture)
    whole, parts = (stepped(architecture, count, batch) for count in (1, microbatches))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), whole.params, parts.params)
    assert float(parts.sums.loss) == pytest.approx(float(whole.sums.loss), rel=1e-6)
    assert float(parts.sums.tokens) == float(whole.sums.tokens)
    assert float(parts.sums.gradient_norm) == pytest.approx(float(whole.sums.gradient_norm), rel=1e-5)


def test_a_microbatch_that_is_not_finite_spoils_the_step_and_no_parameter() -> None:
    batch = ragged("decoder")
    batch["decoder_loss_weights"][7, 0] = np.nan
    after = stepped("decoder", 2, batch)
    assert int(after.nonfinite_steps) == 1
    jax.tree.map(np.testing.assert_array_equal, after.params, moved(model("decoder", n_layers=1)))


def test_dropout_is_drawn_anew_at_every_step_and_in_every_microbatch() -> None:
    row = {name: array[:1] for name, array in next(SortingBatches("decoder", trainer())).items()}
    same = {name: np.repeat(array, 2, axis=0) for name, array in row.items()}

    def embedding(microbatches: int, batch: dict[str, np.ndarray], number: int) -> np.ndarray:
        return np.asarray(stepped("decoder", microbatches, batch, 0.5, number).params["vocabulary"]["embedding"])

    whole = embedding(1, row, number=0)
    np.testing.assert_array_equal(whole, embedding(1, row, number=0))
    assert np.abs(whole - embedding(1, row, number=1)).max() > 1e-3
    assert np.abs(whole - embedding(2, same, number=0)).max() > 1e-3


@BOTH
def test_in_bfloat16_products_are_half_and_parameters_softmax_norms_and_loss_are_single(architecture: str) -> None:
    tiny = model(architecture, "bfloat16", n_layers=1)
    params = shapes(tiny)
    gradient = jax.value_and_grad(lambda p: loss_sums(tiny, p, batch_of(architecture), None)[0])
    jaxpr, given = jax.make_jaxpr(gradient, return_shape=True)(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, given))} == {np.dtype("float32")}
    made: dict[str, set[str]] = {}
    for equation in equations(jaxpr.jaxpr):
        kinds = made.setdefault(equation.primitive.name, set())
        kinds |= {str(v.aval.dtype) for v in equation.invars if jnp.issubdtype(v.aval.dtype, jnp.floating)}
    for primitive in ("exp", "log", "rsqrt", "reduce_max"):  # softmax, loss and norms
        assert made[primitive] == {"float32"}, primitive
    assert "bfloat16" in made["dot_general"]


def equations(jaxpr: Any) -> Iterator[Any]:
    """Those of a program and of all programs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)
