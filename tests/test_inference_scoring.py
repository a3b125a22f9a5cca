"""Options get the log-probabilities that a forward pass of each alone would give, however they are laid out."""

from typing import Any

import jax
import numpy as np
import pytest
from families import decoder, moved
from tiny import VOCAB, logits, model
from written import start_of

from flanscale.inference import engine as engines
from flanscale.inference import programs
from flanscale.inference.engine import Engine
from flanscale.inference.scoring import Continuations, Scores, score
from flanscale.models import Model, Params
from flanscale.models.parts import Spots
from flanscale.pipeline.packing import pack

WIDTH = 700


def asked_of(tiny: Model, count: int, seed: int = 0) -> list[Continuations]:
    """Contexts of many lengths, two thirds of which begin like others, each with options of several tokens."""
    rng = np.random.default_rng(seed)
    shared = [rng.integers(2, VOCAB, size).tolist() for size in (0, 140, 300)]
    asked = []
    for number in range(count):
        context = [*shared[number % 3], *rng.integers(2, VOCAB, rng.integers(1, 30)).tolist()]
        end = [1] if tiny.config.architecture == "encoder_decoder" else []
        options = [rng.integers(2, VOCAB, rng.integers(1, 7)).tolist() for _ in range(rng.integers(1, 5))]
        every = [[token] for token in range(2, VOCAB)]
        asked.append(Continuations([*start_of(tiny), *context, *end], options if number % 8 else every))
    return asked


def scored(engine: Engine, asked: list[Continuations]) -> list[Scores]:
    found: dict[int, Scores] = {}
    for batch in score(engine, asked):
        assert not found.keys() & batch.keys()
        found |= batch
    return [found[place] for place in range(len(asked))]


def alone(tiny: Model, params: Params, one: Continuations, option: list[int]) -> tuple[np.ndarray, bool]:
    """The same from one packed row, as training has it."""
    c = tiny.config
    decodes = c.architecture == "decoder"
    start = len(start_of(tiny))
    context = list(one.context[start:]) if decodes else list(one.context[:-1])
    pair = [np.array(context, np.int32)], [np.array(option, np.int32)]
    widths = {"input_tokens": WIDTH, "target_tokens": WIDTH if decodes else 16}
    batch = pack(*pair, architecture=c.architecture, bos_id=c.bos_id, prefix=c.prefix_lm, **widths).rows
    first = len(context) - 1 + start if decodes else 0
    rows = np.asarray(jax.nn.log_softmax(logits(tiny, params, batch)[0, first : first + len(option)]))
    return rows[np.arange(len(option)), option], bool((rows.argmax(axis=-1) == option).all())


MODELS = {
    "decoder": lambda: model("decoder"),
    "encoder_decoder": lambda: model("encoder_decoder"),
    "gemma2": lambda: decoder("gemma2"),  # windows, caps, shared keys
    "palm_prefix": lambda: decoder("palm_prefix"),  # contexts that see themselves whole
    "neox": lambda: decoder("neox", scan=True),  # no start token
}


RARE = ("palm_prefix", "neox")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in RARE)) for name in MODELS])
def test_options_are_scored_as_each_alone(name: str) -> None:
    tiny = MODELS[name]()
    params = jax.device_put(moved(tiny, seed=5))
    asked = asked_of(tiny, 24)
    every = scored(Engine(tiny, params), asked)
    for one, scores in list(zip(asked, every, strict=True))[::3] + list(zip(asked, every, strict=True))[1::6]:
        for option, (logprobs, greedy) in zip(one.options, scores, strict=True):
            expected, most_likely = alone(tiny, params, one, list(option))
            np.testing.assert_allclose(logprobs, expected, atol=1e-5)
            assert greedy == most_likely
    assert any(greedy for scores in every for _, greedy in scores)


