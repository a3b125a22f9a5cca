"""Asked in text, a model reads what training would have shown it, once, and its answers are cut where they end."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
import pytest
from families import decoder, moved
from tiny import model

from flanscale.evaluation.protocol import Choice, Question, Sampling, Scored, Written, ordered
from flanscale.inference.engine import Engine
from flanscale.inference.language_model import TrainedModel
from flanscale.pipeline.ragged import Ragged

FIRST = 3  # the id of a; 1 and 2 end texts


class Letters:
    """A letter a token, but that ab, and a space with the letter behind it, are one; id 0 has no text."""

    vocab_size, eos_id, unknown_id, fingerprint = 32, 1, None, ""
    pieces = ("ab", " a", " b", *"abcdefgh", " ", "\n")

    def encode(self, texts: Sequence[str]) -> Ragged:
        return Ragged.of([np.array(self._ids(text), np.int32) for text in texts])

    def _ids(self, text: str) -> list[int]:
        ids = []
        while text:
            number, piece = next((n, piece) for n, piece in enumerate(self.pieces) if text.startswith(piece))
            ids.append(FIRST + number)
            text = text[len(piece) :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[i - FIRST] for i in ids if FIRST <= i < FIRST + len(self.pieces))

    def token_id(self, token: str) -> int | None:
        return None


def ids(text: str) -> list[int]:
    return Letters().encode([text])[0].tolist()


@pytest.fixture(scope="module")
def llama() -> TrainedModel:
    tiny = decoder("llama")  # whose BOS is 3, as a is ab here: see below
    return TrainedModel(Engine(tiny, jax.device_put(moved(tiny, seed=5)), 8), Letters(), 64, end_ids=(2,))


@pytest.fixture(scope="module")
def t5() -> TrainedModel:
    tiny = model("encoder_decoder", tie_embeddings=False)
    return TrainedModel(Engine(tiny, jax.device_put(moved(tiny, seed=5)), 8), Letters(), 20)


def written(
    asked: TrainedModel, questions: list[Question], stop: Sequence[str] = (), **sampling: float
) -> list[list[Written]]:
    drawn = Sampling(**sampling)  # type: ignore[arg-type]
    return ordered(asked.generate(questions, max_new_tokens=24, stop=stop, sampling=drawn))


def scored(asked: TrainedModel, *choices: Choice) -> list[list[Scored]]:
    return ordered(asked.score(choices))


def test_a_decoders_start_token_is_read_once(llama: TrainedModel) -> None:
    start = llama.engine.model.config.bos_id
    assert start == FIRST
    assert llama.tokens(["cd", "abcd", ""]) == [3, 3, 1]
    assert llama._prompts(["cd", "abcd"]) == [[start, *ids("cd")], ids("abcd")]


def test_an_encoders_prompt_ends_as_in_training_and_has_the_context_for_itself(t5: TrainedModel) -> None:
    assert t5._prompts(["cd"]) == [[*ids("cd"), 1]]
    assert (t5.context_limit(0), t5.context_limit(7)) == (20, 20)


def test_a_decoder_shares_its_context_between_prompt_and_answer(llama: TrainedModel) -> None:
    assert (llama.context_limit(0), llama.context_limit(7)) == (64, 57)


def test_a_model_without_a_start_token_reads_an_end_before_nothing() -> None:
    tiny = decoder("neox")
    asked = TrainedModel(Engine(tiny, jax.device_put(moved(tiny)), 8), Letters(), 64)
    assert asked._prompts(["cd", ""]) == [ids("cd"), [1]]


def test_options_are_tokenised_together_with_what_stands_before_them(llama: TrainedModel) -> None:
    """Behind "ca", b would be one token; "cab" is two others. What is scored begins where any two part."""
    (parted,) = llama._continuations([Choice("ca", ("b", "c"))])
    assert parted.context == [FIRST, *ids("c")]
    assert parted.options == [ids("ab"), ids("ac")]
    (whole,) = llama._continuations([Choice("c", (" a", " b", " ab"))])
    assert whole.context == [FIRST, *ids("c")]
    assert whole.options == [ids(" a"), ids(" b"), ids(" ab")]


def test_every_option_has_a_token_that_is_scored(llama: TrainedModel) -> None:
    (found,) = llama._continuations([Choice("cd", ("", "e"))])
    assert [len(option) > 0 for option in found.options] == [True, True]
    assert len(found.context) == 2


def test_options_without_a_prompt_are_scored_behind_the_start(llama: TrainedModel, t5: TrainedModel) -> None:
    for asked in (llama, t5):
        ((scores, _),) = scored(asked, Choice("", ("cd", "e")))
        assert [len(scores.logprobs), np.isfinite(scores.logprobs).all()] == [2, True]


def test_scores_of_options_behind_an_encoder_are_of_their_own_tokens(t5: TrainedModel) -> None:
    ((two, one),) = scored(t5, Choice("abc", ("cd", "e")))
    assert (len(two.logprobs), len(one.logprobs)) == (2, 1)


def test_an_answer_is_cut_before_a_stop_text_and_what_is_behind_it_is_no_part_of_it(llama: TrainedModel) -> None:
    questions = [Question(str(n), "abcdefgh"[n:]) for n in range(6)]
    whole = [answers[0] for answers in written(llama, questions, temperature=1.0)]
    stop = max("abcdefgh", key=lambda letter: sum(letter in one.text[1:] for one in whole))
    cut = [answers[0] for answers in written(llama, questions, (stop, "zz"), temperature=1.0)]
    assert [one.text for one in cut] == [one.text.split(stop)[0] for one in whole]
    stopped = [(one, other) for one, other in zip(cut, whole, strict=True) if stop in other.text]
    assert stopped
    for one, other in stopped:
        assert one.ended
        assert one.tokens < other.tokens or other.text.endswith(stop)
        assert one.logprob >= other.logprob


def test_samples_of_a_question_do_not_depend_on_how_many_there_are(llama: TrainedModel) -> None:
    """The first of eight are the first of forty; another seed or key draws others."""
    few = written(llama, [Question("k", "abc", 3)], temperature=1.0)[0]
    more = written(llama, [Question("other", "cd", 2), Question("k", "abc", 7)], temperature=1.0)[1]
    assert [one.text for one in more[:3]] == [one.text for one in few]
    assert len({one.text for one in more}) > 3
    assert [one.text for one in written(llama, [Question("k", "abc", 3)], temperature=1.0, seed=1)[0]] != [
        one.text for one in few
    ]


def test_a_sample_is_worth_what_the_model_itself_thinks_of_it(llama: TrainedModel) -> None:
    """Whatever the temperature."""
    (drawn,) = written(llama, [Question("k", "abc", 4)], temperature=3.0)
    for one in drawn:
        if not one.ended:
            ((score,),) = scored(llama, Choice("abc", (one.text,)))
            if len(score.logprobs) == one.tokens:  # read again as the tokens that were written
                assert one.logprob == pytest.approx(sum(score.logprobs), abs=1e-3)


def test_what_the_vocabulary_cannot_spell_is_seen() -> None:
    tiny = decoder("llama")
    asked = TrainedModel(Engine(tiny, {}, 8), Letters(), 64)
    assert asked.spelled(["abcd", " ab"]) == ["abcd", " ab"]
