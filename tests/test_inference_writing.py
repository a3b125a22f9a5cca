"""What a model writes is its own, for any number of prompts of any length, whoever is asked with them."""

from collections.abc import Sequence

import jax
import numpy as np
import pytest
from families import decoder, moved
from jax.sharding import NamedSharding, PartitionSpec
from tiny import ARCHITECTURES, examples, logits, model, packed
from written import answers, greedy, start_of

from flanscale.errors import NonFiniteLogits
from flanscale.evaluation.protocol import Question, Sampling, Written, ordered
from flanscale.inference import programs
from flanscale.inference.engine import Engine
from flanscale.inference.language_model import TrainedModel
from flanscale.inference.programs import Drawing
from flanscale.inference.writing import STRETCH, Limits, write
from flanscale.models import Model, Params, build_mesh
from flanscale.pipeline.packing import pack
from flanscale.pipeline.ragged import Ragged
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


def decoded(
    tiny: Model, params: Params, asked: list[list[int]], *, eos_id: int = EOS, **limits: int
) -> list[list[int]]:
    """Greedy answers to prompts as the architecture reads them: an encoder's end in EOS."""
    return greedy(tiny, params, [[*prompt, *ends(tiny)] for prompt in asked], eos_id=eos_id, **limits)


def ends(tiny: Model) -> list[int]:
    return [EOS] if tiny.config.architecture == "encoder_decoder" else []


def test_every_token_is_the_most_likely_one_given_those_before(lively: tuple[Model, Params]) -> None:
    tiny, params = lively
    asked = prompts(11)
    answers = decoded(tiny, params, asked, max_new_tokens=8, batch_size=ROWS)
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
    alone = [decoded(*lively, [prompt], max_new_tokens=6, batch_size=1)[0] for prompt in asked]
    for batch_size in (ROWS, 16):
        assert decoded(*lively, asked, max_new_tokens=6, batch_size=batch_size) == alone
    assert decoded(*lively, asked[::-1], max_new_tokens=6, batch_size=ROWS) == alone[::-1]


def test_no_answer_is_longer_than_allowed_and_a_shorter_limit_cuts_the_same_answer(
    lively: tuple[Model, Params],
) -> None:
    long = decoded(*lively, [LONG, *prompts(6)], max_new_tokens=70, batch_size=ROWS, eos_id=NEVER)
    short = decoded(*lively, prompts(6), max_new_tokens=3, batch_size=ROWS, eos_id=NEVER)
    assert {len(answer) for answer in long} == {70}
    assert short == [answer[:3] for answer in long[1:]]


def test_an_answer_ends_before_its_first_eos(lively: tuple[Model, Params]) -> None:
    raw = decoded(*lively, prompts(8), max_new_tokens=12, batch_size=ROWS, eos_id=NEVER)
    stopped = decoded(*lively, prompts(8), max_new_tokens=12, batch_size=ROWS)
    assert any(EOS in answer for answer in raw)
    assert stopped == [answer[: answer.index(EOS)] if EOS in answer else answer for answer in raw]


def test_a_prompt_longer_than_the_shortest_program_is_read_whole(lively: tuple[Model, Params]) -> None:
    tiny, params = lively
    answer = decoded(tiny, params, [[4, 3], LONG], max_new_tokens=70, batch_size=ROWS, eos_id=NEVER)[1][:3]
    batch = packed(tiny.config.architecture, [LONG], [answer], WIDTH)
    first = len(LONG) if tiny.config.architecture == "decoder" else 0
    assert logits(tiny, params, batch)[0, first : first + 3].argmax(axis=-1).tolist() == answer


def test_no_prompts_need_no_model() -> None:
    tiny = model("decoder")
    assert decoded(tiny, {"layer": jax.numpy.zeros(1)}, [], max_new_tokens=4, batch_size=8) == []


