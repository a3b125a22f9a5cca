"""How likely are given continuations? Options of one context stand behind it as branches that do not see each other.

Contexts are packed into rows of one width, so that there is one program, and a prefix that several contexts share is
read once, in front of all rows of its group. The vocabulary is projected where a token is scored and nowhere else.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from flanscale.inference import programs
from flanscale.inference.batching import fill, rounded, widths
from flanscale.inference.engine import Engine, fetched
from flanscale.inference.prefixes import OVERHEAD, Group, groups
from flanscale.inference.reading import read_prefixes, spots_of
from flanscale.models.parts import BLOCK, NOTHING, Part, Spots

PIECE = 16
"""Rows that share a prefix on one of several devices; others read it again."""
ATTENDED = 6
"""Times a model's width: at so many positions a token looks in the time that all products of a layer take it."""
ROOMS = 4
"""Widths that rows may have: a group's last row is rarely full."""
ENCODED = 4
"""Times as many tokens are encoded together as keep a device busy: the rows that are decoded behind them are short."""
SLACK = 1.1
"""How much more room for scored positions a row has than rows need on average."""


@dataclass(frozen=True)
class Continuations:
    """A context, not empty, and what may follow it: token ids. An option without tokens is certain.

    A decoder's context begins as its rows do in training, an encoder's ends as its rows do.
    """

    context: Sequence[int]
    options: Sequence[Sequence[int]]


Scores = list[tuple[np.ndarray, bool]]
"""Of each option: the log-probabilities of its tokens, and whether each of these was the most likely one."""


def score(engine: Engine, asked: Sequence[Continuations], done: Container[int] = ()) -> Iterator[dict[int, Scores]]:
    """The scores of each context's options, by its place, a batch at a time; none of a batch of which all are done.

    Log-probabilities are NaN where logits are not finite.
    """
    if not asked:
        return
    encoder_decoder = engine.model.config.architecture == "encoder_decoder"
    steps = _encoded(engine, asked, done) if encoder_decoder else _behind_prefixes(engine, asked, done)
    waiting: tuple[list[_Row], tuple] | None = None
    for rows, results in steps:
        if waiting:
            yield _collected(asked, *waiting)
        waiting = rows, results
    if waiting:
        yield _collected(asked, *waiting)


# --- rows -------------------------------------------------------------------------------------------------------------


class _Room(NamedTuple):
    """How much a row holds: tokens, positions with logits, and scored tokens."""

    tokens: int
    logits: int
    scored: int


@dataclass
class _Row:
    """One row while it is filled, and where the scores of its options will be."""

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    branches: np.ndarray
    since: np.ndarray
    wanted: np.ndarray  # positions
    which: np.ndarray
    scored: np.ndarray  # tokens
    members: list[int]
    used: list[int]

    @staticmethod
    def empty(room: _Room) -> _Row:
        tokens, positions, segments, branches, since = (np.zeros(room.tokens, np.int32) for _ in range(5))
        wanted = np.zeros(room.logits, np.int32)
        which, scored = (np.zeros(room.scored, np.int32) for _ in range(2))
        return _Row(tokens, positions + NOTHING, segments, branches, since, wanted, which, scored, [], [0, 0, 0])

    def add(self, place: int, own: Sequence[int], behind: int, options: Sequence[Sequence[int]]) -> None:
        """One context's last tokens, which stand `behind` so many others, with its options."""
        self.members.append(place)
        at, logits, scored = self.used
        number = len(self.members)
        end = at + len(own)
        self.tokens[at:end] = own
        self.positions[at:end] = np.arange(behind, behind + len(own))
        self.segments[at:end] = number
        self.wanted[logits] = end - 1
        first, logits = logits, logits + 1
        for branch, option in enumerate(options, start=1):
            inner = max(0, len(option) - 1)
            here = slice(end, end + inner)
            self.tokens[here], self.segments[here], self.branches[here] = option[:-1], number, branch
            self.since[here] = self.positions[here] = behind + len(own) + np.arange(inner)
            self.wanted[logits : logits + inner] = np.arange(end, end + inner)
            self.which[scored : scored + len(option)] = [first, *range(logits, logits + inner)]
            self.scored[scored : scored + len(option)] = option
            end, logits, scored = end + inner, logits + inner, scored + len(option)
        self.used = [end, logits, scored]


_Needs = tuple[int, int, int]
"""Tokens, positions with logits, and scored tokens."""


def _needs(own: int, options: Sequence[Sequence[int]]) -> _Needs:
    """What a context with so many tokens of its own takes of a row."""
    inner = sum(max(0, len(option) - 1) for option in options)
    return own + inner, 1 + inner, sum(map(len, options))


def _room(needs: Sequence[_Needs], most: int) -> _Room:
    """Rows of `most` tokens, or what the longest needs, or all; with as much of the rest as goes with that."""
    whole, largest = np.sum(needs, axis=0), np.max(needs, axis=0)
    tokens = rounded(max(min(most, whole[0]), largest[0]), 16)
    logits, scored = (
        rounded(min(max(least, SLACK * tokens * total / whole[0]), total), 16)
        for total, least in zip(whole[1:], largest[1:], strict=True)
    )
    return _Room(tokens, logits, scored)


