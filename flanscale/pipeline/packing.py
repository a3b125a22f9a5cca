"""How do examples of many lengths become rows of one length?

Every row is filled so that both its features end full together, and its segments never see each other. Nothing is
dropped: what does not fit is cut and counted. Segment ids count from 1 in every row; 0 marks padding.

Dimensions: N examples, R rows, W positions of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from flanscale.pipeline.assignment import assign_rows
from flanscale.pipeline.ragged import Ragged, runs

PAD = 0  # also what a decoder reads before a segment's first token

Rows = dict[str, np.ndarray]  # seqio's field names → [R, W]


@dataclass(frozen=True)
class Packed:
    """A block of examples with the row of each; rows are laid out when asked for."""

    row_of_example: Int[np.ndarray, " N"]
    truncated: int  # examples that were cut
    stacks: dict[str, _Stack]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._examples_in_row)

    def take(self, rows: np.ndarray | slice) -> Rows:
        """Some rows by number, in the order asked for; the segments of a row keep the examples' order."""
        chosen = np.arange(len(self))[rows]
        counts = self._examples_in_row[chosen]
        examples = self._by_row[runs(self._first_of_row[chosen], counts)]
        fields: Rows = {}
        for name, stack in self.stacks.items():
            fields |= {f"{name}_{field}": array for field, array in stack.lay_out(examples, counts).items()}
        return fields

    @cached_property
    def rows(self) -> Rows:
        """All rows."""
        return self.take(slice(None))

    @cached_property
    def _examples_in_row(self) -> Int[np.ndarray, " R"]:
        return np.bincount(self.row_of_example)

    @cached_property
    def _first_of_row(self) -> Int[np.ndarray, " R"]:
        return np.cumsum(self._examples_in_row) - self._examples_in_row

    @cached_property
    def _by_row(self) -> Int[np.ndarray, " N"]:
        return np.argsort(self.row_of_example, kind="stable")


def pack(
    inputs: Ragged | Sequence[np.ndarray],
    targets: Ragged | Sequence[np.ndarray],
    *,
    architecture: str,
    input_tokens: int,
    target_tokens: int,
    eos_id: int = 1,
    bos_id: int | None = PAD,
    prefix: bool = False,
) -> Packed:
    """Packs pairs of token ids into few rows.

    encoder_decoder: an encoder row holds `inputs ⊕ EOS`, a decoder row `targets ⊕ EOS`. decoder: a row of
    input_tokens + target_tokens holds `inputs ⊕ targets ⊕ EOS`, with loss on targets and EOS. A target keeps its
    first target_tokens - 1 tokens and gets its EOS; an input keeps its end, where the question stands.

    Args:
        bos_id: what a decoder reads before a segment's first token; None: nothing, so that no segment predicts its
            first token and each takes one position less.
        prefix: mark with `decoder_prefix` which positions of a decoder's row read the inputs (or what stands before
            them): those may see each other in both directions.
    """
    source = inputs if isinstance(inputs, Ragged) else Ragged.of(inputs)
    target = targets if isinstance(targets, Ragged) else Ragged.of(targets)
    answer = target.first(target_tokens - 1)
    if architecture == "encoder_decoder":
        question = source.last(input_tokens - 1)
        stacks = {
            "encoder": _Stack(input_tokens, (question,), eos_id, learned=False),
            "decoder": _Stack(target_tokens, (answer,), eos_id, first=bos_id),
        }
    else:
        width = input_tokens + target_tokens
        question = source.last(width - 1 - answer.lengths)
        stacks = {"decoder": _decoder_stack(width, question, answer, eos_id, bos_id, prefix)}
    cut = (question.lengths < source.lengths) | (answer.lengths < target.lengths)
    row_of_example = assign_rows([stack.lengths for stack in stacks.values()], [s.width for s in stacks.values()])
    return Packed(row_of_example, int(cut.sum()), stacks)