@pytest.mark.parametrize("name", ["decoder", "encoder_decoder"])
def test_a_score_depends_on_its_own_context_alone(name: str) -> None:
    tiny = MODELS[name]()
    params = jax.device_put(moved(tiny, seed=5))
    asked = asked_of(tiny, 24)
    every = scored(Engine(tiny, params), asked)
    for other in (asked[::-1], asked[5:6], [*asked[:3], *asked_of(tiny, 9, seed=7)]):
        for one, scores in zip(other, scored(Engine(tiny, params), other), strict=True):
            if one in asked:
                for (ours, _), (theirs, _) in zip(scores, every[asked.index(one)], strict=True):
                    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_contexts_and_options_longer_than_a_row_are_read_whole() -> None:
    tiny = model("decoder")
    params = jax.device_put(moved(tiny, seed=5))
    rng = np.random.default_rng(0)
    asked = [
        Continuations([0, *rng.integers(2, VOCAB, size).tolist()], [rng.integers(2, VOCAB, n).tolist() for n in sizes])
        for size, sizes in ((650, (3, 2)), (20, (400, 300)), (5, (2,)))
    ]
    for one, scores in zip(asked, scored(Engine(tiny, params), asked), strict=True):
        for option, (logprobs, _) in zip(one.options, scores, strict=True):
            np.testing.assert_allclose(logprobs, alone(tiny, params, one, list(option))[0], atol=2e-5)


def test_the_vocabulary_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = model("decoder")
    params = jax.device_put(moved(tiny, seed=5))
    asked = asked_of(tiny, 9)
    whole = scored(Engine(tiny, params), asked)
    monkeypatch.setattr(programs, "LOGITS_AT_ONCE", 5 * VOCAB)
    programs.score.clear_cache()
    for ours, theirs in zip(scored(Engine(tiny, params), asked), whole, strict=True):
        for (a, greedy), (b, other) in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
            assert greedy == other
    programs.score.clear_cache()


def test_what_is_not_finite_is_no_number() -> None:
    tiny = model("decoder", tie_embeddings=False)
    params = jax.device_put(moved(tiny, seed=5))
    table = params["vocabulary"]["embedding"].at[7].set(np.nan)
    broken = params | {"vocabulary": params["vocabulary"] | {"embedding": table}}
    (lost,) = scored(Engine(tiny, broken), [Continuations([0, 7, 4], [[5], [6]])])
    assert all(np.isnan(logprobs).all() and not greedy for logprobs, greedy in lost)
    infinite = params | {"vocabulary": params["vocabulary"] | {"head": params["vocabulary"]["head"] * np.inf}}
    (lost,) = scored(Engine(tiny, infinite), [Continuations([0, 3, 4], [[5], [6, 8]])])
    assert all(np.isnan(logprobs).all() for logprobs, _ in lost)


def test_nothing_asked_needs_no_model() -> None:
    assert list(score(Engine(model("decoder"), {}), [])) == []


@pytest.mark.parametrize("name", ["decoder", "encoder_decoder"])
def test_all_lengths_together_take_few_programs_with_little_padding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = MODELS[name]()
    monkeypatch.setitem(engines.COMPILING, "cpu", 1e6)  # as few tokens' worth as with a model that is worth its padding
    params = jax.device_put(moved(tiny, seed=5))
    asked = asked_of(tiny, 900)
    compiled = {name: getattr(programs, name) for name in ("score", "extend", "encode")}
    before = sum(program._cache_size() for program in compiled.values())
    real, laid_out = 0, 0
    for name_of, program in compiled.items():

        def counted(*given: Any, run: Any = program) -> Any:
            nonlocal real, laid_out
            shown = given[3].positions >= 0 if isinstance(given[3], Spots) else given[3] > 0
            real, laid_out = real + int(np.asarray(shown).sum()), laid_out + shown.size
            return run(*given)

        monkeypatch.setattr(programs, name_of, counted)
    scored(Engine(tiny, params), asked)
    assert sum(program._cache_size() for program in compiled.values()) - before <= 8
    assert laid_out < 1.15 * real
