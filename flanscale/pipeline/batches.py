"""Where do training batches come from? An endless, resumable stream: drawn, tokenised and packed by blocks.

The stream's position is two integers: the block that the next batch starts in and the row inside it. Everything
else follows from the seed: which examples a block holds, the row of each, and the order in which its rows come.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from flanscale.pipeline.layout import BatchLayout
from flanscale.pipeline.packing import Packed, Rows
from flanscale.pipeline.sampler import draw_block
from flanscale.pipeline.source import Source

BLOCK_SIZE = 2048  # draws packed together: enough to fill rows well, little enough to start at once

log = logging.getLogger(__name__)


class PackedBatches:
    """Batches of packed rows as the layout asks for; `state()` and `restore()` move the stream to any batch.

    Of several hosts each makes its own contiguous slice of the rows of the same global batch, from the same state.

    Attributes:
        total: examples of all blocks that this process took rows from.
        truncated: those of them that were longer than a row and were cut.
    """

    def __init__(
        self,
        source: Source,
        weights: Sequence[float] | np.ndarray,
        layout: BatchLayout,
        *,
        seed: int,
    ) -> None:
        """
        Args:
            weights: share of each of the source's tasks in the draws; they sum to one.
        """
        self.total = self.truncated = 0
        self._source, self._weights, self._layout, self._seed = source, weights, layout, seed
        self._block, self._row = 0, 0
        self._open: tuple[Packed, Int[np.ndarray, " R"]] | None = None  # the block and the order of its rows
        self._counted: int | None = None  # the block that was counted last

    def __next__(self) -> Rows:
        if not len(self._weights):
            raise ValueError("there is no task to draw from: with mixture.count=0 give trainer.steps=0")
        parts: list[Rows] = []
        wanted, own = self._layout.trainer.batch_rows, self._layout.own_rows
        done = 0  # rows of the global batch
        while done < wanted:
            packed, order = self._opened()
            here = order[self._row : self._row + wanted - done]
            mine = here[max(own.start - done, 0) : max(own.stop - done, 0)]
            if len(mine):
                parts.append(packed.take(mine))
            done += len(here)
            self._row += len(here)
            if self._row == len(packed):
                self._block, self._row, self._open = self._block + 1, 0, None
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def state(self) -> dict[str, int]:
        """The position of the next batch."""
        return {"block": self._block, "row": self._row}

    def restore(self, state: dict[str, int]) -> None:
        """Go to a position that `state()` gave."""
        if state["block"] != self._block:
            self._open = None
        self._block, self._row = state["block"], state["row"]

    def draws_per_row(self) -> float:
        """Examples that a packed row holds on average, of the first block; nought without tasks."""
        if not len(self._weights):
            return 0.0
        packed, _ = first = self._open if self._open and self._block == 0 else self._pack_block(0)
        if self._block == 0:
            self._open = first
        return len(packed.row_of_example) / len(packed)

    def log_to(self, log: logging.Logger) -> None:
        """Log one line: how many examples were cut; silent where none was."""
        if self.truncated:
            log.info("%d of %d examples read were longer than a row and were cut", self.truncated, self.total)

    def _opened(self) -> tuple[Packed, Int[np.ndarray, " R"]]:
        """The block that the stream is at, counted when it comes first."""
        if self._open is None:
            self._open = self._pack_block(self._block)
        packed, _ = self._open
        if self._counted != self._block:
            if packed.truncated and not self.truncated:
                log.info(
                    "block %d: %d of %d examples were longer than a row of trainer.input_tokens=%d and "
                    "trainer.target_tokens=%d and were cut; later ones are counted",
                    *(self._block, packed.truncated, len(packed.row_of_example)),
                    *(self._layout.trainer.input_tokens, self._layout.trainer.target_tokens),
                )
            self._counted = self._block
            self.total += len(packed.row_of_example)
            self.truncated += packed.truncated
        return self._open

    def _pack_block(self, block: int) -> tuple[Packed, Int[np.ndarray, " R"]]:
        draws = draw_block(self._weights, self._source.sizes, seed=self._seed, block=block, block_size=BLOCK_SIZE)
        inputs, targets = self._source.tokens(draws.tasks, draws.examples, draws.choices)
        packed = self._layout.pack(inputs, targets)
        # Packing fills rows with the largest examples first: in that order batches would drift from long to short.
        return packed, np.random.default_rng((self._seed, 3, block)).permutation(len(packed))
