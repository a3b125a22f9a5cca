"""The loss: a mean over the target tokens of the whole batch, in one piece or in several."""

import jax
import numpy as np
import pytest
from tiny import ADAM, ARCHITECTURES, VOCAB, SortingBatches, initial, logits, model, replaced, trainer

from flanscale.models import build_mesh
from flanscale.schema import MeshConfig
from flanscale.training import build_optimizer, step
from flanscale.training.step import abstract_state, build_step, init_state, loss_sums

BOTH = pytest.mark.parametrize("architecture", ARCHITECTURES)


def batch_of(architecture: str) -> dict[str, np.ndarray]:
    return next(SortingBatches(architecture, trainer()))


@BOTH
def test_the_sums_are_those_of_every_weighted_target_token(architecture: str) -> None:
    tiny, batch = model(architecture, n_layers=1), batch_of(architecture)
    batch["decoder_loss_weights"] *= np.linspace(0, 2, 4, dtype=np.float32)[:, None]
    nll, squares, tokens = jax.jit(loss_sums, static_argnums=0)(tiny, initial(tiny), batch, None)
    scores = logits(tiny, initial(tiny), batch).astype(np.float64)
    log_z = np.log(np.exp(scores).sum(axis=-1))
    chosen = np.take_along_axis(scores, batch["decoder_target_tokens"][..., None], -1)[..., 0]
    weights = batch["decoder_loss_weights"].astype(np.float64)
    assert float(nll) == pytest.approx(((log_z - chosen) * weights).sum(), rel=1e-5)
    assert float(squares) == pytest.approx((log_z**2 * weights).sum(), rel=1e-5)
    assert float(tokens) == pytest.approx(weights.sum())


@BOTH
def test_a_loss_computed_in_pieces_has_the_same_value_and_gradient(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, batch = model(architecture, n_layers=1), batch_of(architecture)

    def value_and_gradient(logits_at_once: int) -> tuple[jax.Array, dict]:
        monkeypatch.setattr(step, "LOGITS_AT_ONCE", logits_at_once)
        return jax.jit(jax.value_and_grad(lambda p: loss_sums(tiny, p, batch, None)[0]))(initial(tiny))

    positions = batch["decoder_target_tokens"].size
    whole, pieces = value_and_gradient(positions * VOCAB), value_and_gradient(positions * VOCAB // 4)
    assert float(whole[0]) == pytest.approx(float(pieces[0]), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), whole[1], pieces[1])


def test_the_pieces_never_hold_more_logits_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, batch = model("decoder"), batch_of("decoder")
    monkeypatch.setattr(step, "LOGITS_AT_ONCE", 4 * 8 * VOCAB)
    program = jax.jit(lambda p: loss_sums(tiny, p, batch, None)).lower(initial(tiny)).as_text()
    assert f"tensor<4x8x{VOCAB}xf32>" in program
    assert f"tensor<4x32x{VOCAB}xf32>" not in program


@pytest.mark.parametrize("z_loss", [0.0, 0.5])
def test_a_step_descends_the_mean_loss_and_the_weighted_square_of_log_z(z_loss: float) -> None:
    tiny, batch = model("decoder", n_layers=1), batch_of("decoder")
    optimizer = build_optimizer(replaced(ADAM, learning_rate=0.0), 1)
    abstract = abstract_state(tiny, optimizer, build_mesh(MeshConfig()))
    state = jax.jit(init_state, static_argnums=(0, 1))(tiny, optimizer, jax.random.key(0))
    params = jax.tree.map(np.asarray, state.params)
    after, skipped = build_step(tiny, optimizer, abstract, z_loss=z_loss)(state, batch, jax.random.key(0))

    def objective(p: dict) -> jax.Array:
        nll, squares, tokens = loss_sums(tiny, p, batch, None)
        return (nll + z_loss * squares) / tokens

    norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(jax.jit(jax.grad(objective))(params))))
    assert float(after.sums.gradient_norm) == pytest.approx(norm, rel=1e-4)
    assert (int(skipped), int(after.step), int(after.sums.steps)) == (0, 1, 1)
