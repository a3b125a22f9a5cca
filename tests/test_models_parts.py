"""What was read before is seen as if it stood in one row, whoever shares it."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from families import DECODERS, decoder, moved, tokens
from tiny import ARCHITECTURES, logits, model

from flanscale.models import Model, Params
from flanscale.models.parts import BLOCK, MANY, NOTHING, OverParts, Part, Spots, sight, slots_used, visible
from flanscale.pipeline.packing import pack

WIDTH = 40  # of the rows that hold all tokens of a text


@partial(jax.jit, static_argnums=0)
def read(tiny: Model, params: Params, *given: Any) -> tuple[jax.Array, Part]:
    x, part = tiny.read(params, *given)
    return tiny.logits(params, x), part


encode = jax.jit(Model.encode, static_argnums=0)


def spots(*starts: tuple[int, int], width: int, prefix: bool = False) -> Spots:
    """Rows of tokens that stand from a position on, each of its own length."""
    places = [np.pad(np.arange(at, at + n), (0, width - n), constant_values=NOTHING) for at, n in starts]
    positions = np.array(places, np.int32)
    return Spots(positions, since=np.zeros_like(positions) if prefix else None)  # type: ignore[arg-type]


def padded(rows: list[list[int]], width: int) -> np.ndarray:
    return np.array([np.pad(row, (0, width - len(row))) for row in rows], np.int32)


def whole(tiny: Model, params: Params, text: list[int], target: list[int]) -> np.ndarray:
    """The logits of the target's tokens in one row, as training has it."""
    c = tiny.config
    pair = [np.array(text, np.int32)], [np.array(target, np.int32)]
    laid_out = {"input_tokens": WIDTH, "target_tokens": WIDTH, "bos_id": c.bos_id, "prefix": c.prefix_lm}
    batch = pack(*pair, architecture=c.architecture, **laid_out).rows
    start = c.bos_id is not None
    first = len(text) - 1 + start if c.architecture == "decoder" else 0
    return logits(tiny, params, batch)[0, first : first + len(target)]


# By default those that between them use every option that a position's place depends on.
CACHED = [*((family, False) for family in ("palm_prefix", "neox", "llama", "olmo2", "gemma3")), ("gemma2", True)]
OTHERS = [(family, False) for family in DECODERS if (family, False) not in CACHED] + [("palm_prefix", True)]


@pytest.mark.parametrize(
    ("family", "scan"), [*CACHED, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS)]
)
def test_behind_a_prompt_every_token_has_the_logits_of_the_whole_text(family: str, scan: bool) -> None:
    """The prompt is read in one go, the answer token by token into room that was made for it."""
    tiny = decoder(family, scan=scan)
    params = tiny.for_decoding(moved(tiny, 4))
    start = [] if tiny.config.bos_id is None else [tiny.config.bos_id]
    prompts, answers = [tokens(n, n) for n in (1, 6, 3)], np.array([tokens(6, 10 + n) for n in range(3)], np.int32)
    texts = [[*start, *prompt] for prompt in prompts]
    lengths = np.array([len(text) for text in texts])
    first, part = read(
        tiny, params, padded(texts, 8), spots(*((0, n) for n in lengths), width=8, prefix=start_is_seen(tiny))
    )
    found = [np.asarray(first)[np.arange(3), lengths - 1]]
    own = tiny.empty(spots((0, 0), (0, 0), (0, 0), width=5, prefix=start_is_seen(tiny)))
    for step in range(5):
        here = Spots((lengths + step)[:, None].astype(np.int32))  # type: ignore[arg-type]
        if start_is_seen(tiny):
            here = here._replace(since=here.positions)
        given, own = read(tiny, params, answers[:, step : step + 1], here, (part,), own, step)
        found.append(np.asarray(given)[:, 0])
    for prompt, answer, ours in zip(prompts, answers, np.stack(found, 1), strict=True):
        np.testing.assert_allclose(ours, whole(tiny, moved(tiny, 4), prompt, answer.tolist()), atol=2e-5)


def start_is_seen(tiny: Model) -> bool:
    return tiny.config.prefix_lm


