"""Cells that train nothing, so that what the machinery around them does can be watched in seconds.

`run` stands in for `flanscale.run.run`; `python fake_cells.py STUDY [KEY=VALUE]...` stands in for `flanscale launch`.
A step takes 0.02 s and is checkpointed. Every attempt leaves two lines in `<run>/attempts.log`, when it begins and
when it leaves of its own accord. Some seeds misbehave half-way, see `MISBEHAVIOUR`. Where a file `gather` beside the
runs names a number, no cell goes on until so many have begun, however slowly the machine starts them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flanscale.errors import DataError, NonFiniteLoss, Preempted
from flanscale.schema import RunConfig

STEP_SECONDS = 0.02
SLOW_TO_LEAVE = 80  # the seed whose last checkpoint takes long
GATHER = "gather"

MISBEHAVIOUR: dict[int, BaseException] = {
    90: NonFiniteLoss("6 steps in a row had a non-finite gradient"),
    91: DataError("task0001: no instances"),
    92: MemoryError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes"),
    93: RuntimeError("something else"),
    94: SystemExit("a library gave up"),
}


def run(config: RunConfig, run_dir: Path, *, attempt: int, should_stop: Callable[[], bool]) -> None:
    """Count to `trainer.steps`."""
    checkpoint = run_dir / "checkpoint"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    print("a library prints")
    _mark(run_dir, "begin", step)
    _gather(run_dir.parent)
    try:
        while step < config.trainer.steps:
            if should_stop():
                time.sleep(1.5 if config.seed == SLOW_TO_LEAVE else 0.0)
                raise Preempted(f"stopped at step {step}")
            if step == config.trainer.steps // 2 and config.seed in MISBEHAVIOUR:
                raise MISBEHAVIOUR[config.seed]
            time.sleep(STEP_SECONDS)
            step += 1
            _log(run_dir, {"step": step, "attempt": attempt, "time": time.time(), "train/loss": 1.0 / step})
            _replace(checkpoint, str(step))
        score = {"eval/normalized_average": 50.0, "eval/normalized_average_stderr": 1.0}
        _log(run_dir, {"step": step, "attempt": attempt, "time": time.time(), **score})
    finally:
        _mark(run_dir, "end", step)


def _gather(runs: Path) -> None:
    if (wanted := runs.with_name(GATHER)).exists():
        while len(list(runs.glob("*/attempts.log"))) < int(wanted.read_text()):
            time.sleep(STEP_SECONDS)


def _mark(run_dir: Path, what: str, step: int) -> None:
    with (run_dir / "attempts.log").open("a") as file:
        file.write(f"{what} {os.getpid()} {step} {time.time()}\n")


def _log(run_dir: Path, row: dict[str, object]) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _replace(path: Path, text: str) -> None:
    scratch = path.with_suffix(".partial")
    scratch.write_text(text)
    scratch.replace(path)


def main() -> None:
    """Launch a study of such cells; `--no-wait` and `--wait` as in `flanscale launch`."""
    from flanscale.errors import UserError
    from flanscale.orchestration.dispatch.launch import launch
    from flanscale.orchestration.planning.preview import make_plan
    from flanscale.orchestration.watching.live import open_console

    wait = {"--wait": True, "--no-wait": False}.get(sys.argv[1])
    study, *overrides = sys.argv[1:] if wait is None else sys.argv[2:]
    try:
        plan = make_plan(study, overrides)
        code = launch(plan, open_console(), again="launch again", wait=wait, runner="fake_cells")
    except UserError as error:
        print(f"flanscale: {error}", file=sys.stderr)
        code = 2
    raise SystemExit(code)


if __name__ == "__main__":
    main()
