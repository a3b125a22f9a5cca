"""Which devices hold the model, and how do token ids get there and answers back?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from flanscale.models import Model, Params, batch_sharding
from flanscale.models.attend import positions_step
from flanscale.models.sharding import row_shards

TOKENS_AT_ONCE = {"cpu": 512}
ELSEWHERE = 2048
WIDTHS = 32
COMPILING = {"cpu": 1e11}
"""Operations that could be done in the time that one more program takes to compile: seconds × operations a second."""
COMPILING_ELSEWHERE = 1e15


@dataclass(frozen=True)
class Engine:
    """A model with its parameters where they lie: on a device, or on a mesh whose processes all make the same calls."""

    model: Model
    params: Params
    rows: int = 32
    """In which so many answers are written together."""
    between: Callable[[], None] = lambda: None
    """Called before every batch, when no more than one other is under way; what it raises ends the work."""

    @cached_property
    def for_writing(self) -> Params:
        """The parameters as a loop over single tokens takes them fastest."""
        with self.in_mesh():
            return self.model.for_decoding(self.params)

    @cached_property
    def mesh(self) -> Mesh | None:
        sharding = jax.tree.leaves(self.params)[0].sharding
        return sharding.mesh if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh) else None

    @property
    def shards(self) -> int:
        """Into how many parts the mesh splits rows."""
        return 1 if self.mesh is None else row_shards(self.mesh)

    @property
    def tokens_at_once(self) -> int:
        """As many tokens as one device is busy enough with."""
        return TOKENS_AT_ONCE.get(self._platform, ELSEWHERE)

    @property
    def chunk(self) -> int:
        """Of as many rows as make `tokens_at_once`, so many tokens each are read together."""
        return self.tokens_at_once // 4

    @property
    def compiling(self) -> int:
        """Tokens that all devices could read in the time that one more program takes to compile."""
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return int(self.shards * COMPILING.get(self._platform, COMPILING_ELSEWHERE) / parameters)

    @property
    def _platform(self) -> str:
        return next(iter(jax.tree.leaves(self.params)[0].devices())).platform

    @property
    def step(self) -> int:
        """Of what the widths of prompts are multiples, so that a kernel can read them."""
        return max(WIDTHS, positions_step(self.model.implementation))

    @contextmanager
    def in_mesh(self) -> Iterator[None]:
        if self.mesh is None:
            yield
        else:
            with jax.set_mesh(self.mesh):
                yield

    def put(self, arrays: Any) -> Any:
        """A tree of arrays of the same number of rows, split over the mesh where that comes out even."""
        place: NamedSharding | None = None
        if self.mesh is not None:
            even = len(jax.tree.leaves(arrays)[0]) % self.shards == 0
            place = batch_sharding(self.mesh) if even else NamedSharding(self.mesh, PartitionSpec())
        return self._put(arrays, place)

    def put_whole(self, arrays: Any) -> Any:
        """A tree of arrays that every device has whole."""
        return self._put(arrays, None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec()))

    def _put(self, arrays: Any, place: NamedSharding | None) -> Any:
        if place is None or place.is_fully_addressable:
            return jax.device_put(arrays, place)
        return jax.tree.map(lambda array: jax.make_array_from_callback(array.shape, place, array.__getitem__), arrays)


def fetched(array: Array) -> np.ndarray:
    """The whole array, also where this process's devices have only a part of it."""
    whole: Any = array if array.is_fully_addressable else multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(whole)
