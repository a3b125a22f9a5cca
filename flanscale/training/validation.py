"""How well does the model predict held-in examples that it was not trained on? The mean loss per target token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flanscale.models import Batch, Model, Params
from flanscale.pipeline.layout import BatchLayout
from flanscale.pipeline.ragged import Ragged
from flanscale.training.step import loss_sums

Place = Callable[[dict[str, Any]], Batch]
Rows = Callable[[], Iterable[dict[str, np.ndarray]]]
"""Gives all validation batches anew at every call: packed rows, all of one shape; of several hosts each gives its
slice of the rows of the same batches."""


class Validation:
    """The loss of any parameters on the same rows, without dropout and z-loss."""

    def __init__(self, model: Model, batches: Rows, place: Place) -> None:
        """
        Args:
            place: puts a batch on the devices.
        """
        self._batches, self._place = batches, place
        self._add = jax.jit(partial(_add, model))

    def __call__(self, params: Params) -> dict[str, float]:
        """What is logged: `validation/loss`, a mean over `validation/tokens` target tokens; nothing without rows."""
        sums = (jnp.zeros(()), jnp.zeros(()))
        for batch in self._batches():
            sums = self._add(sums, params, self._place(batch))
        nll, tokens = jax.device_get(sums)
        return {"validation/loss": float(nll / tokens), "validation/tokens": int(tokens)} if tokens else {}


def held_in_rows(inputs: Ragged, targets: Ragged, layout: BatchLayout) -> Rows | None:
    """Batches that hold each example once, the last filled up with padding; None where there are no examples."""
    if len(inputs) == 0:
        return None
    rows, size, own = layout.pack(inputs, targets).rows, layout.trainer.batch_rows, layout.own_rows

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(rows["decoder_positions"]), size):
            yield {name: _filled(array[start : start + size], size)[own] for name, array in rows.items()}

    return batches


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    return np.pad(rows, ((0, size - len(rows)), (0, 0)))


def _add(model: Model, sums: tuple[Array, Array], params: Params, batch: Batch) -> tuple[Array, Array]:
    nll, _, tokens = loss_sums(model, params, batch, None)
    return sums[0] + nll, sums[1] + tokens