@pytest.mark.parametrize(
    "family", ["llama", "gemma2", *(pytest.param(f, marks=pytest.mark.slow) for f in ("neox", "palm"))]
)
def test_parts_of_fewer_rows_are_seen_by_all_that_share_them(family: str) -> None:
    """One prefix, two prompts behind it, two answers behind each, in chunks into room that is longer than needed."""
    tiny = decoder(family)
    params = moved(tiny, 4)
    start = [] if tiny.config.bos_id is None else [tiny.config.bos_id]
    prefix, prompts, answers = (
        [*start, *tokens(7, 1)],
        [tokens(5, 2), tokens(3, 3)],
        [tokens(4, 10 + n) for n in range(4)],
    )
    room = tiny.empty(spots((0, 0), width=12))
    for at in (0, 4):
        chunk = prefix[at : at + 4]
        placed = spots((at, len(chunk)), width=4)
        _, room = read(tiny, params, padded([chunk], 4), placed, (), room, at)
    behind = len(prefix)
    placed = spots(*((behind, len(prompt)) for prompt in prompts), width=5)
    _, middle = read(tiny, params, padded(prompts, 5), placed, (room,))
    ends = [behind + len(prompts[n // 2]) for n in range(4)]
    found, _ = read(tiny, params, padded(answers, 4), spots(*((end, 4) for end in ends), width=4), (room, middle))
    for number, answer in enumerate(answers):
        text = [*prefix[len(start) :], *prompts[number // 2]]
        np.testing.assert_allclose(found[number, :3], whole(tiny, params, text, answer)[1:], atol=2e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_an_encoder_decoder_writes_behind_what_it_encoded_once(scan: bool) -> None:
    """Two prompts, the second of which is answered twice, token by token."""
    tiny = model("encoder_decoder", scan=scan)
    params = moved(tiny, 4)
    prompts, answers = [tokens(6, 1), tokens(3, 2)], np.array([tokens(5, 10 + n) for n in range(4)], np.int32)
    read_by_encoder = padded([[*prompt, 1] for prompt in prompts], 8)
    encoded = encode(tiny, params, read_by_encoder, (read_by_encoder > 0).astype(np.int32))
    encoded = encoded._replace(spots=encoded.spots._replace(segments=None))
    own = tiny.empty(spots(*((0, 0) for _ in range(4)), width=6))
    inputs = np.pad(answers, ((0, 0), (1, 0)))
    found = []
    for step in range(5):
        here = Spots(np.full((4, 1), step, np.int32))  # type: ignore[arg-type]
        given, own = read(tiny, params, inputs[:, step : step + 1], here, (encoded,), own, step)
        found.append(np.asarray(given)[:, 0])
    for number, ours in enumerate(np.stack(found, 1)):
        theirs = whole(tiny, params, prompts[number // 2], answers[number].tolist())
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_differs_by_its_rounding_alone(architecture: str) -> None:
    tiny, exact = model(architecture, "bfloat16"), model(architecture)
    params = moved(tiny, 4)
    prompt, answer = tokens(6, 1), tokens(5, 2)
    texts = {"decoder": [0, *prompt], "encoder_decoder": [*prompt, 1]}[architecture]
    if architecture == "decoder":
        _, part = read(tiny, params, padded([texts], 7), spots((0, 7), width=7))
        found, _ = read(tiny, params, padded([answer], 5), spots((7, 5), width=5), (part,))
        expected = whole(exact, params, prompt, answer)[1:]
    else:
        part = encode(tiny, params, padded([texts], 7), np.ones((1, 7), np.int32))
        part = part._replace(spots=part.spots._replace(segments=None))
        found, _ = read(tiny, params, padded([[0, *answer[:-1]]], 5), spots((0, 5), width=5), (part,))
        expected = whole(exact, params, prompt, answer)
    np.testing.assert_allclose(found[0, : len(expected)], expected, atol=0.2)


def test_who_sees_whom() -> None:
    """A prefix of all, two segments behind it, and two branches in the first."""
    keys = Spots(
        *(
            np.array([row], np.int32)
            for row in ([0, 1, 2, 3, 3, 2, NOTHING], [0, 0, 1, 1, 1, 2, 0], [0, 0, 0, 1, 2, 0, 0])
        )
    )  # type: ignore[arg-type]
    seen = np.asarray(visible(keys, keys))[0, 0].astype(int)
    assert seen[:6].tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 1, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
    ]
    near = np.asarray(visible(keys, keys, window=2))[0, 0].astype(int)
    assert near[:6].tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 0, 1, 0, 0],
        [0, 1, 0, 0, 0, 1, 0],
    ]


@pytest.mark.parametrize("held", [1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 70])
def test_the_slots_in_use_give_what_all_slots_give(held: int) -> None:
    """With room that is no multiple of the block, and values where nothing stands that would be noticed."""
    rng = np.random.default_rng(held)
    room, many = 2 * BLOCK + 70, MANY + 3
    positions = np.where(np.arange(room) < held, np.arange(room), NOTHING)[None].astype(np.int32)
    keys = Spots(jax.numpy.asarray(positions))
    queries = Spots(jax.numpy.asarray(np.tile(held + np.arange(many, dtype=np.int32), (2, 1))))
    q, k, v = (
        rng.normal(size=(rows, 2, count, 4)).astype(np.float32) for rows, count in ((2, many), (1, room), (1, room))
    )
    v[:, :, held:] = 1e6
    used = slots_used(queries, keys)
    assert int(used) == held
    few = Spots(queries.positions[:, : MANY - 1])
    assert slots_used(few, keys) is None
    bias = (sight(queries, keys),)
    over = OverParts(bias, (used,))(q, k, v)
    np.testing.assert_allclose(over, OverParts(bias, (None,))(q, k, v), atol=1e-5)
