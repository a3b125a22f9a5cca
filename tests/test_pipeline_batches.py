"""Batches: real text in packed rows, at the place where one left off, in any number of hosts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest

from flanscale.pipeline.batches import BLOCK_SIZE, PackedBatches
from flanscale.pipeline.layout import BatchLayout
from flanscale.pipeline.ragged import Ragged
from flanscale.pipeline.sampler import draw_block
from flanscale.schema import TrainerConfig

EOS = 1
TRAINER = TrainerConfig(steps=1, batch_rows=24, input_tokens=64, target_tokens=16)


class Numbered:
    """Task t's example e asks [10 + t, e, …] of some length and answers with the same two and EOS's absence."""

    def __init__(self, sizes: Sequence[int] = (7, 100, 1, 33), longest: int = 40) -> None:
        self.sizes, self._longest = sizes, longest

    def tokens(self, tasks: np.ndarray, examples: np.ndarray, choices: np.ndarray) -> tuple[Ragged, Ragged]:
        def piece(task: int, example: int, choice: int) -> list[int]:
            return [10 + task, 100 + example, *[2] * (choice % self._longest)]

        drawn = list(zip(tasks.tolist(), examples.tolist(), choices.tolist(), strict=True))
        return Ragged.of([piece(*draw) for draw in drawn]), Ragged.of([[10 + t, 100 + e] for t, e, _ in drawn])


def stream(
    seed: int = 0,
    trainer: TrainerConfig = TRAINER,
    host: tuple[int, int] = (0, 1),
    architecture: str = "decoder",
    source: Numbered | None = None,
) -> PackedBatches:
    source = source or Numbered()
    weights = np.array(source.sizes) / sum(source.sizes)
    layout = BatchLayout(trainer, architecture=architecture, eos_id=EOS, host=host)
    return PackedBatches(source, weights, layout, seed=seed)


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("done", [0, 1, 13, 40])
@pytest.mark.parametrize("host", [(0, 1), (2, 3)])
def test_a_restored_stream_goes_on_exactly_where_it_stood(done: int, host: tuple[int, int]) -> None:
    uninterrupted = stream(host=host)
    for _ in range(done):
        next(uninterrupted)
    resumed = stream(host=host)
    resumed.restore(uninterrupted.state())
    for _ in range(60):  # beyond the end of a block
        assert equal(next(resumed), next(uninterrupted))
    assert uninterrupted.state()["block"] > 0


@pytest.mark.parametrize("hosts", [2, 3, 8])
@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_hosts_share_a_global_batch_by_contiguous_slices(hosts: int, architecture: str) -> None:
    whole = stream(architecture=architecture)
    shares = [stream(host=(index, hosts), architecture=architecture) for index in range(hosts)]
    for _ in range(90):  # across several blocks
        slices = [next(share) for share in shares]
        union = {name: np.concatenate([part[name] for part in slices]) for name in slices[0]}
        assert equal(union, next(whole))
        assert all(share.state() == whole.state() for share in shares)


def test_rows_that_do_not_divide_among_hosts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"trainer.batch_rows is 24 and this is host 0 of 5: give a multiple of 5"):
        stream(host=(0, 5))
    with pytest.raises(ValueError, match=r"hosts counted from 0"):
        stream(host=(2, 2))


def test_a_batch_larger_than_a_block_takes_several() -> None:
    large = TrainerConfig(steps=1, batch_rows=3000, input_tokens=64, target_tokens=16)
    batch, small = next(stream(trainer=large)), stream()
    assert batch["decoder_positions"].shape == (3000, 80)
    assert equal({name: rows[:24] for name, rows in batch.items()}, next(small))


def test_the_state_is_two_small_integers() -> None:
    batches = stream()
    next(batches)
    assert batches.state() == {"block": 0, "row": 24}


def test_batches_have_the_rows_asked_for_and_the_seed_moves_them() -> None:
    batches = list(islice(iter(stream().__next__, None), 60))
    assert {batch["decoder_input_tokens"].shape for batch in batches} == {(24, 80)}
    assert not equal(batches[0], next(stream(seed=1)))


def test_rows_hold_the_drawn_pairs_with_loss_on_their_answers_alone() -> None:
    batch = next(stream())
    for row in range(24):
        for segment in range(1, batch["decoder_segment_ids"][row].max() + 1):
            inside = batch["decoder_segment_ids"][row] == segment
            tokens = batch["decoder_target_tokens"][row][inside].tolist()
            weights = batch["decoder_loss_weights"][row][inside]
            assert tokens[-3:] == [*tokens[:2], EOS]
            assert weights.tolist() == [0.0] * (len(tokens) - 3) + [1.0] * 3


def test_the_rows_of_a_block_hold_its_draws_and_nothing_else() -> None:
    batches = stream(trainer=TrainerConfig(steps=1, batch_rows=1, input_tokens=64, target_tokens=16))
    found = []
    while batches.state()["block"] == 0:
        row = next(batches)
        starts = (row["decoder_segment_ids"][0] > 0) & (row["decoder_positions"][0] == 0)
        for at in np.flatnonzero(starts):
            task, example = row["decoder_target_tokens"][0][at : at + 2]
            found.append((task - 10, example - 100))
    sizes = Numbered().sizes
    draws = draw_block(np.array(sizes) / sum(sizes), sizes, seed=0, block=0, block_size=BLOCK_SIZE)
    assert sorted(found) == sorted(zip(draws.tasks.tolist(), draws.examples.tolist(), strict=True))


def test_batches_do_not_drift_from_long_examples_to_short_ones() -> None:
    batches, segments = stream(), []
    while batches.state()["block"] == 0:
        segments.append(next(batches)["decoder_segment_ids"].max(axis=1).mean())
    half = len(segments) // 2
    assert abs(np.mean(segments[:half]) - np.mean(segments[half:])) < 0.1 * np.mean(segments)


def test_what_does_not_fit_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    short = stream(trainer=TrainerConfig(steps=1, batch_rows=200, input_tokens=8, target_tokens=8))
    with caplog.at_level("INFO"):
        for _ in range(40):
            next(short)
    assert caplog.text.count("were longer than a row of trainer.input_tokens=8 and trainer.target_tokens=8") == 1
    assert 0 < short.truncated < short.total
    assert short.total > 2 * BLOCK_SIZE - 10
    roomy = stream()
    next(roomy)
    assert (roomy.truncated, roomy.total) == (0, pytest.approx(BLOCK_SIZE, abs=4))


def test_asking_how_many_draws_a_row_holds_moves_and_counts_nothing() -> None:
    asked, plain = stream(), stream()
    assert asked.draws_per_row() == pytest.approx(asked.draws_per_row())
    assert (asked.total, asked.state()) == (0, {"block": 0, "row": 0})
    for _ in range(60):
        assert equal(next(asked), next(plain))
        assert 1 < asked.draws_per_row() < 80 / 3
        assert (asked.total, asked.truncated) == (plain.total, plain.truncated)


def test_a_block_is_counted_once_however_often_the_stream_goes_back_to_it() -> None:
    batches = stream()
    next(batches)
    counted = batches.total
    batches.restore({"block": 0, "row": 0})
    next(batches)
    assert batches.total == counted > 0


def test_without_tasks_there_is_an_error_and_no_endless_search() -> None:
    nothing = PackedBatches(Numbered([]), [], BatchLayout(TRAINER, "decoder", EOS), seed=0)
    assert nothing.draws_per_row() == 0
    with pytest.raises(ValueError, match=r"no task to draw from: with mixture.count=0 give trainer.steps=0"):
        next(nothing)


@pytest.mark.parametrize("bos_id", [9, None])
def test_what_a_decoder_reads_first_and_its_prefix_reach_the_batches(bos_id: int | None) -> None:
    source = Numbered()
    weights = np.array(source.sizes) / sum(source.sizes)
    layout = BatchLayout(TRAINER, architecture="decoder", eos_id=EOS, bos_id=bos_id, prefix=True)
    batch = next(PackedBatches(source, weights, layout, seed=0))
    first = batch["decoder_input_tokens"][(batch["decoder_positions"] == 0) & (batch["decoder_segment_ids"] > 0)]
    assert len(first) > TRAINER.batch_rows
    assert set(first.tolist()) == ({9} if bos_id else set(range(10, 14)))  # the start token, or the task's own first
    assert 0 < batch["decoder_prefix"].sum() < (batch["decoder_segment_ids"] > 0).sum()
