"""What does a row of the training log say?"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flanscale.training.step import Sums


@dataclass(frozen=True)
class Size:
    """What a batch holds."""

    rows: int
    examples: int
    tokens: int  # real ones, inputs and targets
    slots: int  # tokens and padding

    @staticmethod
    def of(batch: dict[str, Any]) -> Size:
        segments = [batch[name] for name in ("encoder_segment_ids", "decoder_segment_ids") if name in batch]
        return Size(
            rows=len(segments[0]),
            examples=int(segments[-1].max(axis=1).sum()),
            tokens=sum(int(np.count_nonzero(ids)) for ids in segments),
            slots=sum(ids.size for ids in segments),
        )


@dataclass
class Counts:
    """What the run has seen; saved with every checkpoint."""

    tokens: int = 0
    examples: int = 0
    row_tokens: int = 0  # since the last row of the log
    row_slots: int = 0


@dataclass
class Meter:
    """Adds up batches and times them. The clock covers this process only and leaves compilation out."""

    counts: Counts
    flops_per_row: float | None
    peak_flops: float | None
    _started: float | None = field(default=None, init=False)
    _waited: float = field(default=0.0, init=False)
    _tokens: int = field(default=0, init=False)
    _rows: int = field(default=0, init=False)

    def start(self) -> None:
        self._started, self._waited, self._tokens, self._rows = time.perf_counter(), 0.0, 0, 0

    def add(self, size: Size, waited: float) -> None:
        """Counts one batch, for which the loop waited so many seconds."""
        self.counts.tokens += size.tokens
        self.counts.examples += size.examples
        self.counts.row_tokens += size.tokens
        self.counts.row_slots += size.slots
        self._waited += waited
        self._tokens += size.tokens
        self._rows += size.rows

    def row(self, sums: Sums) -> dict[str, float]:
        """The row of the steps since the last one; starts the next. A loss without any finite step is NaN."""
        steps = int(sums.steps)
        row = {
            "loss": float(sums.loss) / float(sums.tokens) if steps else float("nan"),
            "tokens": self.counts.tokens,
            "examples": self.counts.examples,
            "learning_rate": float(sums.learning_rate),
            "grad_norm": float(sums.gradient_norm) / steps if steps else float("nan"),
            "pad_fraction": 1 - self.counts.row_tokens / self.counts.row_slots,
        }
        if self._rows and self._started is not None:
            seconds = time.perf_counter() - self._started
            row["tokens_per_second"] = self._tokens / seconds
            row["data_wait_fraction"] = self._waited / seconds
            if self.peak_flops and self.flops_per_row:
                row["mfu"] = self.flops_per_row * self._rows / seconds / self.peak_flops
        self.counts.row_tokens = self.counts.row_slots = 0
        self.start()
        return {f"train/{name}": value for name, value in row.items()}