def test_writing_stops_once_every_row_is_done(lively: tuple[Model, Params], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by what is left out: nothing is written after the last row's EOS."""
    states: list[programs.State] = []
    seen = programs.write

    def kept(*given: object) -> programs.State:
        states.append(seen(*given))
        return states[-1]

    monkeypatch.setattr(programs, "write", kept)
    asked = prompts(40)
    every = decoded(*lively, asked, max_new_tokens=20, batch_size=ROWS)
    ending = [(prompt, answer) for prompt, answer in zip(asked, every, strict=True) if len(answer) < 20][:ROWS]
    states.clear()
    decoded(*lively, [prompt for prompt, _ in ending], max_new_tokens=20, batch_size=ROWS)
    assert [int(state.written) for state in states] == [1 + max(len(answer) for _, answer in ending)]


def test_a_rule_that_ends_answers_is_asked_while_they_are_written(lively: tuple[Model, Params]) -> None:
    """And what was written behind the text that ends one is no part of it."""
    tiny, params = lively
    asked = [[*start_of(tiny), *prompt, *ends(tiny)] for prompt in prompts(6)]
    whole = answers(tiny, params, asked, Limits(3 * STRETCH, (NEVER,)), rows=ROWS)
    rule = Limits(3 * STRETCH, (NEVER,), lambda tokens: 5 if len(tokens) >= 5 else None)
    for cut, long in zip(answers(tiny, params, asked, rule, rows=ROWS), whole, strict=True):
        assert cut[0].tokens == long[0].tokens[:5]
        assert (cut[0].ended, long[0].ended) == (True, False)
        np.testing.assert_allclose(cut[0].logprobs, long[0].logprobs[:5], atol=1e-5)
    never = Limits(3 * STRETCH, (NEVER,), lambda tokens: None)
    assert [each[0].tokens for each in answers(tiny, params, asked, never, rows=ROWS)] == [w[0].tokens for w in whole]


@pytest.mark.parametrize(
    "drawing",
    [
        pytest.param(Drawing(1.0), marks=pytest.mark.slow),
        Drawing(0.7, top_k=3, top_p=0.9),
        pytest.param(Drawing(1.0, top_p=0.5), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_sample_depends_on_its_key_alone(lively: tuple[Model, Params], drawing: Drawing) -> None:
    """Not on how many there are, nor on what else is asked, nor on the batch."""
    tiny, params = lively
    asked = [[*start_of(tiny), *prompt, *ends(tiny)] for prompt in prompts(7)]
    keys = np.random.default_rng(0).integers(0, 2**32, (7, 4, 2), np.uint32)
    limits = Limits(6, (EOS,))

    def drawn(places: list[int], samples: int, rows: int) -> list[list[list[int]]]:
        given = answers(
            tiny, params, [asked[i] for i in places], limits, rows=rows, drawing=drawing, keys=keys[places, :samples]
        )
        return [[answer.tokens for answer in each] for each in given]

    four = drawn(list(range(7)), 4, 16)
    assert len({tuple(tokens) for each in four for tokens in each}) > 12
    assert drawn(list(range(7)), 2, 16) == [each[:2] for each in four]
    assert drawn([5, 2], 4, 4) == [four[5], four[2]]


def test_samples_are_drawn_as_often_as_they_are_likely(lively: tuple[Model, Params]) -> None:
    tiny, params = lively
    prompt = [*start_of(tiny), *prompts(1)[0], *ends(tiny)]
    keys = np.random.default_rng(1).integers(0, 2**32, (1, 2000, 2), np.uint32)
    for drawing, kept in ((Drawing(0.5), 32), (Drawing(1.0, top_k=2), 2), (Drawing(1.0, top_p=0.6), None)):
        given = answers(tiny, params, [prompt], Limits(1, (NEVER,)), rows=2000, drawing=drawing, keys=keys)[0]
        tokens = np.array([answer.tokens[0] for answer in given])
        own = {answer.tokens[0]: float(answer.logprobs[0]) for answer in given}
        p = np.exp(np.array(list(own.values())) / drawing.temperature)
        if kept is not None and drawing.top_k:
            assert len(own) == kept
        if drawing.top_p < 1:  # no fewer than hold that much, and none that those before it make unnecessary
            assert sum(np.exp(list(own.values()))) >= 0.6 > sum(sorted(np.exp(list(own.values())))[1:])
        share = np.array([(tokens == token).mean() for token in own])
        expected = p / p.sum() if len(own) < 32 else p
        np.testing.assert_allclose(share, expected / expected.sum(), atol=0.04)


def test_prompts_that_begin_alike_are_answered_as_alone() -> None:
    """Their common tokens are read once, in front of all of them; with windows and caps too."""
    rng = np.random.default_rng(3)
    for family in ("llama", "gemma2"):
        tiny = decoder(family)
        params = jax.device_put(moved(tiny, seed=5))
        shared = [rng.integers(2, 32, 150).tolist() for _ in range(3)]
        asked = [[*shared[i % 3], *rng.integers(2, 32, rng.integers(1, 20)).tolist()] for i in range(29)]
        alone = [greedy(tiny, params, [p], max_new_tokens=6, batch_size=1, eos_id=EOS)[0] for p in asked]
        assert greedy(tiny, params, asked, max_new_tokens=6, batch_size=8, eos_id=EOS) == alone


def test_a_model_whose_prompts_see_themselves_whole_shares_nothing() -> None:
    tiny = decoder("palm_prefix")
    params = jax.device_put(moved(tiny, seed=5))
    shared = np.random.default_rng(0).integers(2, 32, 150).tolist()
    asked = [[*shared, 5, 6], [*shared, 7]]
    found = greedy(tiny, params, asked, max_new_tokens=4, batch_size=2, eos_id=NEVER)
    for prompt, answer in zip(asked, found, strict=True):
        pair = [np.array(prompt, np.int32)], [np.array(answer, np.int32)]
        batch = pack(*pair, architecture="decoder", input_tokens=160, target_tokens=8, bos_id=0, prefix=True).rows
        first = len(prompt)
        assert logits(tiny, params, batch)[0, first : first + 4].argmax(axis=-1).tolist() == answer


def test_many_lengths_take_few_programs() -> None:
    tiny = model("decoder")
    params = jax.device_put(moved(tiny, seed=5))
    rng = np.random.default_rng(0)
    shared = [rng.integers(2, 32, size).tolist() for size in (100, 300, 600)]
    asked = [[*shared[i % 3], *rng.integers(2, 32, rng.integers(1, 400)).tolist()] for i in range(60)]
    asked += [rng.integers(2, 32, rng.integers(1, 900)).tolist() for _ in range(20)]
    before = programs.write._cache_size()
    keys = np.zeros((len(asked), 1, 2), np.uint32)
    assert sum(map(len, write(Engine(tiny, params, 8), asked, Limits(2, (EOS,)), Drawing(), keys))) == 80
    assert programs.write._cache_size() - before <= 8


class Letters:
    """A tokenizer whose end token is id 2, as CodeT5's; letters stand for the ids from 3 on."""

    vocab_size, eos_id, fingerprint = 32, 2, ""

    def encode(self, texts: Sequence[str]) -> Ragged:
        return Ragged.of([np.array([ord(letter) - 94 for letter in text], np.int32) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def token_id(self, token: str) -> int | None:
        return None


def said(asked: TrainedModel, texts: list[str]) -> list[Written]:
    questions = [Question(text, text) for text in texts]
    found = ordered(asked.generate(questions, max_new_tokens=2, stop=(), sampling=Sampling()))
    return [one for (one,) in found]


@pytest.mark.parametrize("length", [3, 15, 16, 23])
def test_a_model_is_asked_in_rows_as_training_lays_them_out(lively: tuple[Model, Params], length: int) -> None:
    """Whichever id ends a text, and however long a prompt is."""
    tiny, params = lively
    prompt = "abcdefghijklmnopqrstuvwxyz"[:length]
    if tiny.config.architecture == "decoder":
        prompt = prompt[-13:]  # a decoder's row has no width of its own for inputs
    answer = [
        int(token) for token in said(TrainedModel(Engine(tiny, params, ROWS), Letters(), 32), [prompt])[0].text.split()
    ]
    ids = Letters().encode([prompt])[0]
    rows = pack(
        [ids], [np.array(answer, np.int32)], architecture=tiny.config.architecture, input_tokens=16, target_tokens=16,
        eos_id=2,
    ).rows  # fmt: skip
    first = len(ids) if tiny.config.architecture == "decoder" else 0
    forced = logits(tiny, params, rows)[0, first : first + 2].argmax(axis=-1).tolist()
    assert forced == [*answer, 2][:2]


def test_the_prompt_without_an_answer_is_named(lively: tuple[Model, Params]) -> None:
    tiny, params = lively
    broken = jax.tree.map(lambda x: x * np.nan, params)
    with pytest.raises(NonFiniteLogits, match=r"not finite in the answer to prompt 1: .* diverged, 'abc'$"):
        said(TrainedModel(Engine(tiny, broken, ROWS), Letters(), 32), ["abc", "de"])


def test_logits_that_are_not_finite_are_no_answer(lively: tuple[Model, Params]) -> None:
    """One token's vector is no number: the prompts that hold it have no answer, and say so."""
    tiny, params = lively
    broken = jax.tree.map(lambda x: x, params)
    broken["vocabulary"] = params["vocabulary"] | {"embedding": params["vocabulary"]["embedding"].at[7].set(np.nan)}
    asked = [[4, 3], [5, 6, 7], [9, 2], [7, 8]]
    with pytest.raises(NonFiniteLogits, match=r"not finite in the answer to prompt [1-4]: ") as caught:
        decoded(tiny, broken, asked, max_new_tokens=4, batch_size=ROWS)
    assert caught.value.failure_class == "nonfinite_loss"
    with pytest.raises(NonFiniteLogits, match="prompt 1"):
        decoded(tiny, broken, [[7]], max_new_tokens=1, batch_size=ROWS)
    infinite = params | {"vocabulary": params["vocabulary"] | {"head": params["vocabulary"]["head"] * np.inf}}
    with pytest.raises(NonFiniteLogits, match=r"prompt [1-4]"):
        decoded(tiny, infinite, asked, max_new_tokens=4, batch_size=ROWS)


def test_what_is_not_finite_behind_an_end_is_no_part_of_an_answer(lively: tuple[Model, Params]) -> None:
    """A row that has ended is computed on while others go on; what it gives then is not looked at."""
    tiny, params = lively
    asked = prompts(40)
    long = decoded(tiny, params, asked, max_new_tokens=5, batch_size=ROWS, eos_id=NEVER)
    ended, end = next((i, a[0]) for i, a in enumerate(long) if a[0] not in (0, EOS, *asked[i]))
    other = next(i for i, answer in enumerate(long) if end not in (*answer, *asked[i]))
    table = params["vocabulary"]["embedding"].at[end].set(np.nan)
    broken = params | {"vocabulary": params["vocabulary"] | {"embedding": table}}
    read = [[*asked[i], *ends(tiny)] for i in (ended, other)]
    assert greedy(tiny, broken, read, max_new_tokens=5, batch_size=ROWS, eos_id=end) == [[], long[other]]
