"""Where do training batches come from? An endless, resumable stream: drawn, rendered, tokenised and packed by blocks.

The stream's position is two integers: the block that the next batch starts in and the row inside it. Everything
else follows from the seed.
"""

from __future__ import annotations

import logging

import numpy as np

from flanscale.pipeline.packing import pack
from flanscale.pipeline.sampler import draw_block
from flanscale.pipeline.tokenizers import Tokenizer
from flanscale.schema import TrainerConfig
from flanscale.tasks.mixture import Mixture

BLOCK_SIZE = 1024  # draws rendered and packed together: enough to fill rows well, little enough to start at once

log = logging.getLogger(__name__)


class PackedBatches:
    """Batches of `trainer.batch_rows` packed rows; `state()` and `restore()` move the stream to any batch."""

    def __init__(
        self, mixture: Mixture, tokenizer: Tokenizer, trainer: TrainerConfig, *, architecture: str, seed: int
    ) -> None:
        self._mixture, self._tokenizer, self._trainer = mixture, tokenizer, trainer
        self._architecture, self._seed = architecture, seed
        self._weights, self._sizes = mixture.weights, mixture.sizes
        self._block, self._row = 0, 0
        self._rows: dict[str, np.ndarray] | None = None

    def __next__(self) -> dict[str, np.ndarray]:
        parts, wanted = [], self._trainer.batch_rows
        while wanted:
            if self._rows is None:
                self._rows = self._pack_block(self._block)
            taken = {name: rows[self._row : self._row + wanted] for name, rows in self._rows.items()}
            parts.append(taken)
            got, total = len(taken["decoder_input_tokens"]), len(self._rows["decoder_input_tokens"])
            wanted -= got
            self._row += got
            if self._row == total:
                self._block, self._row, self._rows = self._block + 1, 0, None
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def state(self) -> dict[str, int]:
        """The position of the next batch."""
        return {"block": self._block, "row": self._row}

    def restore(self, state: dict[str, int]) -> None:
        """Go to a position that `state()` gave."""
        self._block, self._row, self._rows = state["block"], state["row"], None

    def _pack_block(self, block: int) -> dict[str, np.ndarray]:
        draws = draw_block(self._weights, self._sizes, seed=self._seed, block=block, block_size=BLOCK_SIZE)
        drawn = zip(draws.tasks.tolist(), draws.examples.tolist(), draws.choices.tolist(), strict=True)
        prompts = [self._mixture.prompt(task, example, choice) for task, example, choice in drawn]
        packed = pack(
            self._encode([prompt.input for prompt in prompts]),
            self._encode([prompt.target for prompt in prompts]),
            architecture=self._architecture,
            input_tokens=self._trainer.input_tokens,
            target_tokens=self._trainer.target_tokens,
        )
        if packed.truncated:
            log.info(
                "block %d: %d of %d examples were longer than a row and were cut", block, packed.truncated, len(prompts)
            )
        return packed.rows

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        return [np.array(ids, np.int32) for ids in self._tokenizer.encode(texts)]
