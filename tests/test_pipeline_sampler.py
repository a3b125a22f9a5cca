"""The sampler: exact shares, no repetition before all have come, any block from its number alone."""

from __future__ import annotations

import numpy as np

from flanscale.pipeline.sampler import draw_block

SIZES = [7, 100, 1, 33]
WEIGHTS = [size / sum(SIZES) for size in SIZES]


def blocks(count: int, *, block_size: int = 10, seed: int = 3) -> list[list[tuple[int, int]]]:
    drawn = [draw_block(WEIGHTS, SIZES, seed=seed, block=b, block_size=block_size) for b in range(count)]
    return [list(zip(d.tasks.tolist(), d.examples.tolist(), strict=True)) for d in drawn]


def test_every_task_gets_its_share_to_within_one_draw_however_small_it_is() -> None:
    stream = [draw for block in blocks(141) for draw in block]
    for task, size in enumerate(SIZES):
        assert abs(sum(t == task for t, _ in stream) - 10 * size) <= 1


def test_no_example_comes_again_before_all_of_its_task_have_come() -> None:
    stream = [draw for block in blocks(60) for draw in block]
    for task, size in enumerate(SIZES):
        examples = [example for t, example in stream if t == task]
        epochs = {}
        # Inside a block the order is shuffled, so epochs are told apart by how often an example has come.
        for position, example in enumerate(examples):
            epochs.setdefault(example, []).append(position // size)
        assert set(epochs) <= set(range(size))
        counts = np.bincount(examples, minlength=size)
        assert counts.max() - counts.min() <= 1


def test_a_block_needs_only_its_number() -> None:
    alone = draw_block(WEIGHTS, SIZES, seed=3, block=17, block_size=10)
    assert list(zip(alone.tasks, alone.examples, strict=True)) == blocks(18)[17]


def test_seeds_give_different_orders_and_epochs_differ() -> None:
    assert blocks(3, seed=1) != blocks(3, seed=2)
    first, second = ([int(e) for t, e in blocks(1, block_size=141 * (k + 1))[0] if t == 1][:100] for k in (0, 1))
    assert first != sorted(first)
    assert first != second
