"""What does a model answer when it always takes its most likely token?

Dimensions: B prompts decoded together, P prompt positions, M new positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from flanscale.errors import NonFiniteLogits
from flanscale.models import Model, Params, batch_sharding
from flanscale.models.sharding import row_shards

NO_TOKEN = -2  # no id, nor the -1 that stands for an EOS that no model writes
SMALLEST = 64  # positions: a program for fewer would save less time than compiling it takes


def greedy(
    model: Model,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    eos_id: int,
    between: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """The most likely continuation of each prompt, token by token, without its EOS.

    Prompts are decoded in batches of like length, padded to powers of two so that few programs are compiled. Where the
    parameters lie on a mesh that divides `batch_size`, every batch is split over it. Processes that share a mesh all
    make the same call and get the same answers.

    Args:
        prompts: as the model reads them; an encoder's end in EOS.
        between: called before every batch, when no more than one other is under way.

    Raises:
        NonFiniteLogits: the model gave no token: the largest of its logits was not a finite number.
    """
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    batches = [by_length[start : start + batch_size] for start in range(0, len(prompts), batch_size)]
    capacity = _padded(max_new_tokens)
    place = _placement(params, batch_size)
    mesh: Any = place.mesh if place else None
    generated: list[Array] = []
    for batch in batches:
        if len(generated) > 1:
            generated[-2].block_until_ready()
        between()
        tokens = np.zeros((batch_size, _padded(len(prompts[batch[0]]))), np.int32)
        lengths = np.zeros(batch_size, np.int32)
        for row, i in enumerate(batch):
            lengths[row] = len(prompts[i])
            tokens[row, : lengths[row]] = prompts[i]
        unused = np.arange(batch_size) >= len(batch)
        placed = _placed((tokens, lengths, unused), place)
        with jax.set_mesh(mesh) if mesh else nullcontext():
            generated.append(_generate(model, capacity, params, *placed, max_new_tokens, eos_id))
    answers: list[list[int]] = [[] for _ in prompts]
    for batch, rows in zip(batches, generated, strict=True):  # fetched last: the device need not wait for the host
        for i, row in zip(batch, _fetched(rows), strict=False):
            new = row[:max_new_tokens].tolist()
            answers[i] = new[: new.index(eos_id)] if eos_id in new else new
    if silent := [i for i, answer in enumerate(answers) if NO_TOKEN in answer]:
        raise NonFiniteLogits(
            f"the model's logits are not finite in {len(silent):,} of {len(prompts):,} answers: its parameters have"
            f" diverged; the first is that to prompt {silent[0] + 1:,}",
            silent[0],
        )
    return answers


@partial(jax.jit, static_argnames=("model", "capacity"))
def _generate(
    model: Model,
    capacity: int,
    params: Params,
    prompt_BxP: Int[Array, "B P"],
    lengths_B: Int[Array, " B"],
    done_B: Bool[Array, " B"],
    limit: Int[Array, ""],
    eos_id: Int[Array, ""],
) -> Int[Array, "B M"]:
    """At most `limit` new tokens of each row that is not done, in an array with room for `capacity`."""

    def chosen(logits: Array) -> Array:
        finite = jnp.isfinite(jnp.max(logits, axis=-1))  # the maximum is NaN where any of them is
        return jnp.where(finite, jnp.argmax(logits, axis=-1), NO_TOKEN).astype(jnp.int32)

    def over(new: Array) -> Array:
        return (new == eos_id) | (new == NO_TOKEN)

    def unfinished(loop: tuple) -> Array:
        count, _, done, _, _ = loop
        return (count < limit) & ~jnp.all(done)

    def extend(loop: tuple) -> tuple:
        count, last, done, tokens, cache = loop
        logits, cache = model.decode_step(params, cache, last)
        new = chosen(logits)
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, new[:, None], count, axis=1)
        return count + 1, new, done | over(new), tokens, cache

    params = model.for_decoding(params)
    logits, cache = model.prefill(params, prompt_BxP, lengths_B, capacity)
    first = chosen(logits)
    tokens = jnp.zeros((len(first), capacity), jnp.int32).at[:, 0].set(first)
    start = (jnp.ones((), jnp.int32), first, done_B | over(first), tokens, cache)
    return jax.lax.while_loop(unfinished, extend, start)[3]


def _padded(count: int) -> int:
    return max(SMALLEST, 1 << (count - 1).bit_length())


def _placement(params: Params, rows: int) -> NamedSharding | None:
    sharding = jax.tree.leaves(params)[0].sharding
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return None
    even = rows % row_shards(sharding.mesh) == 0
    return batch_sharding(sharding.mesh) if even else NamedSharding(sharding.mesh, PartitionSpec())


def _placed(arrays: tuple[np.ndarray, ...], place: NamedSharding | None) -> tuple[Array, ...]:
    if place is None or place.is_fully_addressable:
        return jax.device_put(arrays, place)
    return tuple(jax.make_array_from_callback(array.shape, place, array.__getitem__) for array in arrays)


def _fetched(rows: Array) -> np.ndarray:
    """The whole array, also where this process's devices have only a part of it."""
    whole: Any = rows if rows.is_fully_addressable else multihost_utils.process_allgather(rows, tiled=True)
    return np.asarray(whole)