def _decoder_stack(
    width: int, question: Ragged, answer: Ragged, eos_id: int, bos_id: int | None, prefix: bool
) -> _Stack:
    """The segments of a decoder-only model, by the tokens to be predicted."""
    if bos_id is not None:
        return _Stack(width, (question, answer), eos_id, first=bos_id, prefix=prefix)
    asked = question.lengths > 0
    given = asked | (answer.lengths > 0)
    starts = np.where(asked, question.starts, answer.starts)
    first = np.full(len(question), eos_id, np.int32)
    for texts, mine in ((question, asked), (answer, given & ~asked)):
        first[mine] = texts.tokens[starts[mine]]
    parts = (question.without_first(asked), answer.without_first(given & ~asked))
    return _Stack(width, parts, eos_id, first=first, prefix=prefix)


@dataclass(frozen=True)
class _Stack:
    """One side of the model: the parts that make up each of its segments, which end in EOS."""

    width: int
    parts: tuple[Ragged, ...]
    eos_id: int
    learned: bool = True  # whether its last part is a target
    first: Int[np.ndarray, " N"] | int | None = PAD  # what is read before a segment's first token
    prefix: bool = False  # whether to mark the positions that read the inputs

    @cached_property
    def lengths(self) -> Int[np.ndarray, " N"]:
        """Tokens of each segment."""
        return np.sum([part.lengths for part in self.parts], axis=0) + 1

    def lay_out(self, examples: Int[np.ndarray, " n"], counts: Int[np.ndarray, " R"]) -> Rows:
        """The fields of rows that hold the given examples, `counts` of them each, side by side."""
        rows, n = len(counts), len(examples)
        row = np.repeat(np.arange(rows), counts)
        before = np.cumsum(counts) - counts
        lengths = self.lengths[examples]
        # All positions of all rows are cut into runs: the segments of a row, then its padding.
        segment, padding = np.arange(n) + row, np.cumsum(counts) + np.arange(rows)
        run = np.empty(n + rows, np.int64)
        run[segment] = lengths
        run[padding] = self.width - np.add.reduceat(lengths, before) if rows else 0
        start = np.cumsum(run) - run

        def spread(of_segment: np.ndarray, of_padding: int, dtype: type = np.int32) -> np.ndarray:
            values: np.ndarray = np.empty(n + rows, dtype)
            values[segment], values[padding] = of_segment, of_padding
            return np.repeat(values, run)

        segment_ids = spread(np.arange(n) - before[row] + 1, 0)
        inside = segment_ids > 0
        positions = np.arange(rows * self.width, dtype=np.int32)
        positions -= np.repeat(start.astype(np.int32), run)
        positions *= inside
        starts = start[segment]
        tokens = self._tokens(examples, starts, spread)
        tokens *= inside
        tokens[starts + lengths - 1] = self.eos_id
        fields = {"segment_ids": segment_ids, "positions": positions}
        if self.learned:
            shown = np.empty_like(tokens)
            shown[1:] = tokens[:-1]
            shown[start[run > 0]] = PAD
            shown[starts] = self.first[examples] if isinstance(self.first, np.ndarray) else self.first
            unlearned = spread(sum((part.lengths[examples] for part in self.parts[:-1]), np.zeros(n, np.int64)), -1)
            weights = inside & (positions >= unlearned)
            fields |= {"input_tokens": shown, "target_tokens": tokens, "loss_weights": weights.astype(np.float32)}
            if self.prefix:
                fields["prefix"] = (inside & (positions <= unlearned)).astype(np.int32)
        else:
            fields |= {"input_tokens": tokens}
        return {name: array.reshape(rows, self.width) for name, array in fields.items()}

    def _tokens(self, examples: np.ndarray, starts: np.ndarray, spread: Callable[..., np.ndarray]) -> np.ndarray:
        """Tokens at all positions; those outside their part are arbitrary."""
        first, *others = self.parts
        at = spread(first.starts[examples] - starts, 0, np.int64)
        at += np.arange(len(at))
        source = first.tokens if len(first.tokens) else np.zeros(1, np.int32)
        tokens = np.asarray(source.take(at, mode="clip")).astype(np.int32, copy=False)
        starts = starts + first.lengths[examples]
        for part in others:
            lengths = part.lengths[examples]
            tokens[runs(starts, lengths)] = part.tokens[runs(part.starts[examples], lengths)]
            starts = starts + lengths
        return tokens
