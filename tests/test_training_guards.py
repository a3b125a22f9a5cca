"""Guards: bad steps are counted, jumps of the loss are told from noise and from progress."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flanscale.errors import NonFiniteLoss
from flanscale.training.guards import History, Watch
from flanscale.training.step import Outcome

MANY = 10_000  # steps of a run


def follow(watch: Watch, losses: Any, first: int = 1) -> None:
    for step, loss in enumerate(losses, start=first):
        watch.follow(step, Outcome(np.int32(0), np.float32(loss)), {})
    watch.settle()


def test_noise_progress_and_a_smooth_rise_are_no_spikes(tmp_path: Path) -> None:
    rng, history = np.random.default_rng(0), History()
    noisy = 4 * np.exp(-np.arange(2000) / 300) + rng.normal(1, 0.05, 2000)
    follow(Watch(history, 0, tmp_path, MANY), noisy)
    follow(Watch(history, 0, tmp_path, MANY), np.linspace(1, 2, 500))
    follow(Watch(history, 0, tmp_path, MANY), np.full(100, 2.0))
    follow(Watch(history, 0, tmp_path, MANY), [2.05])
    assert history.spikes == 0


def test_a_jump_is_one_line_with_what_came_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    with caplog.at_level(logging.WARNING, "flanscale"):
        follow(Watch(history, 0, tmp_path, MANY), [*np.random.default_rng(0).normal(1, 0.05, 60), 2.0, 1.0])
    assert history.spikes == 1
    assert [record.getMessage()[:28] for record in caplog.records] == ["step 61: loss 2.000, after 0."] or (
        "step 61: loss 2.000, after" in caplog.text
    )
    assert caplog.text.count("\n") == 1


def test_a_run_begins_without_comparisons(tmp_path: Path) -> None:
    history = History()
    follow(Watch(history, 0, tmp_path, MANY), [1.0] * 15 + [9.0])
    assert history.spikes == 0


def test_a_step_is_looked_at_when_the_next_one_is_under_way(tmp_path: Path) -> None:
    watch, bad = Watch(History(), 0, tmp_path, MANY), Outcome(np.int32(1), np.float32(np.nan))
    watch.follow(1, bad, {"decoder_target_tokens": np.arange(3)})
    with pytest.raises(NonFiniteLoss, match="up to step 1"):
        watch.follow(2, bad, {})
    with np.load(tmp_path / "nonfinite_batch.npz") as saved:
        assert saved["decoder_target_tokens"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["nonfinite_batch.npz"], "no half-written file beside it"


def test_a_run_whose_steps_were_all_skipped_has_failed_however_short_it_is(tmp_path: Path) -> None:
    watch = Watch(History(), 5, tmp_path, steps=3)
    for step in (1, 2, 3):
        watch.follow(step, Outcome(np.int32(step), np.float32(np.nan)), {"decoder_target_tokens": np.arange(step)})
    with pytest.raises(NonFiniteLoss, match=r"^all 3 steps of the run had .*max_nonfinite_steps is 5"):
        watch.settle()
    assert (tmp_path / "nonfinite_batch.npz").is_file()


def test_a_run_that_moved_once_may_skip_its_last_steps(tmp_path: Path) -> None:
    watch = Watch(History(), 5, tmp_path, steps=3)
    watch.follow(1, Outcome(np.int32(0), np.float32(1)), {})
    for step in (2, 3):
        watch.follow(step, Outcome(np.int32(step - 1), np.float32(np.nan)), {})
    watch.settle()
