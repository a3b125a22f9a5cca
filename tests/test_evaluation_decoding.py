"""Greedy decoding: the model's own most likely tokens, for any number of prompts of any length."""

import jax
import numpy as np
import pytest
from families import moved
from jax.sharding import NamedSharding, PartitionSpec
from tiny import ARCHITECTURES, examples, logits, model, packed

from flanscale.inference.decoding import _generate, _placed, _placement, greedy
from flanscale.models import Model, Params, build_mesh
from flanscale.schema import MeshConfig

EOS = 1
NEVER = -1  # an EOS that no model writes
ROWS = 8  # most tests decode in batches of as many, so that they share their programs
WIDTH = 100  # of the rows that hold a prompt and its answer
LONG = np.random.default_rng(0).integers(2, 32, 90).tolist()  # more tokens than the shortest program reads


@pytest.fixture(scope="module", params=ARCHITECTURES)
def lively(request: pytest.FixtureRequest) -> tuple[Model, Params]:
    """A model that writes answers of several lengths, its weights on a mesh as training leaves them."""
    tiny = model(request.param, tie_embeddings=False)
    return tiny, jax.device_put(moved(tiny, seed=5), NamedSharding(build_mesh(MeshConfig()), PartitionSpec()))


def prompts(count: int, seed: int = 9) -> list[list[int]]:
    return [tokens.tolist() for tokens in examples(np.random.default_rng(seed), count)[0]]


def test_every_token_is_the_most_likely_one_given_those_before(lively: tuple[Model, Params]) -> None:
    tiny, params = lively
    asked = prompts(11)
    answers = greedy(tiny, params, asked, max_new_tokens=8, batch_size=ROWS)
    assert len({tuple(answer) for answer in answers}) > 6, "a model that always says the same would prove nothing"
    assert any(len(answer) < 8 for answer in answers)
    for prompt, answer in zip(asked, answers, strict=True):
        batch = packed(tiny.config.architecture, [prompt], [answer], WIDTH)
        first = len(prompt) if tiny.config.architecture == "decoder" else 0
        forced = logits(tiny, params, batch)[0, first:].argmax(axis=-1)
        expected = [*answer, EOS] if len(answer) < 8 else answer
        assert forced[: len(expected)].tolist() == expected


def test_answers_come_in_the_order_of_the_prompts_whatever_the_batches(lively: tuple[Model, Params]) -> None:
    asked = prompts(9)
    alone = [greedy(*lively, [prompt], max_new_tokens=6, batch_size=1)[0] for prompt in asked]
    for batch_size in (ROWS, 16):
        assert greedy(*lively, asked, max_new_tokens=6, batch_size=batch_size) == alone
    assert greedy(*lively, asked[::-1], max_new_tokens=6, batch_size=ROWS) == alone[::-1]


def test_no_answer_is_longer_than_allowed_and_a_shorter_limit_cuts_the_same_answer(
    lively: tuple[Model, Params],
) -> None:
    long = greedy(*lively, [LONG, *prompts(6)], max_new_tokens=70, batch_size=ROWS, eos_id=NEVER)
    short = greedy(*lively, prompts(6), max_new_tokens=3, batch_size=ROWS, eos_id=NEVER)
    assert {len(answer) for answer in long} == {70}
    assert short == [answer[:3] for answer in long[1:]]


def test_an_answer_ends_before_its_first_eos(lively: tuple[Model, Params]) -> None:
    raw = greedy(*lively, prompts(8), max_new_tokens=12, batch_size=ROWS, eos_id=NEVER)
    stopped = greedy(*lively, prompts(8), max_new_tokens=12, batch_size=ROWS)
    assert any(EOS in answer for answer in raw)
    assert stopped == [answer[: answer.index(EOS)] if EOS in answer else answer for answer in raw]


def test_a_prompt_longer_than_the_shortest_program_is_read_whole(lively: tuple[Model, Params]) -> None:
    tiny, params = lively
    answer = greedy(tiny, params, [[4, 3], LONG], max_new_tokens=70, batch_size=ROWS, eos_id=NEVER)[1][:3]
    batch = packed(tiny.config.architecture, [LONG], [answer], WIDTH)
    first = len(LONG) if tiny.config.architecture == "decoder" else 0
    assert logits(tiny, params, batch)[0, first : first + 3].argmax(axis=-1).tolist() == answer


def test_no_prompts_need_no_model() -> None:
    tiny = model("decoder")
    assert greedy(tiny, {"layer": jax.numpy.zeros(1)}, [], max_new_tokens=4, batch_size=8) == []


def test_decoding_stops_once_every_row_is_done(lively: tuple[Model, Params]) -> None:
    """Seen by what is left out: nothing is written after the last row's EOS."""
    asked = prompts(40)
    answers = greedy(*lively, asked, max_new_tokens=20, batch_size=ROWS)
    ending = [(prompt, answer) for prompt, answer in zip(asked, answers, strict=True) if len(answer) < 20][:ROWS]
    tokens = np.zeros((ROWS, 64), np.int32)
    for row, (prompt, _) in enumerate(ending):
        tokens[row, : len(prompt)] = prompt
    lengths = np.array([len(prompt) for prompt, _ in ending])
    placed = _placed((tokens, lengths, np.zeros(ROWS, bool)), _placement(lively[1], ROWS))
    written = np.asarray(_generate(lively[0], 64, lively[1], *placed, 20, EOS))
    last = max(len(answer) for _, answer in ending)
    assert (written[:, last] == EOS).any()
    assert (written[:, last + 1 :] == 0).all()
