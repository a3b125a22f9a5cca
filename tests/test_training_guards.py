"""Guards: bad steps are counted, jumps of the loss are told from noise and from progress."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flanscale.errors import NonFiniteLoss
from flanscale.training.guards import History, Watch
from flanscale.training.step import Outcome


def follow(watch: Watch, losses: Any, first: int = 1) -> None:
    for step, loss in enumerate(losses, start=first):
        watch.follow(step, Outcome(np.int32(0), np.float32(loss)), {})
    watch.settle()


def test_noise_progress_and_a_smooth_rise_are_no_spikes(tmp_path: Path) -> None:
    rng, history = np.random.default_rng(0), History()
    noisy = 4 * np.exp(-np.arange(2000) / 300) + rng.normal(1, 0.05, 2000)
    follow(Watch(history, 0, tmp_path), noisy)
    follow(Watch(history, 0, tmp_path), np.linspace(1, 2, 500))
    follow(Watch(history, 0, tmp_path), np.full(100, 2.0))
    follow(Watch(history, 0, tmp_path), [2.05])
    assert history.spikes == 0


def test_a_jump_is_one_line_with_what_came_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    with caplog.at_level(logging.WARNING, "flanscale"):
        follow(Watch(history, 0, tmp_path), [*np.random.default_rng(0).normal(1, 0.05, 60), 2.0, 1.0])
    assert history.spikes == 1
    assert [record.getMessage()[:28] for record in caplog.records] == ["step 61: loss 2.000, after 0."] or (
        "step 61: loss 2.000, after" in caplog.text
    )
    assert caplog.text.count("\n") == 1


def test_a_run_begins_without_comparisons(tmp_path: Path) -> None:
    history = History()
    follow(Watch(history, 0, tmp_path), [1.0] * 15 + [9.0])
    assert history.spikes == 0


def test_a_step_is_looked_at_when_the_next_one_is_under_way(tmp_path: Path) -> None:
    watch, bad = Watch(History(), 0, tmp_path), Outcome(np.int32(1), np.float32(np.nan))
    watch.follow(1, bad, {"decoder_target_tokens": np.arange(3)})
    with pytest.raises(NonFiniteLoss, match="up to step 1"):
        watch.follow(2, bad, {})
    with np.load(tmp_path / "nonfinite_batch.npz") as saved:
        assert saved["decoder_target_tokens"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["nonfinite_batch.npz"], "no half-written file beside it"
