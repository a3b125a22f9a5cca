"""What does one who reads the log see of a run? A line now and then while it learns, and in the end its scores."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from flanscale.tracking.keys import AVERAGE, eval_key, scored

EVERY_SECONDS = 5.0

log = logging.getLogger(__name__)


class Spoken:
    """Says in words what is logged; of training no more than a line in EVERY_SECONDS, and the last one."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._due = 0.0

    def say(self, step: int, values: Mapping[str, Any]) -> None:
        """Say this row, where it is time to."""
        if "train/loss" in values and (step >= self._steps or time.monotonic() >= self._due):
            log.info("step %d of %d: %s", step, self._steps, _progress(values))
            self._due = time.monotonic() + EVERY_SECONDS
        if AVERAGE in values:
            for benchmark, setting in scored(values):
                score, error = (values.get(eval_key(benchmark, setting, f), math.nan) for f in ("score", "stderr"))
                log.info("%s/%s: %.1f ± %.1f", benchmark, setting, score, error)
            log.info("score: %.1f ± %.1f", values[AVERAGE], values.get(f"{AVERAGE}_stderr", math.nan))


def _progress(values: Mapping[str, Any]) -> str:
    parts = [f"loss {values['train/loss']:.3f}"]
    if "validation/loss" in values:
        parts.append(f"validation {values['validation/loss']:.3f}")
    if "train/tokens_per_second" in values:
        parts.append(f"{values['train/tokens_per_second']:,.0f} tokens/s")
    return ", ".join(parts)
