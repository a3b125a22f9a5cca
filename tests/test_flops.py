"""Parameter and operation counts: exact where models make parameters, right against the products in the program."""

import math
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from families import DECODERS, decoder, row, tokens
from tiny import ARCHITECTURES, model, model_config, packed, shapes

from flanscale.sizing.flops import parameter_count, training_flops


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"activation": "relu"}, {"n_layers": 1, "d_ff": 20}])
def test_the_count_is_that_of_the_initialisation(architecture: str, changes: dict[str, Any]) -> None:
    tiny = model(architecture, **changes)
    assert parameter_count(tiny.config, tiny.vocab_size) == sum(leaf.size for leaf in jax.tree.leaves(shapes(tiny)))


@pytest.mark.parametrize("family", DECODERS)
def test_the_count_is_that_of_the_initialisation_for_every_family(family: str) -> None:
    tiny = decoder(family)
    assert parameter_count(tiny.config, tiny.vocab_size) == sum(leaf.size for leaf in jax.tree.leaves(shapes(tiny)))


def products(jaxpr: Any) -> tuple[float, float]:
    """Operations of the matrix products in a program: of kernels, and of attention (those with batch dimensions).

    Those that give one column are sums of rows.
    """
    kernels = attention = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general" and equation.outvars[0].aval.shape[-1] > 1:
            (contracted, _), (batched, _) = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            count = 2 * math.prod(shape[axis] for axis in contracted) * math.prod(equation.outvars[0].aval.shape)
            kernels, attention = (kernels, attention + count) if batched else (kernels + count, attention)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                more = products(getattr(inner, "jaxpr", inner))
                kernels, attention = kernels + times * more[0], attention + times * more[1]
    return kernels, attention


FORMS = [*DECODERS, "t5 v1.1", "t5 v1.0"]
SCANNED = ("gemma2", "t5 v1.1")


@pytest.mark.parametrize(
    ("family", "scan"),
    [
        *((family, False) for family in FORMS),
        *(pytest.param(f, True, marks=() if f in SCANNED else pytest.mark.slow) for f in FORMS),
    ],
)
def test_a_third_of_the_training_operations_are_the_products_of_the_forward_pass(family: str, scan: bool) -> None:
    if family in DECODERS:
        tiny, s, t = decoder(family, scan=scan, window=None, global_every=None, window_rope_theta=None), 11, 9
        batch = row((tokens(20), 11))
    else:
        form = {"activation": "relu", "tie_embeddings": True} if family == "t5 v1.0" else {}
        tiny, s, t = model("encoder_decoder", scan=scan, **form), 16, 16
        batch = packed("encoder_decoder", [[5] * 9], [[6] * 9])
    kernels, attention = products(jax.make_jaxpr(tiny.apply)(shapes(tiny), batch).jaxpr)

    linear = training_flops(tiny.config, tiny.vocab_size, s, t, segments=1e15) / 3
    quadratic = training_flops(tiny.config, tiny.vocab_size, s, t) / 3 - linear
    assert kernels == pytest.approx(linear, rel=1e-9)
    pair = 4 * tiny.config.n_heads * tiny.config.head_dim * tiny.config.n_layers
    hidden = t * t / 2  # half of a causal mask is computed, but not counted
    if family in DECODERS:
        hidden = (s + t) ** 2 / 2 - (s * s / 2 if tiny.config.prefix_lm else 0)
    assert attention - pair * hidden == pytest.approx(quadratic, rel=1e-6)


def test_local_layers_count_the_positions_in_their_window() -> None:
    config = model_config("decoder", window=5, global_every=3, n_layers=7)
    whole, linear = (training_flops(config, 32, 400, 100, segments) for segments in (1, 1e15))
    seen = np.tri(500, dtype=bool)
    local = seen & ~np.tri(500, k=-5, dtype=bool)
    pairs = 2 * seen.sum() + 5 * local.sum()
    assert (whole - linear) / (3 * 4 * 16) == pytest.approx(pairs, rel=0.01)  # the diagonal is counted half


def test_a_decoder_costs_six_operations_per_parameter_and_token_and_its_attention() -> None:
    config = model_config("decoder", d_model=64, d_ff=256)
    tokens, joined = 128, 16
    products = parameter_count(config, 1000) - (2 * 2 + 1) * 64  # all but the norms; the tied table counts as the head
    attention = 12 * config.n_layers * joined * tokens * tokens / 2  # arXiv:2204.02311, Appendix B, causal
    assert training_flops(config, 1000, 96, 32) == pytest.approx(6 * products * tokens + attention)


def test_packing_more_examples_into_a_row_saves_attention_alone() -> None:
    config = model_config("encoder_decoder")
    one, four, many = (training_flops(config, 32128, 512, 128, segments) for segments in (1, 4, 1e12))
    assert one > four > many
    assert (one - many) == pytest.approx(4 * (four - many))


def test_a_models_own_table_goes_before_the_tokenizers() -> None:
    given, needed = model_config("decoder", vocab_size=64), model_config("decoder")
    assert parameter_count(given, 32) == parameter_count(needed, 64)
    assert training_flops(given, 32, 8, 8) == training_flops(needed, 64, 8, 8)


def test_counting_loads_neither_jax_nor_numpy() -> None:
    code = "import sys, flanscale.sizing.flops; assert not {'jax', 'numpy', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
