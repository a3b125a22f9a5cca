"""Every family of decoders: what may influence what, packed or not, cached or not, whatever its options."""

from functools import partial

import jax
import numpy as np
import pytest
from families import DECODERS, LENGTH, decoder, moved, row, tokens
from tiny import VOCAB, logits

from flanscale.models import Batch, Model, Params

FAMILY = pytest.mark.parametrize("family", DECODERS)


@partial(jax.jit, static_argnums=0)
def read_gradient(tiny: Model, params: Params, batch: Batch) -> jax.Array:
    """Per position and token: how much the token's embedding, as it is read, changes the position's logits."""
    weights = jax.random.normal(jax.random.key(1), (VOCAB,))  # logits summed up evenly would hide changes
    untied = {**params, "vocabulary": dict(params["vocabulary"])}

    def read(embedding: jax.Array) -> jax.Array:
        table = untied["vocabulary"] | {"embedding": embedding}
        hidden = tiny.hidden({**untied, "vocabulary": table}, batch)
        return tiny.logits(params, hidden)[0] @ weights

    return jax.jacrev(read)(params["vocabulary"]["embedding"])


def allowed(family: str, number: int, inputs: int) -> np.ndarray:
    """[T, S]: which of the tokens of a segment may influence a position, through one layer or several."""
    c = decoder(family).config
    t = np.arange(number)
    seen = t[:, None] >= t
    if c.prefix_lm:
        seen |= (t < inputs)[None, :] & (t < inputs)[:, None]
    return seen


# One family for each kind of mask: causal, with a prefix, with no start token, with local layers.
@pytest.mark.parametrize(
    "family", ["palm_prefix", "gemma2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("palm", "neox"))]
)
def test_no_position_sees_a_later_one_nor_another_segment(family: str) -> None:
    tiny = decoder(family)
    first, second = list(range(2, 10)), list(range(10, 19))
    effect = np.abs(read_gradient(tiny, moved(tiny), row((first, 4), (second, 5)))).max(axis=-1)
    expected = np.zeros((LENGTH, VOCAB), bool)
    expected[:8, 2:10], expected[8:17, 10:19] = allowed(family, 8, 4), allowed(family, 9, 5)
    assert (effect[:17][~expected[:17]] == 0).all()
    assert (effect[:17][expected[:17]] > 0).all()


def test_a_window_looks_back_over_its_positions_and_no_further() -> None:
    tiny = decoder("mistral", n_layers=1)
    effect = np.abs(read_gradient(tiny, moved(tiny), row((list(range(2, 20)), 0)))).max(axis=-1)[:18, 2:20]
    t = np.arange(18)
    expected = (t[:, None] >= t) & (t[:, None] - t < 5)
    assert (effect[~expected] == 0).all()
    assert (effect[expected] > 0).all()


@FAMILY
def test_a_segment_has_the_same_logits_packed_and_alone(family: str) -> None:
    tiny = decoder(family)
    params = moved(tiny)
    first, second = (tokens(8, 1), 4), (tokens(11, 2), 3)
    together = logits(tiny, params, row(first, second))[0]
    np.testing.assert_allclose(together[:8], logits(tiny, params, row(first))[0, :8], atol=1e-5)
    np.testing.assert_allclose(together[8:19], logits(tiny, params, row(second))[0, :11], atol=1e-5)


def test_inputs_see_each_other_in_both_directions_under_a_prefix() -> None:
    tiny = decoder("palm_prefix")
    params, read = moved(tiny), tokens(10, 3)
    other = [*read[:3], *tokens(1, 99), *read[4:]]
    assert other != read
    changes = [
        np.abs(np.subtract(*(logits(tiny, params, row((t, inputs)))[0, 0] for t in (read, other)))).max()
        for inputs in (4, 3)
    ]
    assert changes[0] > 1e-3, "the first input sees the fourth"
    assert changes[1] == 0, "but not the first target"
