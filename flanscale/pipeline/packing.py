"""How do examples of many lengths become rows of one length?

First-fit packing into rows whose segments never see each other. Nothing is dropped: what does not fit is cut and
counted. Segment ids count from 1 in every row; 0 marks padding.

Dimensions: N examples, R rows, W positions of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

PAD = 0  # also what a decoder reads before a segment's first token
OPEN_ROWS = 256  # rows that still take examples; older ones are full enough (98 % on FLAN-like lengths)


@dataclass(frozen=True)
class Packed:
    """Rows of packed examples under seqio's field names, each an array [R, W]."""

    rows: dict[str, np.ndarray]
    row_of_example: Int[np.ndarray, " N"]
    truncated: int  # examples that were cut


def pack(
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    *,
    architecture: str,
    input_tokens: int,
    target_tokens: int,
    eos_id: int = 1,
) -> Packed:
    """Packs pairs of token ids, in their order, into as few rows as first-fit finds.

    encoder_decoder: an encoder row holds `inputs ⊕ EOS`, a decoder row `targets ⊕ EOS`. decoder: a row of
    input_tokens + target_tokens holds `inputs ⊕ targets ⊕ EOS`, with loss on targets and EOS. A target keeps its
    first target_tokens - 1 tokens and gets its EOS; an input keeps its end, where the question stands.
    """
    source, target = _Texts.of(inputs), _Texts.of(targets)
    answer = target.first(target_tokens - 1)
    eos = _Texts(np.full(len(inputs), eos_id), np.arange(len(inputs)), np.ones(len(inputs), np.int64))
    if architecture == "encoder_decoder":
        question = source.last(input_tokens - 1)
        features = {"encoder": (input_tokens, [question, eos]), "decoder": (target_tokens, [answer, eos])}
    else:
        width = input_tokens + target_tokens
        question = source.last(width - answer.lengths - 1)
        features = {"decoder": (width, [question, answer, eos])}

    lengths = [np.sum([part.lengths for part in parts], axis=0) for _, parts in features.values()]
    row_of_example = first_fit(lengths, [width for width, _ in features.values()])
    rows: dict[str, np.ndarray] = {}
    for name, (width, parts) in features.items():
        rows |= {f"{name}_{field}": array for field, array in _lay_out(parts, row_of_example, width).items()}

    rows["decoder_target_tokens"] = rows.pop("decoder_tokens")
    shifted = np.roll(rows["decoder_target_tokens"], 1, axis=1)
    rows["decoder_input_tokens"] = np.where(rows["decoder_positions"] == 0, PAD, shifted)
    learned = rows["decoder_segment_ids"] > 0
    if architecture == "encoder_decoder":
        rows["encoder_input_tokens"] = rows.pop("encoder_tokens")
        del rows["encoder_parts"]
    else:
        learned &= rows["decoder_parts"] > 0
    del rows["decoder_parts"]
    rows["decoder_loss_weights"] = learned.astype(np.float32)
    cut = (question.lengths < source.lengths) | (answer.lengths < target.lengths)
    return Packed(rows, row_of_example, int(cut.sum()))


def first_fit(lengths: Sequence[Int[np.ndarray, " N"]], widths: Sequence[int]) -> Int[np.ndarray, " N"]:
    """The row of each example: the oldest open row with room in every feature, or a new one."""
    count = len(lengths[0])
    room = [np.full(count, width) for width in widths]
    row_of_example = np.empty(count, np.int64)
    first = rows = 0
    for i, needs in enumerate(zip(*lengths, strict=True)):
        fits = room[0][first:rows] >= needs[0]
        for free, need in zip(room[1:], needs[1:], strict=True):
            fits &= free[first:rows] >= need
        at = int(fits.argmax()) if rows else 0
        if rows and fits[at]:
            at += first
        else:
            at, rows = rows, rows + 1
            first = max(0, rows - OPEN_ROWS)
        for free, need in zip(room, needs, strict=True):
            free[at] -= need
        row_of_example[i] = at
    return row_of_example


@dataclass(frozen=True)
class _Texts:
    """N pieces of one long array of tokens."""

    tokens: Int[np.ndarray, " total"]
    starts: Int[np.ndarray, " N"]
    lengths: Int[np.ndarray, " N"]

    @staticmethod
    def of(texts: Sequence[np.ndarray]) -> _Texts:
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        tokens = np.concatenate(texts) if len(texts) else np.empty(0, np.int32)
        return _Texts(tokens, np.cumsum(lengths) - lengths, lengths)

    def first(self, most: int) -> _Texts:
        return _Texts(self.tokens, self.starts, np.minimum(self.lengths, most))

    def last(self, most: int | np.ndarray) -> _Texts:
        lengths = np.minimum(self.lengths, most)
        return _Texts(self.tokens, self.starts + self.lengths - lengths, lengths)


def _lay_out(parts: list[_Texts], row_of_example: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """Tokens, segment ids, positions and part numbers of segments, each its parts in a row, side by side in rows."""
    lengths = np.sum([part.lengths for part in parts], axis=0)
    order = np.argsort(row_of_example, kind="stable")
    row = row_of_example[order]
    rows = int(row[-1]) + 1 if len(row) else 0
    first_of_row = np.searchsorted(row, row)  # the place in `order` of the first example of the same row
    before = np.cumsum(lengths[order]) - lengths[order]
    starts, numbers = np.empty_like(lengths), np.empty_like(lengths)
    starts[order] = row * width + before - before[first_of_row]
    numbers[order] = np.arange(len(row)) - first_of_row + 1

    fields = ("tokens", "segment_ids", "positions", "parts")
    placed = {name: np.zeros(rows * width, np.int32) for name in fields}
    at = _runs(starts, lengths)
    placed["segment_ids"][at] = np.repeat(numbers, lengths)
    placed["positions"][at] = at - np.repeat(starts, lengths)
    for number, part in enumerate(parts):
        at = _runs(starts, part.lengths)
        placed["tokens"][at] = part.tokens[_runs(part.starts, part.lengths)]
        placed["parts"][at] = number
        starts = starts + part.lengths
    return {name: array.reshape(rows, width) for name, array in placed.items()}


def _runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers start, start + 1, … of every run, one run after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
