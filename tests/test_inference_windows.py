"""What is longer than a model's context: a prompt loses its start, and of a long text every token is scored once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest
from families import decoder, moved
from hypothesis import given
from hypothesis import strategies as st
from tiny import VOCAB, model

from flanscale.evaluation.protocol import Choice, Question, Sampling, Scored, Written, ordered
from flanscale.inference.engine import Engine
from flanscale.inference.language_model import TrainedModel
from flanscale.inference.scoring import Continuations, score
from flanscale.inference.windows import behind_encoder, end_of, within
from flanscale.models import Model
from flanscale.pipeline.ragged import Ragged

BOS = [3]
CONTEXT = 12


class Letters:
    """Letters stand for the ids from 3 on; a blank stands for nothing."""

    vocab_size, eos_id, unknown_id, fingerprint = VOCAB, 1, None, ""

    def encode(self, texts: Sequence[str]) -> Ragged:
        return Ragged.of([np.array([ord(letter) - 94 for letter in text.replace(" ", "")], np.int32) for text in texts])

    def decode(self, ids: Any) -> str:
        return "".join(chr(94 + int(i)) for i in ids if i >= 3)

    def token_id(self, token: str) -> int | None:
        return None


MODELS = {
    "decoder": lambda: model("decoder"),
    "start token": lambda: decoder("llama"),
    "none": lambda: decoder("neox"),
    "encoder_decoder": lambda: model("encoder_decoder"),
}


@pytest.fixture(params=MODELS)
def asked(request: pytest.FixtureRequest) -> TrainedModel:
    tiny: Model = MODELS[request.param]()
    return TrainedModel(Engine(tiny, jax.device_put(moved(tiny, seed=5)), 4), Letters(), CONTEXT)


def scored(asked: TrainedModel, *choices: Choice) -> list[list[Scored]]:
    found: dict[int, list[Scored]] = {}
    for batch in asked.score(choices):
        assert not found.keys() & batch.keys()
        found |= batch
    return [found[place] for place in range(len(choices))]


def written(asked: TrainedModel, *prompts: str, tokens: int) -> list[Written]:
    questions = [Question(prompt, prompt) for prompt in prompts]
    found = ordered(asked.generate(questions, max_new_tokens=tokens, stop=(), sampling=Sampling()))
    return [one for (one,) in found]


def text(length: int, seed: int = 0) -> str:
    return "".join(chr(97 + i) for i in np.random.default_rng(seed).integers(0, 20, length))


def test_a_prompt_that_fits_is_whole_and_one_that_does_not_keeps_its_end_and_its_start_token() -> None:
    assert end_of([3, 4, 5], 3, BOS) == [3, 4, 5]
    assert end_of([3, 4, 5, 6], 3, BOS) == [3, 5, 6]
    assert end_of([4, 5, 6], 2) == [5, 6]
    assert end_of([3, 4, 5], 1, BOS) == BOS
    assert end_of([4, 5], 0) == [5]


def test_windows_of_a_long_text_are_those_of_the_harness() -> None:
    """The example of lm_eval.api.model.LM.loglikelihood_rolling: ten tokens, four positions."""
    parts = [piece for _, piece in within(Continuations([99], [list(range(10))]), 4)]
    assert [(list(p.context), [list(o) for o in p.options]) for p in parts] == [
        ([99], [[0, 1, 2, 3]]),
        ([3], [[4, 5, 6, 7]]),
        ([5, 6, 7], [[8, 9]]),
    ]


@given(st.integers(2, 9), st.integers(1, 60), st.sampled_from([[], BOS]))
def test_every_token_of_a_long_text_is_scored_once_behind_as_many_as_fit(
    context: int, length: int, start: list[int]
) -> None:
    option = list(range(100, 100 + length))
    pieces = [piece for _, piece in within(Continuations([*start, 7], [option]), context, start)]
    assert [token for piece in pieces for token in piece.options[0]] == option
    for piece in pieces:
        assert len(piece.context) >= 1
        assert len(piece.context) + len(piece.options[0]) - 1 <= context
        assert list(piece.context[: len(start)]) == start
    if len(pieces) > 1:
        assert len(pieces[-1].context) + len(pieces[-1].options[0]) - 1 == context
        for before, piece in pairwise(pieces):
            assert piece.context[-1] == before.options[0][-1]


def test_options_of_one_prompt_stand_behind_the_same_end_of_it() -> None:
    ((first, piece),) = within(Continuations([3, 4, 5, 6, 7], [[8], [9, 10]]), 4, BOS)
    assert (first, piece) == (0, Continuations([3, 6, 7], [[8], [9, 10]]))
    ((_, piece),) = behind_encoder(Continuations([4, 5, 6, 7, 1], [[8], [9, 10]]), 4)
    assert piece == Continuations([5, 6, 7, 1], [[8], [9, 10]])


def test_a_prompt_that_is_too_long_is_answered_as_its_end(asked: TrainedModel) -> None:
    question, end = text(40), text(40)[-asked.context_limit(3) :]
    if asked.engine.model.config.architecture == "encoder_decoder" or asked.engine.model.config.bos_id is not None:
        end = end[1:]  # with the token that a prompt always has
    whole, cut, shorter = written(asked, question, end, end[1:], tokens=3)
    assert (whole.text, whole.logprob) == (cut.text, pytest.approx(cut.logprob, abs=1e-5))
    assert cut.logprob != pytest.approx(shorter.logprob, abs=1e-3)


def test_options_behind_a_prompt_that_is_too_long_are_scored_as_behind_its_end(asked: TrainedModel) -> None:
    options = ("ab", "c", "dad")
    encodes = asked.engine.model.config.architecture == "encoder_decoder"
    room = CONTEXT - 1 if encodes else CONTEXT - 2 - (asked.engine.model.config.bos_id is not None)
    long, end, shorter = scored(asked, *(Choice(text(40)[-keep:], options) for keep in (40, room, room - 1)))
    for ours, theirs, others in zip(long, end, shorter, strict=True):
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
        assert np.abs(np.subtract(ours.logprobs, others.logprobs)).max() > 1e-4


def test_a_text_longer_than_the_context_is_scored_as_its_windows(asked: TrainedModel) -> None:
    long = text(3 * CONTEXT + 5)
    ids = Letters().encode([long])[0].tolist()
    ((whole,), (short, other)) = scored(asked, Choice("", (long,)), Choice("xyz", ("a", long)))
    start = asked._start
    encodes = asked.engine.model.config.architecture == "encoder_decoder"
    before = Continuations([1] if encodes or not start else start, [ids])
    windows = behind_encoder(before, CONTEXT) if encodes else within(before, CONTEXT, start)
    expected: dict[int, np.ndarray] = {}
    for batch in score(asked.engine, [window for _, window in windows]):
        expected |= {place: scores[0][0] for place, scores in batch.items()}
    np.testing.assert_allclose(whole.logprobs, np.concatenate([expected[i] for i in sorted(expected)]), atol=1e-5)
    assert len(whole.logprobs) == len(other.logprobs) == len(long)
    assert len(short.logprobs) == 1


def test_a_long_text_is_the_most_likely_one_where_all_of_its_pieces_are() -> None:
    tiny = model("encoder_decoder")
    asked = TrainedModel(Engine(tiny, jax.device_put(moved(tiny, seed=5)), 4), Letters(), context=2)
    prompts = ["ab", "ac", "ad", "bd", "cd", "ef", "fg", "gh"]
    answers = [answer.text for answer in written(asked, *prompts, tokens=2)]
    prompt, likely = next((p, answer) for p, answer in zip(prompts, answers, strict=True) if len(answer) == 2)
    other = "a" if likely[-1] != "a" else "b"
    ((twice, changed),) = scored(asked, Choice(prompt, (2 * likely, likely + likely[0] + other)))
    assert twice.greedy
    assert not changed.greedy


def test_an_option_that_an_encoder_decoder_cannot_spell_is_certain_and_moves_no_other() -> None:
    tiny = model("encoder_decoder")
    asked = TrainedModel(Engine(tiny, jax.device_put(moved(tiny, seed=5)), 4), Letters(), CONTEXT)
    alone = scored(asked, Choice("abc", ("de", "f")), Choice("g", ("hi",)))
    (d, nothing, f), (hi,) = scored(asked, Choice("abc", ("de", " ", "f")), Choice("g", ("hi",)))
    assert nothing == Scored((), True)
    for ours, theirs in zip((d, f, hi), (*alone[0], *alone[1]), strict=True):
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
    assert scored(asked, Choice("abc", (" ",))) == [[nothing]]
