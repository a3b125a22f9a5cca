"""Optimizers against their published update rules."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from flanscale.schema import OptimizerConfig
from flanscale.training.optimizers import Optimizer, build_optimizer, schedule

SHAPES = {"factored": (128, 160), "one_side_short": (200, 64), "vector": (300,), "tiny": (3, 4)}


def walk(optimizer: Optimizer, steps: int, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    @jax.jit
    def move(params: Any, state: Any, gradients: Any, step: Any) -> Any:
        direction, state = optimizer.direction.update(gradients, state, params)
        return jax.tree.map(lambda p, d: p + optimizer.rate(step) * d, params, direction), state

    state = optimizer.direction.init(params)
    for step in range(steps):
        params, state = move(params, state, gradients_of(step), step)
    return params


def initial_params() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    scales = {"factored": 0.05, "one_side_short": 1.0, "vector": 1e-5, "tiny": 0.3}
    return {name: rng.normal(0, scales[name], shape).astype(np.float32) for name, shape in SHAPES.items()}


def gradients_of(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([1, step])
    return {name: (rng.normal(0, 10.0 ** np.sin(step), shape)).astype(np.float32) for name, shape in SHAPES.items()}


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def adafactor_by_the_paper(params: dict[str, np.ndarray], steps: int, rate: float) -> dict[str, np.ndarray]:
    """Algorithms 4 and 5 of arXiv:1804.04235 with relative step size, in float64, one parameter at a time."""
    after = {}
    for name, start in params.items():
        x = start.astype(np.float64)
        row, column, full = np.zeros(x.shape[0]), np.zeros(x.shape[-1]), np.zeros(x.shape)
        for t in range(1, steps + 1):
            g = gradients_of(t - 1)[name].astype(np.float64)
            decay, square = 1 - t**-0.8, g**2 + 1e-30
            if x.ndim == 2 and min(x.shape) >= 128:
                row = decay * row + (1 - decay) * square.mean(axis=1)
                column = decay * column + (1 - decay) * square.mean(axis=0)
                second = np.outer(row, column) / row.mean()
            else:
                second = full = decay * full + (1 - decay) * square
            u = g / np.sqrt(second)
            u /= max(1.0, rms(u) / 1.0)
            x = x - rate * max(1e-3, rms(x)) * u
        after[name] = x
    return after


def test_adafactor_moves_each_parameter_as_the_paper_says() -> None:
    config = OptimizerConfig(name="adafactor", learning_rate=0.05)
    moved = walk(build_optimizer(config, 20), 20, initial_params())
    expected = adafactor_by_the_paper(initial_params(), 20, 0.05)
    for name, start in initial_params().items():
        distance = rms(expected[name] - start)
        assert rms(moved[name] - expected[name]) < 2e-5 * distance, name


def test_adafactor_keeps_rows_and_columns_where_both_sides_reach_128() -> None:
    state = build_optimizer(OptimizerConfig(name="adafactor", learning_rate=1.0), 1).direction.init(initial_params())
    kept = dict.fromkeys(SHAPES, 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if leaf.size > 1:
            kept[path[-1].key] += leaf.size
    assert kept == {"factored": 128 + 160, "one_side_short": 200 * 64, "vector": 300, "tiny": 12}


def test_adafactor_treats_every_layer_of_a_stack_as_a_parameter_of_its_own() -> None:
    """Layers whose sizes and gradients differ a hundredfold, where one rule for the stack goes wrong."""
    spread = np.array([0.01, 1.0, 0.1], np.float32)[:, None, None]

    def stacked(tree: dict[str, np.ndarray], by: np.ndarray) -> dict[str, Any]:
        stack = {name: leaf * by.reshape(3, *[1] * leaf.ndim) for name, leaf in tree.items()}
        return {"decoder": {"layers": stack}, "head": tree["factored"]}

    rule = build_optimizer(OptimizerConfig(name="adafactor", learning_rate=0.05), 1).direction
    params = stacked(initial_params(), spread)
    state = rule.init(params)
    alone = [
        {name: np.asarray(leaf[i]) for name, leaf in params["decoder"]["layers"].items()} | {"head": params["head"]}
        for i in range(3)
    ]
    states = [rule.init(layer) for layer in alone]
    update = jax.jit(rule.update)
    for step in range(3):
        gradients = stacked(gradients_of(step), spread[::-1])
        moves, state = update(gradients, state, params)
        for i in range(3):
            own = {name: leaf[i] for name, leaf in gradients["decoder"]["layers"].items()} | {"head": gradients["head"]}
            expected, states[i] = update(own, states[i], alone[i])
            for name in SHAPES:
                ours = np.asarray(moves["decoder"]["layers"][name][i])
                np.testing.assert_allclose(ours, expected[name], rtol=1e-5, atol=1e-6 * np.abs(ours).max())
            np.testing.assert_allclose(moves["head"], expected["head"], rtol=1e-6)
    kept = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert {(3, 128), (3, 160), (3, 200, 64), (3, 300)} <= kept
    assert not {(3, 128, 160), (128, 160)} & kept, "both factored"


def kernels(step: int) -> dict[str, Any]:
    rng = np.random.default_rng([2, step])
    shapes = {"wide": (3, 16, 40), "tall": (3, 40, 16), "norm": (3, 16)}
    stack = {name: rng.normal(0, 10.0 ** rng.integers(-3, 3), shape) for name, shape in shapes.items()}
    return {"layers": stack, "table": rng.normal(size=(50, 16))}


def test_muon_moves_each_kernel_by_its_momentum_made_orthogonal_with_adams_root_mean_square() -> None:
    """Algorithm 1 of arXiv:2502.16982 in float64, with singular vectors in place of their iteration, which brings
    singular values between 0.7 and 1.2."""
    rule = build_optimizer(OptimizerConfig("muon", 1.0), 1).direction
    state = rule.init(kernels(0))
    for step in range(40):
        update, state = rule.update(kernels(step), state, kernels(0))
    for name in ("wide", "tall"):
        momentum = np.zeros_like(kernels(0)["layers"][name])
        for step in range(40):
            gradient = kernels(step)["layers"][name]
            momentum = 0.95 * momentum + gradient
        left, _, right = np.linalg.svd(0.95 * momentum + gradient, full_matrices=False)
        for layer in range(3):
            moved = -np.asarray(update["layers"][name][layer], np.float64)
            values = np.diag(left[layer].T @ moved @ right[layer].T) / (0.2 * np.sqrt(40))
            assert 0.65 < values.min() <= values.max() < 1.25, "the directions are the momentum's"
            assert rms(moved - left[layer] @ np.diag(values) @ right[layer] * 0.2 * np.sqrt(40)) < 0.01
            assert rms(moved) == pytest.approx(0.2, rel=0.2)


def test_muon_leaves_tables_norms_and_biases_to_adam() -> None:
    muon, adam = (build_optimizer(OptimizerConfig(name, 1.0), 1).direction for name in ("muon", "adamw"))
    states = muon.init(kernels(0)), adam.init(kernels(0))
    for step in range(3):
        ours, own = muon.update(kernels(step), states[0], kernels(0))
        theirs, other = adam.update(kernels(step), states[1], kernels(0))
        states = own, other
    np.testing.assert_array_equal(ours["table"], theirs["table"])
    np.testing.assert_array_equal(ours["layers"]["norm"], theirs["layers"]["norm"])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_optaxs(weight_decay: float) -> None:
    config = OptimizerConfig(name="adamw", learning_rate=1e-2, b1=0.8, b2=0.95, weight_decay=weight_decay)
    moved = walk(build_optimizer(config, 10), 10, initial_params())
    theirs = optax.adamw(1e-2, b1=0.8, b2=0.95, weight_decay=weight_decay)
    params, state = initial_params(), theirs.init(initial_params())
    for step in range(10):
        updates, state = theirs.update(gradients_of(step), state, params)
        params = optax.apply_updates(params, updates)
    for name in SHAPES:
        np.testing.assert_allclose(moved[name], params[name], rtol=1e-5, atol=1e-7)


def test_weight_decay_pulls_adafactor_by_rate_times_decay_times_parameter() -> None:
    plain, decayed = (
        walk(build_optimizer(OptimizerConfig("adafactor", 0.1, weight_decay=decay), 1), 1, initial_params())
        for decay in (0.0, 0.5)
    )
    for name, start in initial_params().items():
        np.testing.assert_allclose(plain[name] - decayed[name], 0.1 * 0.5 * start, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm() -> None:
    config = OptimizerConfig(name="adamw", learning_rate=1.0, clip_norm=0.5)
    optimizer = build_optimizer(config, 1)
    _, state = optimizer.direction.update(gradients_of(0), optimizer.direction.init(initial_params()), initial_params())
    first_moment = optax.tree_utils.tree_get(state, "mu")
    assert float(optax.tree.norm(first_moment)) == pytest.approx(0.1 * 0.5, rel=1e-5)


def rates(steps: int, **knobs: Any) -> list[float]:
    rate = schedule(OptimizerConfig(name="adamw", learning_rate=2.0, **knobs), steps)
    return [float(rate(np.int32(step))) for step in range(steps)]


def test_the_rate_is_constant_by_default() -> None:
    assert rates(5) == [2.0] * 5


def test_warm_up_is_linear_and_never_zero() -> None:
    assert rates(6, warmup_steps=4) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_the_cosine_falls_from_the_peak_towards_zero_at_the_last_step() -> None:
    falling = rates(12, warmup_steps=2, schedule="cosine")
    assert falling[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert falling[7] == pytest.approx(1.0)
    assert 0 < falling[-1] < 0.1
    assert falling[2:] == sorted(falling[2:], reverse=True)
