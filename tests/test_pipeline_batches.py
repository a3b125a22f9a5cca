"""Batches: real text in packed rows, at the place where one left off."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from flanscale.pipeline.batches import PackedBatches
from flanscale.pipeline.tokenizers import load_tokenizer
from flanscale.schema import MixtureConfig, TokenizerConfig, TrainerConfig
from flanscale.tasks.mixture import build_mixture
from flanscale.tasks.procedural import Procedural

TOKENIZER = load_tokenizer(TokenizerConfig(name="words"))
TRAINER = TrainerConfig(steps=1, batch_rows=24, input_tokens=32, target_tokens=32)


def stream(seed: int = 0, trainer: TrainerConfig = TRAINER) -> PackedBatches:
    mixture = build_mixture(Procedural(100), MixtureConfig(count=89), cot=True)
    return PackedBatches(mixture, TOKENIZER, trainer, architecture="decoder", seed=seed)


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("done", [0, 1, 13, 40])
def test_a_restored_stream_goes_on_exactly_where_it_stood(done: int) -> None:
    uninterrupted = stream()
    for _ in range(done):
        next(uninterrupted)
    resumed = stream()
    resumed.restore(uninterrupted.state())
    for _ in range(30):  # beyond the end of a block
        assert equal(next(resumed), next(uninterrupted))


def test_batches_have_the_rows_asked_for_and_the_seed_moves_them() -> None:
    batches = list(islice(iter(stream().__next__, None), 60))
    assert {batch["decoder_input_tokens"].shape for batch in batches} == {(24, 64)}
    assert not equal(batches[0], next(stream(seed=1)))


def test_rows_hold_readable_questions_with_loss_on_their_answers_alone() -> None:
    batch = next(stream())
    row, segment = 0, 1
    inside = batch["decoder_segment_ids"][row] == segment
    tokens = batch["decoder_target_tokens"][row][inside]
    weights = batch["decoder_loss_weights"][row][inside]
    question = TOKENIZER.decode(tokens[weights == 0])
    answer = TOKENIZER.decode(tokens[weights == 1])
    assert any(mark in question for mark in (":", "given"))
    assert answer
    assert answer.split()[-1].isdigit()
    assert tokens[-1] == 1


def test_what_does_not_fit_is_said(caplog: pytest.LogCaptureFixture) -> None:
    short = TrainerConfig(steps=1, batch_rows=2, input_tokens=8, target_tokens=8)
    with caplog.at_level("INFO"):
        next(stream(trainer=short))
    assert "were longer than a row and were cut" in caplog.text