# --- decoders ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """Rows behind one prefix, for one device: the places of the contexts in each."""

    prefix: Sequence[int]
    rows: list[list[int]]


@dataclass(frozen=True)
class _Layout:
    """All jobs, the room for any of their prefixes, and the rooms that rows may have."""

    jobs: list[_Job]
    capacity: int  # 0: there are no prefixes
    rooms: tuple[_Room, ...]  # ascending
    needs: Mapping[int, _Needs]  # of each context

    def room(self, rows: Sequence[list[int]]) -> _Room:
        """The least that holds each of the rows, at least one of which is not empty."""
        taken = np.max([_taken(row, self.needs) for row in rows if row], axis=0)
        return next(room for room in self.rooms if (taken <= room).all())


def _behind_prefixes(
    engine: Engine, asked: Sequence[Continuations], done: Container[int]
) -> Iterator[tuple[list[_Row], tuple]]:
    model, shards = engine.model, engine.shards
    layout = _laid_out(engine, asked)
    for start in range(0, len(layout.jobs), shards):
        batch = layout.jobs[start : start + shards]
        prefixes = [job.prefix for job in batch] + [[]] * (shards - len(batch))
        past: tuple[Part, ...] | None = None
        for number in range(max(len(job.rows) for job in batch)):
            members = [job.rows[number] if number < len(job.rows) else [] for job in batch]
            if all(place in done for row in members for place in row):
                continue
            engine.between()
            if past is None:
                past = (read_prefixes(engine, prefixes, layout.capacity),) if layout.capacity else ()
            room = layout.room(members)
            rows = [_row(room, row, len(job.prefix), asked) for row, job in zip(members, batch, strict=True)]
            rows += [_Row.empty(room)] * (shards - len(rows))
            with engine.in_mesh():
                tokens, spots, wanted = engine.put(_arrays(rows, model.config.prefix_lm))
                yield rows, programs.score(model, engine.params, tokens, spots, past, wanted)


def _row(room: _Room, members: Sequence[int], behind: int, asked: Sequence[Continuations]) -> _Row:
    row = _Row.empty(room)
    for place in members:
        row.add(place, asked[place].context[behind:], behind, asked[place].options)
    return row


