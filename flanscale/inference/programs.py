"""What runs on the device: reading prompts, scoring tokens, and writing new ones.

Dimensions: B rows, r rows of a part, T positions of a row, Q positions of it whose next token is scored, E tokens that
are scored, M new tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from flanscale.models import Model, Params
from flanscale.models.parts import NOTHING, Part, Spots

NO_TOKEN = -2  # no id, nor the -1 that stands for an EOS that no model writes
LOGITS_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Drawing:
    """How the next token is drawn: the most likely one at temperature 0. Each is a program of its own."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0


@partial(jax.jit, static_argnames="model")
def encode(model: Model, params: Params, tokens: Int[Array, "r S"], segments: Int[Array, "r S"]) -> Part:
    return model.encode(params, tokens, segments)


@partial(jax.jit, static_argnames="model")
def room(model: Model, spots: Spots) -> Part:
    return model.empty(spots)


@partial(jax.jit, static_argnames="model")
def read(model: Model, params: Params, tokens: Int[Array, "r T"], spots: Spots, past: tuple[Part, ...]) -> Part:
    """A part of tokens that stand behind the past."""
    return model.read(params, tokens, spots, past)[1]


@partial(jax.jit, static_argnames="model", donate_argnames="into")
def extend(
    model: Model,
    params: Params,
    tokens: Int[Array, "r T"],
    spots: Spots,
    past: tuple[Part, ...],
    into: Part,
    slot: Int[Array, ""],
) -> Part:
    """The part with further tokens, which stand behind the past."""
    return model.read(params, tokens, spots, past, into, slot)[1]


