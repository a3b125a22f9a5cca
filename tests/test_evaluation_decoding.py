"""Greedy decoding: the model's own most likely tokens, for any number of prompts of any length."""

import jax
import numpy as np
import pytest
from tiny import ARCHITECTURES, SortingBatches, examples, logits, model, packed, trainer

from flanscale.inference.decoding import _generate, greedy
from flanscale.models import Model, Params
from flanscale.schema import OptimizerConfig
from flanscale.training import train

EOS = 1
NEVER = -1  # an EOS that no model writes


@pytest.fixture(scope="module", params=ARCHITECTURES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Params]:
    """A model that has half learned to sort: it writes answers of several lengths, right and wrong."""
    tiny = model(request.param, d_model=32, head_dim=16, d_ff=48)
    config = trainer(steps=150, batch_rows=16, log_every=50)
    return tiny, train(
        tiny,
        OptimizerConfig(name="adamw", learning_rate=0.01, schedule="cosine", warmup_steps=10),
        config,
        SortingBatches(request.param, config),
        seed=0,
        checkpoint_dir=tmp_path_factory.mktemp("checkpoints"),
        log=lambda step, row: None,
        should_stop=lambda: False,
    )


def prompts(count: int, seed: int = 9) -> list[list[int]]:
    return [tokens.tolist() for tokens in examples(np.random.default_rng(seed), count)[0]]


def test_every_token_is_the_most_likely_one_given_those_before(trained: tuple[Model, Params]) -> None:
    tiny, params = trained
    asked = prompts(12)
    answers = greedy(tiny, params, asked, max_new_tokens=8, batch_size=5)
    assert len({tuple(answer) for answer in answers}) > 6, "a model that always says the same would prove nothing"
    assert any(len(answer) < 8 for answer in answers)
    for prompt, answer in zip(asked, answers, strict=True):
        batch = packed(tiny.config.architecture, [prompt], [answer])
        first = len(prompt) if tiny.config.architecture == "decoder" else 0
        forced = logits(tiny, params, batch)[0, first:].argmax(axis=-1)
        expected = [*answer, EOS] if len(answer) < 8 else answer
        assert forced[: len(expected)].tolist() == expected


def test_answers_come_in_the_order_of_the_prompts_whatever_the_batches(trained: tuple[Model, Params]) -> None:
    asked = prompts(9)
    alone = [greedy(*trained, [prompt], max_new_tokens=6, batch_size=1)[0] for prompt in asked]
    for batch_size in (4, 32):
        assert greedy(*trained, asked, max_new_tokens=6, batch_size=batch_size) == alone
    assert greedy(*trained, asked[::-1], max_new_tokens=6, batch_size=4) == alone[::-1]


def test_no_answer_is_longer_than_allowed_and_a_shorter_limit_cuts_the_same_answer(
    trained: tuple[Model, Params],
) -> None:
    long = greedy(*trained, prompts(6), max_new_tokens=70, batch_size=6, eos_id=NEVER)
    short = greedy(*trained, prompts(6), max_new_tokens=3, batch_size=6, eos_id=NEVER)
    assert {len(answer) for answer in long} == {70}
    assert short == [answer[:3] for answer in long]


def test_an_answer_ends_before_its_first_eos(trained: tuple[Model, Params]) -> None:
    raw = greedy(*trained, prompts(8), max_new_tokens=12, batch_size=8, eos_id=NEVER)
    stopped = greedy(*trained, prompts(8), max_new_tokens=12, batch_size=8)
    assert any(EOS in answer for answer in raw)
    assert stopped == [answer[: answer.index(EOS)] if EOS in answer else answer for answer in raw]


def test_a_prompt_longer_than_the_shortest_program_is_read_whole(trained: tuple[Model, Params]) -> None:
    tiny, params = trained
    long = np.random.default_rng(0).integers(2, 32, 90).tolist()
    answer = greedy(tiny, params, [[4, 3], long], max_new_tokens=3, batch_size=2, eos_id=NEVER)[1]
    batch = packed(tiny.config.architecture, [long], [answer], width=100)
    first = len(long) if tiny.config.architecture == "decoder" else 0
    assert logits(tiny, params, batch)[0, first : first + 3].argmax(axis=-1).tolist() == answer


def test_no_prompts_need_no_model() -> None:
    tiny = model("decoder")
    assert greedy(tiny, {"layer": jax.numpy.zeros(1)}, [], max_new_tokens=4, batch_size=8) == []


def test_decoding_stops_once_every_row_is_done(trained: tuple[Model, Params]) -> None:
    """Seen by what is left out: nothing is written after the last row's EOS."""
    asked = prompts(12)
    answers = greedy(*trained, asked, max_new_tokens=20, batch_size=6)
    ending = [(prompt, answer) for prompt, answer in zip(asked, answers, strict=True) if len(answer) < 20][:6]
    tokens = np.zeros((6, 64), np.int32)
    for row, (prompt, _) in enumerate(ending):
        tokens[row, : len(prompt)] = prompt
    lengths = np.array([len(prompt) for prompt, _ in ending])
    written = np.asarray(_generate(trained[0], 64, trained[1], tokens, lengths, np.zeros(6, bool), 20, EOS))
    last = max(len(answer) for _, answer in ending)
    assert (written[:, last] == EOS).any()
    assert (written[:, last + 1 :] == 0).all()
