"""What does a model write behind prompts? Token by token, many rows together.

Rows that continue one prompt look at what was read of it once, and so do prompts that begin alike. Rows are written in
batches of one size; where there is a rule that ends an answer, it is asked every few tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt

from flanscale.errors import NonFiniteLogits
from flanscale.inference import programs
from flanscale.inference.batching import narrowest, padded, rounded, widths
from flanscale.inference.engine import Engine, fetched
from flanscale.inference.prefixes import Group, groups
from flanscale.inference.programs import NO_TOKEN, Drawing
from flanscale.inference.reading import chunk_of, read_prefixes, read_prompts, rows_together, step_of
from flanscale.models.parts import Part

STRETCH = 16
"""Tokens that are written before the rule is asked again."""
SLOTS = (2, 4, 8, 16)
"""How many groups of prompts may share a batch."""
WRITTEN = 3
"""Times as long as reading a token takes writing one, in a batch."""
SEEN = 350
"""Positions of a row's own that are looked at in the time that reading a token takes; of those that rows share, four
times as many.
"""
MOST_SHAPES = 8
STEP = 32
"""Room for answers comes in multiples of it."""

Ended = Callable[[Sequence[int]], int | None]
"""How many of an answer's tokens are needed for a text that ends it; None where there is none in it."""


@dataclass(frozen=True)
class Answer:
    """One continuation: its tokens, without EOS; their log-probabilities, with that of EOS; and how it ended."""

    tokens: list[int]
    logprobs: np.ndarray
    ended: bool


@dataclass(frozen=True)
class Limits:
    """When an answer is over: after so many tokens, at one of these, or where a rule says so."""

    max_new_tokens: int
    eos_ids: tuple[int, ...]
    ended: Ended | None = None


