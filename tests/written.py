"""What a model writes behind prompts of token ids, for tests of everything else."""

from collections.abc import Sequence

import numpy as np

from flanscale.evaluation.protocol import ordered
from flanscale.inference.engine import Engine
from flanscale.inference.programs import Drawing
from flanscale.inference.writing import Answer, Limits, write
from flanscale.models import Model, Params


def answers(
    model: Model,
    params: Params,
    prompts: Sequence[Sequence[int]],
    limits: Limits,
    *,
    rows: int,
    drawing: Drawing = Drawing(),
    keys: np.ndarray | None = None,
) -> list[list[Answer]]:
    """The answers to each prompt: one, or one for each of its keys."""
    drawn = np.zeros((len(prompts), 1, 2), np.uint32) if keys is None else keys
    return ordered(write(Engine(model, params, rows), prompts, limits, drawing, drawn))


def greedy(
    model: Model,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    eos_id: int,
) -> list[list[int]]:
    """The most likely continuation of each prompt, without its EOS; a decoder is given its start token."""
    limits = Limits(max_new_tokens, (eos_id,))
    read = [[*start_of(model), *prompt] for prompt in prompts]
    return [each[0].tokens for each in answers(model, params, read, limits, rows=batch_size)]


def start_of(model: Model) -> list[int]:
    """What stands before every prompt."""
    bos = model.config.bos_id if model.config.architecture == "decoder" else None
    return [] if bos is None else [bos]
