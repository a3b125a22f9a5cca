"""What does a model answer when it always takes its most likely token?

Dimensions: B prompts decoded together, P prompt positions, M new positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from flanscale.models import Model, Params

SMALLEST = 64  # positions: programs below this size save less time than compiling them takes


def greedy(
    model: Model,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    eos_id: int = 1,
) -> list[list[int]]:
    """The most likely continuation of each prompt, token by token, without its EOS.

    Prompts are decoded in batches of like length, padded to powers of two so that few programs are compiled.
    """
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    capacity = _power_of_two(max_new_tokens)
    answers: list[list[int]] = [[] for _ in prompts]
    pending = []
    for start in range(0, len(prompts), batch_size):
        batch = by_length[start : start + batch_size]
        tokens = np.zeros((batch_size, _power_of_two(len(prompts[batch[0]]))), np.int32)
        lengths = np.zeros(batch_size, np.int32)
        for row, i in enumerate(batch):
            lengths[row] = len(prompts[i])
            tokens[row, : lengths[row]] = prompts[i]
        unused = np.arange(batch_size) >= len(batch)
        pending.append((batch, _generate(model, capacity, params, tokens, lengths, unused, max_new_tokens, eos_id)))
    for batch, generated in pending:
        for i, row in zip(batch, np.asarray(generated), strict=False):
            new = row[:max_new_tokens].tolist()
            answers[i] = new[: new.index(eos_id)] if eos_id in new else new
    return answers


@partial(jax.jit, static_argnames=("model", "capacity"))
def _generate(
    model: Model,
    capacity: int,
    params: Params,
    prompt_BxP: Int[Array, "B P"],
    lengths_B: Int[Array, " B"],
    done_B: Array,
    limit: Array,
    eos_id: Array,
) -> Int[Array, "B M"]:
    logits, cache = model.prefill(params, prompt_BxP, lengths_B, capacity)
    tokens = jnp.zeros((prompt_BxP.shape[0], capacity), jnp.int32)

    def unfinished(loop: tuple) -> Array:
        i, _, done, _, _ = loop
        return (i < limit) & ~jnp.all(done)

    def extend(loop: tuple) -> tuple:
        i, logits, done, tokens, cache = loop
        new = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, new[:, None], i, axis=1)
        logits, cache = model.decode_step(params, cache, new)
        return i + 1, logits, done | (new == eos_id), tokens, cache

    start = (jnp.zeros((), jnp.int32), logits, done_B, tokens, cache)
    return jax.lax.while_loop(unfinished, extend, start)[3]


def _power_of_two(count: int) -> int:
    return max(SMALLEST, 1 << (count - 1).bit_length())
