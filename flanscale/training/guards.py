"""What can go wrong inside a step, and who is told? Steps that are not finite, and losses that jump."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flanscale.errors import NonFiniteLoss
from flanscale.training.step import Outcome

WINDOW = 50  # steps that a loss is compared with
ENOUGH = 20  # of them, before any comparison
DEVIATIONS = 6.0
SMALLEST_SPIKE = 0.1  # nats per token: a smooth loss has next to no deviation

log = logging.getLogger(__name__)


@dataclass
class History:
    """What the steps so far were like; saved with every checkpoint."""

    losses: list[float] = field(default_factory=list)  # of the last WINDOW finite steps
    spikes: int = 0


class Watch:
    """Looks at every step when the next one is under way, so that the device never waits for the host."""

    def __init__(self, history: History, limit: int, run_dir: Path, steps: int) -> None:
        """
        Args:
            limit: steps in a row that may be skipped.
            run_dir: where the batch that exceeded it is kept.
            steps: of the whole run; if all were skipped it has learnt nothing, whatever the limit.
        """
        self._history, self._limit, self._run_dir, self._steps = history, limit, run_dir, steps
        self._pending: tuple[int, Outcome, dict[str, Any]] | None = None

    def follow(self, step: int, outcome: Outcome, batch: dict[str, Any]) -> None:
        """Takes note of a step just dispatched, made on this host's rows, and looks at the one before.

        Raises:
            NonFiniteLoss: one step in a row too many was skipped, or every step of the run.
        """
        self.settle()
        self._pending = (step, outcome, batch)

    def settle(self) -> None:
        """Waits for the last step and looks at it; raises as `follow` does."""
        if self._pending is None:
            return
        (step, outcome, batch), self._pending = self._pending, None
        skipped, loss = jax.device_get(outcome)
        if skipped:
            self._skipped(step, int(skipped), batch)
        else:
            self._compare(step, float(loss))

    def _skipped(self, step: int, count: int, batch: dict[str, Any]) -> None:
        log.warning("step %d skipped: its loss or gradient is not finite (%d in a row)", step, count)
        if count <= self._limit and count < self._steps:
            return
        path = self._run_dir / f"nonfinite_batch{f'.{jax.process_index()}' if jax.process_count() > 1 else ''}.npz"
        _save(path, batch | {"step": np.asarray(step)})
        what = f"{count} steps in a row up to step {step}" if count < self._steps else f"all {count} steps of the run"
        raise NonFiniteLoss(
            f"{what} had a loss or gradient that is not finite "
            f"(trainer.max_nonfinite_steps is {self._limit}); the last one's batch is in {path.name}: "
            "lower optimizer.learning_rate or set optimizer.clip_norm"
        )

    def _compare(self, step: int, loss: float) -> None:
        losses = self._history.losses
        mean = sum(losses) / max(1, len(losses))
        if len(losses) >= ENOUGH and loss > mean + SMALLEST_SPIKE:
            deviation = float(np.std(losses))
            if loss > mean + DEVIATIONS * deviation:
                self._history.spikes += 1
                log.warning(
                    "step %d: loss %.3f, after %.3f ± %.3f in the %d steps before",
                    step,
                    loss,
                    mean,
                    deviation,
                    len(losses),
                )
        if math.isfinite(loss):
            losses.append(loss)
            del losses[:-WINDOW]


def _save(path: Path, arrays: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        plain: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
        np.savez_compressed(file, **plain)
    partial.replace(path)
