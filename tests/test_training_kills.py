"""One real cell, killed twenty times at random moments: nothing of its result tells."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from little_study import PATIENCE
from test_run import answered, make_cell, start_job, told

from flanscale.run_directory import read_state

KILLS = 20
OVERRIDES = ("trainer.steps=400", "trainer.log_every=10", "trainer.checkpoint_every=10", "trainer.keep_checkpoints=2")


@pytest.mark.slow
def test_a_cell_killed_twenty_times_ends_bit_for_bit_like_one_that_was_not(tmp_path: Path) -> None:
    undisturbed, directory = make_cell(tmp_path / "undisturbed", *OVERRIDES), make_cell(tmp_path, *OVERRIDES)
    assert start_job(undisturbed).wait(timeout=600) == 0
    rng, kills = random.Random(0), 0
    while kills < KILLS:
        job, rows = start_job(directory), len(told(directory))
        if kills % 4:  # every fourth is killed wherever it is: starting, compiling, restoring
            while job.poll() is None and len(told(directory)) <= rows:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.1))
        else:
            time.sleep(rng.uniform(0.5, 6))
        assert job.poll() is None, "finished before it was killed often enough: raise trainer.steps"
        job.kill()
        job.wait(timeout=PATIENCE)
        kills += 1
    assert read_state(directory).state != "finished"
    assert start_job(directory).wait(timeout=600) == 0
    assert told(directory) == told(undisturbed)
    assert answered(directory) == answered(undisturbed)
    assert not (directory / "checkpoints" / "damaged").exists(), "a kill leaves no checkpoint half written"
