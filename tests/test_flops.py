"""Parameter and operation counts: exact where models make parameters, right against XLA and the published sizes."""

import subprocess
import sys
from typing import Any

import jax
import pytest
from tiny import ARCHITECTURES, initial, model, model_config, packed

from flanscale.flops import parameter_count, training_flops
from flanscale.models import build_model
from flanscale.schema import ModelConfig

T5_V1_1 = {  # millions of parameters of the published checkpoints; width, layers, heads, feed-forward width
    76.96: ("small", 512, 8, 6, 1024),
    247.58: ("base", 768, 12, 12, 2048),
    783.15: ("large", 1024, 24, 16, 2816),
    2849.76: ("xl", 2048, 24, 32, 5120),
    11135.33: ("xxl", 4096, 24, 64, 10240),
}


def t5(name: str, d_model: int, n_layers: int, n_heads: int, d_ff: int) -> ModelConfig:
    return ModelConfig(
        name=name,
        architecture="encoder_decoder",
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        head_dim=64,
        d_ff=d_ff,
        activation="geglu",
        tie_embeddings=False,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"activation": "relu"}, {"n_layers": 1, "d_ff": 20}])
def test_the_count_is_that_of_the_initialisation(architecture: str, changes: dict[str, Any]) -> None:
    tiny = model(architecture, **changes)
    made = jax.eval_shape(tiny.init, jax.random.key(0))
    assert parameter_count(tiny.config, tiny.vocab_size) == sum(leaf.size for leaf in jax.tree.leaves(made))


@pytest.mark.parametrize("millions", T5_V1_1)
def test_t5_has_its_published_sizes(millions: float) -> None:
    config = t5(*T5_V1_1[millions])
    made = jax.eval_shape(build_model(config, 32128).init, jax.random.key(0))
    assert parameter_count(config, 32128) == sum(leaf.size for leaf in jax.tree.leaves(made))
    assert parameter_count(config, 32128) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_third_of_the_training_operations_are_xlas_forward_pass(architecture: str) -> None:
    wide = model(architecture, d_model=64, head_dim=32, d_ff=256, n_layers=1)
    batch = packed(architecture, [[5] * 9], [[6] * 9])
    xla = jax.jit(wide.apply).lower(initial(wide), batch).compile().cost_analysis()["flops"]
    forward = training_flops(wide.config, wide.vocab_size, 16, 16) / 3
    assert forward == pytest.approx(xla, rel=0.1)  # XLA adds elementwise operations and the masked half of attention


def test_a_decoder_costs_six_operations_per_parameter_and_token_and_its_attention() -> None:
    config = model_config("decoder", d_model=64, d_ff=256)
    tokens, joined = 128, 16
    products = parameter_count(config, 1000) - (2 * 2 + 1) * 64  # all but the norms; the tied table counts as the head
    attention = 12 * config.n_layers * joined * tokens * tokens / 2  # arXiv:2204.02311, Appendix B, causal
    assert training_flops(config, 1000, 96, 32) == pytest.approx(6 * products * tokens + attention)


def test_packing_more_examples_into_a_row_saves_attention_alone() -> None:
    config = t5(*T5_V1_1[76.96])
    one, four, many = (training_flops(config, 32128, 512, 128, segments) for segments in (1, 4, 1e12))
    assert one > four > many
    assert (one - many) == pytest.approx(4 * (four - many))


def test_counting_loads_neither_jax_nor_numpy() -> None:
    code = "import sys, flanscale.flops; assert not {'jax', 'numpy', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
