"""Every family of decoders: what may influence what, packed or not, cached or not, whatever its options."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from families import DECODERS, LENGTH, decoder, moved, row, tokens
from tiny import VOCAB, logits, model

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


@partial(jax.jit, static_argnums=0)
def forced(
    tiny: Model, params: Params, prompts: jax.Array, lengths: jax.Array, answers: jax.Array
) -> tuple[jax.Array, jax.Array]:
    params = tiny.for_decoding(params)
    last, cache = tiny.prefill(params, prompts, lengths, 6)

    def step(cache: Any, column: jax.Array) -> tuple[Any, jax.Array]:
        last, cache = tiny.decode_step(params, cache, column)
        return cache, last

    return last, jax.lax.scan(step, cache, answers.T[:-1])[1]


def cached(tiny: Model, params: Params, prompts: list[list[int]], answers: list[list[int]]) -> np.ndarray:
    """[rows, steps, V]: logits of answers, token by token, behind prompts of several lengths."""
    padded = np.stack([np.pad(prompt, (0, 6 - len(prompt))) for prompt in prompts])
    lengths = np.array([len(prompt) for prompt in prompts])
    first, others = forced(tiny, params, padded, lengths, np.array(answers, np.int32))
    return np.moveaxis(np.concatenate([first[None], others]), 0, 1)


# By default those that between them use every option that a cache or a position's place depends on.
CACHED = [*((family, False) for family in ("palm_prefix", "neox", "llama", "olmo2", "gemma3")), ("gemma2", True)]
OTHERS = [(family, False) for family in DECODERS if (family, False) not in CACHED] + [("palm_prefix", True)]


@pytest.mark.parametrize(
    ("family", "scan"), [*CACHED, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)]
)
def test_cached_decoding_gives_the_logits_of_the_full_forward_pass(family: str, scan: bool) -> None:
    tiny = decoder(family, scan=scan)
    params = moved(tiny, 4)
    prompts, answers = [tokens(n, n) for n in (1, 6, 3)], [tokens(6, 10 + n) for n in range(3)]
    found = cached(tiny, params, prompts, answers)
    start = [] if tiny.config.bos_id is None else [tiny.config.bos_id]
    for prompt, answer, ours in zip(prompts, answers, found, strict=True):
        read = [*start, *prompt]
        full = logits(decoder(family), params, row(([*read, *answer], len(read))))[0]
        np.testing.assert_allclose(ours, full[len(read) - 1 :][:6], atol=3e-5)


@pytest.mark.parametrize("family", ["palm_prefix", "gemma3"])
def test_positions_that_a_kernel_wants_behind_a_prompt_change_no_logits(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = decoder(family)
    params = moved(tiny, 4)
    prompts, answers = [tokens(n, n) for n in (1, 6, 3)], [tokens(6, 10 + n) for n in range(3)]
    expected = cached(tiny, params, prompts, answers)
    monkeypatch.setattr("flanscale.models.decoder.positions_step", lambda name: 16)
    forced.clear_cache()
    np.testing.assert_allclose(cached(tiny, params, prompts, answers), expected, atol=1e-5)
    forced.clear_cache()


@pytest.mark.slow
def test_t5_decodes_from_its_cache_in_a_scan_too() -> None:
    looped, scanned = model("encoder_decoder"), model("encoder_decoder", scan=True)
    params = moved(looped)
    prompts, answers = [tokens(n, n) for n in (2, 6, 4)], [tokens(6, 10 + n) for n in range(3)]
    found = [cached(tiny, params, prompts, answers) for tiny in (looped, scanned)]
    np.testing.assert_allclose(*found, atol=2e-6)


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