def _laid_out(engine: Engine, asked: Sequence[Continuations]) -> _Layout:
    options = [one.options for one in asked]
    if engine.model.config.prefix_lm:  # whose prompts see themselves whole
        found = [Group(0, tuple(range(len(asked))))]
        most = max(engine.tokens_at_once, *(_needs(len(one.context), one.options)[0] for one in asked))
    else:
        most = engine.tokens_at_once
        found = groups([one.context for one in asked], OVERHEAD + most // 4)  # half of its last, narrow row is empty
        most = max(most, *(_needs(1, each)[0] for each in options))
        found = [part for group in found for part in _fitting(group, asked, most)]
    needs = {i: _needs(len(asked[i].context) - g.length, options[i]) for g in found for i in g.members}
    rooms, bins = _binned(engine, found, needs, most)
    jobs = []
    for group, rows in zip(found, bins, strict=True):
        prefix = asked[group.members[0]].context[: group.length]
        size = len(rows) if engine.shards == 1 else PIECE if prefix else 1
        jobs += [_Job(prefix, rows[start : start + size]) for start in range(0, len(rows), size)]
    jobs.sort(key=lambda job: (-len(job.rows), len(job.prefix)))  # on several devices: like ones together
    capacity = rounded(max(len(job.prefix) for job in jobs), max(BLOCK, engine.chunk))
    return _Layout(jobs, capacity, rooms, needs)


def _binned(
    engine: Engine, found: Sequence[Group], needs: Mapping[int, _Needs], most: int
) -> tuple[tuple[_Room, ...], list[list[list[int]]]]:
    """The rows of each group, by the places of contexts, and the rooms for them: about `most` tokens wide, as it costs
    least.
    """
    attended = ATTENDED * engine.model.config.d_model
    best: tuple[float, tuple[_Room, ...], list[list[list[int]]]] | None = None
    for width in range(most // 2, 2 * most + 1, most // 4):
        room = _room(list(needs.values()), width)
        bins = [
            [[group.members[member] for member in row] for row in fill([needs[i] for i in group.members], room)]
            for group in found
        ]
        taken = np.array([_taken(row, needs) for rows in bins for row in rows])
        rooms = _rooms(taken, engine.compiling)
        wide = np.array([room.tokens for room in rooms])
        own = wide[np.searchsorted(wide, taken[:, 0])]
        cost = float(np.sum(own * (1 + own / attended))) + engine.compiling * len(rooms)
        if best is None or cost < best[0]:
            best = cost, rooms, bins
    assert best
    return best[1:]


def _rooms(taken: Int[np.ndarray, "rows 3"], compiling: int) -> tuple[_Room, ...]:
    """Rooms, ascending in all measures, for rows that take so much."""
    rooms = []
    for width in widths(taken[:, 0].tolist(), ROOMS, 16, compiling):
        logits, scored = taken[taken[:, 0] <= width, 1:].max(axis=0)
        rooms.append(_Room(width, rounded(logits, 16), rounded(scored, 16)))
    return tuple(rooms)


def _taken(row: Sequence[int], needs: Mapping[int, _Needs]) -> Int[np.ndarray, " 3"]:
    """What contexts take of a row together."""
    taken: np.ndarray = np.sum([needs[place] for place in row], axis=0)
    return taken


def _fitting(group: Group, asked: Sequence[Continuations], most: int) -> list[Group]:
    """The group without members that fit no row behind its prefix: these get longer prefixes of their own."""
    fitting, alone = [], []
    for place in group.members:
        one = asked[place]
        over = _needs(len(one.context) - group.length, one.options)[0] - most
        if over > 0:
            alone.append(Group(group.length + over, (place,)))
        else:
            fitting.append(place)
    return ([Group(group.length, tuple(fitting))] if fitting else []) + alone


def _arrays(rows: Sequence[_Row], prefix_lm: bool) -> tuple[np.ndarray, Spots, programs.Wanted]:
    def stacked(name: str) -> np.ndarray:
        return np.stack([getattr(row, name) for row in rows])

    since = stacked("since") if prefix_lm else None
    spots = spots_of(stacked("positions"), stacked("segments"), stacked("branches"), since)
    wanted: Any = stacked("wanted"), stacked("which"), stacked("scored")
    return stacked("tokens"), spots, programs.Wanted(*wanted)


def _collected(asked: Sequence[Continuations], rows: Sequence[_Row], results: tuple) -> dict[int, Scores]:
    logprobs, greedy = map(fetched, results)
    found: dict[int, Scores] = {}
    for number, row in enumerate(rows):
        at = 0
        for place in row.members:
            found[place] = []
            for option in asked[place].options:
                here = slice(at, at + len(option))
                found[place].append((logprobs[number, here], bool(greedy[number, here].all())))
                at += len(option)
    return found


# --- encoder-decoders -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Encoding:
    """Contexts packed into the encoder's rows of one width, and how much the decoder's rows behind them hold."""

    width: int
    room: _Room
    rows: list[list[int]]  # the places of the contexts in each


def _encoded(
    engine: Engine, asked: Sequence[Continuations], done: Container[int]
) -> Iterator[tuple[list[_Row], tuple]]:
    """Contexts packed into the encoder's rows, behind a start token their options into the decoder's."""
    model = engine.model
    for encoding in _encodings(engine, asked):
        width, room, packed = encoding.width, encoding.room, encoding.rows
        most = -(-len(packed) // engine.shards)
        at_once = max(1, min(ENCODED * engine.tokens_at_once // width, most)) * engine.shards
        for start in range(0, len(packed), at_once):
            batch = packed[start : start + at_once]
            if all(place in done for members in batch for place in members):
                continue
            engine.between()
            rows = [_Row.empty(room) for _ in range(at_once)]
            tokens, segments = (np.zeros((at_once, width), np.int32) for _ in range(2))
            for number, members in enumerate(batch):
                at = 0
                for segment, place in enumerate(members, start=1):
                    one = asked[place]
                    here = slice(at, at + len(one.context))
                    tokens[number, here], segments[number, here] = one.context, segment
                    rows[number].add(place, [0], 0, one.options)
                    at = here.stop
            with engine.in_mesh():
                encoded = programs.encode(model, engine.params, *engine.put((tokens, segments)))
                targets, spots, wanted = engine.put(_arrays(rows, prefix_lm=False))
                yield rows, programs.score(model, engine.params, targets, spots, (encoded,), wanted)


def _encodings(engine: Engine, asked: Sequence[Continuations]) -> list[_Encoding]:
    """All contexts in rows of few widths; how wide those of short contexts are is chosen by what that costs."""
    lengths = [len(one.context) for one in asked]
    classes = widths(lengths, 3, 64, engine.compiling)
    attended, most = ATTENDED * engine.model.config.d_model, engine.tokens_at_once
    ways = [
        _packed(asked, lengths, classes, min(least, sum(lengths))) for least in range(most // 2, most + 1, most // 8)
    ]
    return min(ways, key=lambda way: sum(len(one.rows) * one.width * (1 + one.width / attended) for one in way))


def _packed(
    asked: Sequence[Continuations], lengths: Sequence[int], classes: Sequence[int], least: int
) -> list[_Encoding]:
    found, narrower = [], 0
    for width in sorted({max(width, least) for width in classes}):
        mine = [i for i, length in enumerate(lengths) if narrower < length <= width]
        needs = [_needs(1, asked[i].options) for i in mine]
        share = width * np.sum(needs, axis=0)[0] / sum(lengths[i] for i in mine)
        room = _room(needs, int(np.ceil(SLACK * share)))
        bins = fill([(lengths[i], *need) for i, need in zip(mine, needs, strict=True)], (width, *room))
        found.append(_Encoding(width, room, [[mine[member] for member in members] for members in bins]))
        narrower = width
    return found