def write(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    limits: Limits,
    drawing: Drawing,
    keys: UInt[np.ndarray, "prompts k 2"],
    done: Container[int] = (),
) -> Iterator[dict[int, list[Answer]]]:
    """k answers to each prompt, by its place, a batch at a time; none of a batch of which all are done.

    Args:
        prompts: as the model reads them, none of them empty: a decoder's begin and an encoder's end as in training.
        keys: by which each answer is drawn.

    Raises:
        NonFiniteLogits: the model gave no token: the largest of its logits was not a finite number.
    """
    if not prompts:
        return
    copies = keys.shape[1]
    read: list[list[int]] = []  # what the past holds
    past: tuple[Part, ...] = ()
    for batch in _batches(engine, prompts, max(1, engine.rows // copies), limits.max_new_tokens):
        if all(place in done for slot in batch.slots for place in slot.members):
            continue
        engine.between()
        if batch.capacity and (prefixes := _prefixes(batch, prompts)) != read:
            read, past = prefixes, (read_prefixes(engine, prefixes, batch.capacity),)
        answers = _written(engine, prompts, batch, past if batch.capacity else (), limits, drawing, keys)
        for place, theirs in answers.items():
            if any(NO_TOKEN in answer.tokens for answer in theirs):
                raise NonFiniteLogits(
                    f"the model's logits are not finite in the answer to prompt {place + 1:,}: its parameters have"
                    " diverged",
                    place,
                )
        yield answers


@dataclass(frozen=True)
class _Batch:
    """Prompts that are read together, in slots of as many, each behind a prefix; of the shapes that programs have."""

    slots: tuple[Group, ...]
    shape: tuple[int, int]
    """How many slots there are, some of them idle, and prompts in each."""
    capacity: int
    """Of the prefixes; 0: there are none."""
    width: int
    """Of what follows them."""

    @property
    def programs(self) -> tuple[Any, ...]:
        """Batches with the same run the same programs."""
        return self.shape, self.capacity, self.width


def _batches(engine: Engine, prompts: Sequence[Sequence[int]], together: int, new: int) -> list[_Batch]:
    """All prompts in batches of `together`, of at most `MOST_SHAPES` shapes: those that cost least, of many ways.

    Groups that fill a batch have it for themselves; what is left of them shares batches, a few prompts in a slot.

    Args:
        new: tokens of an answer.
    """
    together = rounded(min(together, len(prompts)), engine.shards)
    alone = [Group(0, tuple(range(len(prompts))))]
    found = alone if _sees_whole(engine) else groups(prompts)
    ways = [
        _shaped(engine, planned, prompts, wide, capacities)
        for some, rows in [(alone, 1), *((found, max(1, together // count)) for count in SLOTS if found != alone)]
        for planned in [_planned(some, prompts, together, rows)]
        for wide in (4, 3, 2, 1)
        for capacities in (3, 2, 1)
    ]
    few = [batches for batches in ways if len({batch.programs for batch in batches}) <= MOST_SHAPES]
    return min(few, key=lambda batches: _cost(engine, batches, prompts, new))


def _sees_whole(engine: Engine) -> bool:
    """Whether every token of a prompt sees all others, so that it cannot be read in pieces."""
    config = engine.model.config
    return config.architecture == "encoder_decoder" or config.prefix_lm


_Planned = tuple[tuple[Group, ...], tuple[int, int]]
"""Slots of a batch, and its shape."""


def _planned(found: Sequence[Group], prompts: Sequence[Sequence[int]], together: int, rows: int) -> list[_Planned]:
    """Which prompts go together, with so many in a slot of the batches that groups share."""
    whole, slots = [], []
    for group in found:
        members = sorted(group.members, key=lambda i: (-len(prompts[i]), i))
        alone = len(members) if group.length == 0 else len(members) // together * together
        whole += [Group(group.length, tuple(members[i : i + together])) for i in range(0, alone, together)]
        slots += [Group(group.length, tuple(members[i : i + rows])) for i in range(alone, len(members), rows)]
    slots.sort(key=lambda slot: (-slot.length, -_longest(slot, prompts)))
    count = together // rows
    planned: list[_Planned] = [((group,), (1, together)) for group in whole]
    return planned + [(tuple(slots[i : i + count]), (count, rows)) for i in range(0, len(slots), count)]


def _shaped(
    engine: Engine, planned: Sequence[_Planned], prompts: Sequence[Sequence[int]], most: int, most_capacities: int
) -> list[_Batch]:
    """Batches with at most so many widths of prompts and of prefixes."""
    own = [max(_longest(slot, prompts) for slot in slots) for slots, _ in planned]
    prefix = [max(slot.length for slot in slots) for slots, _ in planned]
    shared = [length for length in prefix if length]
    step = engine.step if _sees_whole(engine) else step_of(engine, max(own))
    wide, capacities = widths(own, most, step), widths(shared, most_capacities, engine.chunk) if shared else []
    return [
        _Batch(slots, shape, narrowest(length, capacities) if length else 0, narrowest(longest, wide))
        for (slots, shape), length, longest in zip(planned, prefix, own, strict=True)
    ]


def _cost(engine: Engine, batches: Sequence[_Batch], prompts: Sequence[Sequence[int]], new: int) -> float:
    """About how many tokens could be read in the time that these batches take."""
    cost, before = float(engine.compiling * len({batch.programs for batch in batches})), None
    for batch in batches:
        slots, rows = batch.shape
        cost += _prompt_tokens(engine, batch, prompts)
        cost += slots * rows * new * (WRITTEN + (batch.width + batch.capacity / 4) / SEEN)
        if batch.capacity and (slots > 1 or batch.slots[0].length != before):
            cost += slots * batch.capacity
        before = batch.slots[0].length if slots == 1 else None
    return cost


def _prompt_tokens(engine: Engine, batch: _Batch, prompts: Sequence[Sequence[int]]) -> int:
    """Tokens of prompts that are read, padding included."""
    slots, rows = batch.shape
    if _sees_whole(engine):
        return slots * rows * batch.width
    lengths = np.zeros((slots, rows), np.int64)
    for number, slot in enumerate(batch.slots):
        lengths[number, : len(slot.members)] = [len(prompts[i]) - slot.length for i in slot.members]
    chunk = chunk_of(engine, batch.width, batch.capacity > 0)
    each = rows_together(engine, batch.shape, chunk)
    return each * int(np.sum(-(-lengths.reshape(-1, each).max(axis=1) // chunk) * chunk))


def _prefixes(batch: _Batch, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The prefix of each slot, none of those that are idle."""
    own = [list(prompts[slot.members[0]][: slot.length]) for slot in batch.slots]
    return own + [[]] * (batch.shape[0] - len(own))


def _longest(slot: Group, prompts: Sequence[Sequence[int]]) -> int:
    return max(len(prompts[i]) for i in slot.members) - slot.length


def _written(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    batch: _Batch,
    past: tuple[Part, ...],
    limits: Limits,
    drawing: Drawing,
    keys: UInt[np.ndarray, "prompts k 2"],
) -> dict[int, list[Answer]]:
    """The answers to one batch, behind the prefixes of its slots."""
    model, params, copies = engine.model, engine.for_writing, keys.shape[1]
    slots, rows = batch.shape
    own: list[Sequence[int]] = [[]] * (slots * rows)
    behind = np.zeros(slots * rows, np.int32)
    drawn = np.zeros((slots * rows, copies, 2), np.uint32)
    places: dict[int, int] = {}
    for number, slot in enumerate(batch.slots):
        for row, place in enumerate(slot.members, start=number * rows):
            own[row], behind[row] = prompts[place][slot.length :], slot.length
            drawn[row], places[row] = keys[place], place
    lengths = np.array([len(tokens) for tokens in own], np.int32)
    last = np.array([tokens[-1] if tokens else 0 for tokens in own], np.int32)
    unused = lengths == 0
    positions = behind + lengths - 1
    if model.config.architecture == "encoder_decoder":  # which writes behind a start token
        last, positions = np.zeros_like(last), np.zeros_like(positions)
    if _sees_whole(engine):
        with engine.in_mesh():
            past = (programs.read_whole(model, params, *engine.put((padded(own, batch.width), lengths))),)
    else:
        before = [tokens[:-1] for tokens in own]  # the last is read with what is written
        past = (*past, read_prompts(engine, before, behind.tolist(), batch.shape, batch.width, past))
    with engine.in_mesh():
        each = engine.put(tuple(np.repeat(values, copies) for values in (last, positions, unused)))
        state = programs.begin(model, rounded(limits.max_new_tokens, STEP), *each)
        rows_keys = engine.put(drawn.reshape(-1, 2)) if drawing.temperature else None
        eos_ids = engine.put_whole(np.asarray(limits.eos_ids, np.int32))
        until = 0
        while True:
            until = min(limits.max_new_tokens, until + STRETCH) if limits.ended else limits.max_new_tokens
            state = programs.write(model, drawing, params, past, state, jnp.int32(until), eos_ids, rows_keys)
            if until == limits.max_new_tokens:
                break
            done = fetched(state.done) | _over(fetched(state.tokens)[:, :until], limits)
            if done.all():
                break
            state = state._replace(done=engine.put(done))
    written, logprobs = fetched(state.tokens)[:, :until], fetched(state.logprobs)
    return {
        place: [_answer(written[i], logprobs[i], limits) for i in range(row * copies, (row + 1) * copies)]
        for row, place in places.items()
    }


def _over(tokens: np.ndarray, limits: Limits) -> np.ndarray:
    """Which rows hold a text that ends an answer."""
    assert limits.ended
    return np.array([limits.ended(_until_eos(row, limits)[0]) is not None for row in tokens])


def _until_eos(row: np.ndarray, limits: Limits) -> tuple[list[int], bool]:
    """What was written before an EOS, and whether there is one."""
    ends = np.flatnonzero(np.isin(row, limits.eos_ids))
    return row[: ends[0] if len(ends) else len(row)].tolist(), len(ends) > 0


def _answer(row: np.ndarray, logprobs: np.ndarray, limits: Limits) -> Answer:
    tokens, ended = _until_eos(row, limits)
    count = len(tokens) + ended
    if limits.ended and (needed := limits.ended(tokens)) is not None:
        tokens, ended, count = tokens[:needed], True, needed
    return Answer(tokens, logprobs[:count], ended)
