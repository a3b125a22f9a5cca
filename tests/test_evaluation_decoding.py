"""Greedy decoding: the model's own most likely tokens, for any number of prompts of any length."""

from collections.abc import Sequence

import jax
import numpy as np
import pytest
from families import moved
from jax.sharding import NamedSharding, PartitionSpec
from tiny import ARCHITECTURES, examples, logits, model, packed

from flanscale.errors import NonFiniteLogits
from flanscale.inference.decoding import _generate, _placed, _placement, greedy
from flanscale.inference.language_model import TrainedModel
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


def test_decoding_stops_once_every_row_is_done(lively: tuple[Model, Params]) -> None:
    """Seen by what is left out: nothing is written after the last row's EOS."""
    asked = prompts(40)
    answers = decoded(*lively, asked, max_new_tokens=20, batch_size=ROWS)
    ending = [(prompt, answer) for prompt, answer in zip(asked, answers, strict=True) if len(answer) < 20][:ROWS]
    tokens, lengths = np.zeros((ROWS, 64), np.int32), np.zeros(ROWS, np.int32)
    for row, (prompt, _) in enumerate(ending):
        read = [*prompt, *ends(lively[0])]
        tokens[row, : len(read)], lengths[row] = read, len(read)
    placed = _placed((tokens, lengths, np.zeros(ROWS, bool)), _placement(lively[1], ROWS))
    written = np.asarray(_generate(lively[0], 64, lively[1], *placed, 20, EOS))
    last = max(len(answer) for _, answer in ending)
    assert (written[:, last] == EOS).any()
    assert (written[:, last + 1 :] == 0).all()


class Letters:
    """A tokenizer whose end token is id 2, as CodeT5's; letters stand for the ids from 3 on."""

    vocab_size, eos_id, fingerprint = 32, 2, ""

    def encode(self, texts: Sequence[str]) -> Ragged:
        return Ragged.of([np.array([ord(letter) - 94 for letter in text], np.int32) for text in texts])

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def token_id(self, token: str) -> int | None:
        return None


@pytest.mark.parametrize("length", [3, 15, 16, 23])
def test_a_model_is_asked_in_rows_as_training_lays_them_out(lively: tuple[Model, Params], length: int) -> None:
    """Whichever id ends a text, and however long a prompt is."""
    tiny, params = lively
    prompt = "abcdefghijklmnopqrstuvwxyz"[:length]
    if tiny.config.architecture == "decoder":
        prompt = prompt[-13:]  # a decoder's row has no width of its own for inputs
    asked = TrainedModel(tiny, params, Letters(), input_tokens=16, batch_size=ROWS)
    answer = [int(token) for token in asked.generate([prompt], max_new_tokens=2)[0].split()]
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
    asked = TrainedModel(tiny, broken, Letters(), input_tokens=16, batch_size=ROWS)
    with pytest.raises(NonFiniteLogits, match=r"in 2 of 2 answers.*; the first is that to prompt 1, 'abc'$"):
        asked.generate(["abc", "de"], max_new_tokens=2)


def test_logits_that_are_not_finite_are_no_answer(lively: tuple[Model, Params]) -> None:
    """One token's vector is no number: the prompts that hold it have no answer, and say so."""
    tiny, params = lively
    broken = jax.tree.map(lambda x: x, params)
    broken["vocabulary"] = params["vocabulary"] | {"embedding": params["vocabulary"]["embedding"].at[7].set(np.nan)}
    asked = [[4, 3], [5, 6, 7], [9, 2], [7, 8]]
    with pytest.raises(NonFiniteLogits, match=r"not finite in [2-4] of 4 answers.* prompt [12]$") as caught:
        decoded(tiny, broken, asked, max_new_tokens=4, batch_size=ROWS)
    assert caught.value.failure_class == "nonfinite_loss"
    with pytest.raises(NonFiniteLogits, match="in 1 of 1 answers"):
        decoded(tiny, broken, [[7]], max_new_tokens=1, batch_size=ROWS)
    infinite = params | {"vocabulary": params["vocabulary"] | {"head": params["vocabulary"]["head"] * np.inf}}
    with pytest.raises(NonFiniteLogits, match="in 4 of 4 answers"):
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
