"""Cells that train a little linear model in NumPy: what an interruption must not change is there to be compared.

`run` stands in for `flanscale.run.run`; `python numpy_cells.py STUDY [KEY=VALUE]...` stands in for `flanscale launch`.
Rows go through the project's own tracker. Every third step is checkpointed.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flanscale.errors import Preempted
from flanscale.identity import identity
from flanscale.schema import RunConfig
from flanscale.tracking.tracker import Tracker

STEP_SECONDS = 0.1
CHECKPOINT_EVERY = 3
FEATURES = 16
PARAMETERS = "parameters.npz"
ENDS = "ends.log"  # a line whenever a cell has come to its end
OVERLAPS = "overlaps.log"  # a line whenever a second process was at work on a cell


def run(
    config: RunConfig,
    run_dir: Path,
    *,
    attempt: int,
    should_stop: Callable[[], bool],
    step_seconds: float = STEP_SECONDS,
) -> None:
    """Train for `trainer.steps` steps, going on from the last checkpoint."""
    with (run_dir / "at_work").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _note(run_dir / OVERLAPS, attempt)
        _train(config, run_dir, attempt, should_stop, step_seconds)


def _train(
    config: RunConfig, run_dir: Path, attempt: int, should_stop: Callable[[], bool], step_seconds: float
) -> None:
    tracker = Tracker(run_dir, config, run_id=identity(config), attempt=attempt)
    truth = np.random.default_rng(config.seed).normal(size=FEATURES)
    step, weights, momentum = restore(run_dir)
    while step < config.trainer.steps:
        if should_stop():
            save(run_dir, step, weights, momentum)
            raise Preempted(f"stopped at step {step}")
        time.sleep(step_seconds)
        inputs = np.random.default_rng([config.seed, step]).normal(size=(32, FEATURES))
        errors = inputs @ (weights - truth)
        momentum = 0.9 * momentum + inputs.T @ errors / len(inputs)
        weights = weights - 0.05 * momentum
        step += 1
        tracker.log(step, {"train/loss": float(errors @ errors)})
        if step % CHECKPOINT_EVERY == 0:
            save(run_dir, step, weights, momentum)
    save(run_dir, step, weights, momentum)
    tracker.log(step, {"eval/normalized_average": float(weights.sum())})
    tracker.close()
    _note(run_dir / ENDS, attempt)


def parameters(run_dir: Path) -> bytes:
    """The last saved ones, bit for bit."""
    _, weights, momentum = restore(run_dir)
    return weights.tobytes() + momentum.tobytes()


def restore(run_dir: Path) -> tuple[int, np.ndarray, np.ndarray]:
    if not (run_dir / PARAMETERS).exists():
        return 0, np.zeros(FEATURES), np.zeros(FEATURES)
    with np.load(run_dir / PARAMETERS) as saved:
        return int(saved["step"]), saved["weights"], saved["momentum"]


def save(run_dir: Path, step: int, weights: np.ndarray, momentum: np.ndarray) -> None:
    scratch = run_dir / f".{os.getpid()}.npz"
    np.savez(scratch, step=step, weights=weights, momentum=momentum)
    scratch.replace(run_dir / PARAMETERS)


def _note(path: Path, attempt: int) -> None:
    with path.open("a") as file:
        file.write(f"attempt {attempt}, process {os.getpid()}\n")


def main() -> None:
    """Launch a study of such cells and return at once."""
    from flanscale.orchestration.dispatch.launch import launch
    from flanscale.orchestration.planning.preview import make_plan
    from flanscale.orchestration.watching.live import open_console

    plan = make_plan(sys.argv[1], sys.argv[2:])
    raise SystemExit(launch(plan, open_console(), again="launch again", wait=False, runner="numpy_cells"))


if __name__ == "__main__":
    main()