@partial(jax.jit, static_argnames=("model", "count"))
def rows_of(model: Model, part: Part, first: Int[Array, ""], count: int) -> Part:
    """So many rows of a part."""

    def rows(x: Array, axis: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(x, first, count, axis)

    return jax.tree.map(rows, part, axes_of_rows(model, part))


@partial(jax.jit, static_argnames=("axis", "shards"))
def joined(arrays: tuple[Array, ...], axis: int, shards: int) -> Array:
    """Arrays one behind the other along an axis, on each of the devices that it is split over."""
    apart = [array.reshape(*array.shape[:axis], shards, -1, *array.shape[axis + 1 :]) for array in arrays]
    whole = jnp.concatenate(apart, axis + 1)
    return whole.reshape(*whole.shape[:axis], -1, *whole.shape[axis + 2 :])


def axes_of_rows(model: Model, part: Part) -> Part:
    """Of each array of a part, which axis its rows are."""
    axis = int(model.config.scan)
    return Part(jax.tree.map(lambda _: axis, part.layers), jax.tree.map(lambda _: 0, part.spots))


# --- scoring ----------------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """Tokens to be scored: each at one of the positions of its row whose logits are made."""

    positions: Int[Array, "B Q"]
    which: Int[Array, "B E"]  # of these
    tokens: Int[Array, "B E"]


@partial(jax.jit, static_argnames="model")
def score(
    model: Model, params: Params, tokens: Int[Array, "B T"], spots: Spots, past: tuple[Part, ...], wanted: Wanted
) -> tuple[Float[Array, "B E"], Bool[Array, "B E"]]:
    """The log-probability of every wanted token, NaN where logits are not finite, and whether it is the most likely."""
    x, _ = model.read(params, tokens, spots, past)
    x = jnp.take_along_axis(x, wanted.positions[..., None], axis=1)
    rows, count, width = x.shape
    piece = max(1, min(count, LOGITS_AT_ONCE // (rows * model.vocab_size)))
    x = jnp.pad(x, ((0, 0), (0, -count % piece), (0, 0))).reshape(rows, -1, piece, width)

    def of_piece(own: tuple[Array, Array]) -> tuple[Array, ...]:
        number, x = own
        logits = model.logits(params, x)
        total = jax.nn.logsumexp(logits, axis=-1)
        place = wanted.which - number * piece
        here = (place >= 0) & (place < piece)
        place = jnp.clip(place, 0, piece - 1)
        row = jnp.arange(rows)[:, None]
        given = logits[row, place, wanted.tokens]
        return here, given - total[row, place], jnp.argmax(logits, axis=-1)[row, place] == wanted.tokens

    pieces = x.shape[1]
    if pieces == 1:
        _, logprobs, greedy = of_piece((jnp.zeros((), jnp.int32), x[:, 0]))
        return logprobs, greedy
    here, logprobs, greedy = jax.lax.map(of_piece, (jnp.arange(pieces), jnp.moveaxis(x, 1, 0)))
    return jnp.sum(jnp.where(here, logprobs, 0), axis=0), jnp.any(here & greedy, axis=0)


# --- writing ----------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """Where rows are in what they write. All have as many tokens, some of them after their end."""

    written: Int[Array, ""]
    done: Bool[Array, " B"]
    tokens: Int[Array, "B M"]
    logprobs: Float[Array, "B M"]
    last: Int[Array, " B"]  # what is read next: the end of the prompt, or what was written last
    positions: Int[Array, " B"]  # where that stands
    own: Part  # B rows: what was written before it


@partial(jax.jit, static_argnames="model")
def read_whole(model: Model, params: Params, tokens: Int[Array, "r T"], lengths: Int[Array, " r"]) -> Part:
    """What the copies of each prompt look at while they write, where a prompt sees itself whole: an encoder-decoder's
    at all of it, a prefix LM's at all but its last token, which they read themselves.
    """
    place = jnp.arange(tokens.shape[1])
    if model.config.architecture == "encoder_decoder":
        part = model.encode(params, tokens, (place < lengths[:, None]).astype(jnp.int32))
        return part._replace(spots=part.spots._replace(segments=None))  # seen by all that write behind it
    positions = jnp.where(place < lengths[:, None], place, NOTHING)
    since = jnp.zeros_like(positions)
    _, part = model.read(params, tokens, Spots(positions, since=since))
    # Every token of the prompt saw the last one, which is now hidden from those who read it again.
    return Part(part.layers, Spots(jnp.where(place < lengths[:, None] - 1, positions, NOTHING), since=since))


@partial(jax.jit, static_argnames=("model", "capacity"))
def begin(
    model: Model, capacity: int, last: Int[Array, " B"], positions: Int[Array, " B"], unused: Bool[Array, " B"]
) -> State:
    """Rows that have written nothing; an encoder-decoder's read a start token first, at position 0."""
    rows = len(last)
    nowhere = jnp.full((rows, capacity), NOTHING)
    room = Spots(nowhere, since=jnp.zeros_like(nowhere) if model.config.prefix_lm else None)
    tokens, logprobs = jnp.zeros((rows, capacity), jnp.int32), jnp.zeros((rows, capacity))
    return State(jnp.zeros((), jnp.int32), unused, tokens, logprobs, last, positions, model.empty(room))


@partial(jax.jit, static_argnames=("model", "drawing"), donate_argnames="state")
def write(
    model: Model,
    drawing: Drawing,
    params: Params,
    past: tuple[Part, ...],
    state: State,
    until: Int[Array, ""],
    eos_ids: Int[Array, " eos"],
    keys: UInt[Array, "B 2"] | None,
) -> State:
    """Goes on until all have so many tokens, or are done; `keys` decide what is drawn at a temperature."""

    def unfinished(state: State) -> Array:
        return (state.written < until) & ~jnp.all(state.done)

    def step(state: State) -> State:
        spots = Spots(state.positions[:, None])
        if model.config.prefix_lm:
            spots = spots._replace(since=spots.positions)
        x, own = model.read(params, state.last[:, None], spots, past, state.own, state.written)
        logits = model.logits(params, x[:, 0])
        new = _draw(logits, drawing, keys, state.written)
        logprob = jnp.take_along_axis(logits, new[:, None], axis=1)[:, 0] - jax.nn.logsumexp(logits, axis=-1)
        new = jnp.where(jnp.isfinite(jnp.max(logits, axis=-1)), new, NO_TOKEN)  # it is NaN where any of them is
        return State(
            state.written + 1,
            state.done | jnp.any(new[:, None] == eos_ids, axis=1) | (new == NO_TOKEN),
            jax.lax.dynamic_update_slice_in_dim(state.tokens, new[:, None], state.written, axis=1),
            jax.lax.dynamic_update_slice_in_dim(state.logprobs, logprob[:, None], state.written, axis=1),
            new,
            state.positions + 1,
            own,
        )

    return jax.lax.while_loop(unfinished, step, state)


def _draw(
    logits: Float[Array, "B V"], drawing: Drawing, keys: UInt[Array, "B 2"] | None, count: Int[Array, ""]
) -> Int[Array, " B"]:
    """The tokens that come next."""
    if drawing.temperature == 0 or keys is None:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    scaled = logits / drawing.temperature
    if drawing.top_k is not None:
        least = jax.lax.top_k(scaled, drawing.top_k)[0][:, -1:]
        scaled = jnp.where(scaled < least, -jnp.inf, scaled)
    if drawing.top_p < 1:
        ordered = jnp.sort(scaled, axis=-1, descending=True)
        before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(ordered, axis=-1)
        least = jnp.min(jnp.where(before < drawing.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        scaled = jnp.where(scaled < least, -jnp.inf, scaled)

    def noise(key: Array) -> Array:
        return jax.random.gumbel(jax.random.fold_in(jax.random.wrap_key_data(key), count), logits.shape[1:])

    return jnp.argmax(scaled + jax.vmap(noise)(keys), axis=-1).astype(jnp.int32)
