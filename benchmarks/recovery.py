"""Does a cell that is killed with -9 and goes on end as one that nobody disturbed: losses, scores and answers?

One command: `python benchmarks/recovery.py` (the project's own environment). Both are the same cell of the embedded
study in run directories of their own, on the default device, with one folder of compiled programs. One is killed
after its first checkpoint, when it has logged more; then it goes on. Prints a JSON line, and ends with an error where
anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

CLOCK = {"time", "attempt", "train/tokens_per_second", "train/data_wait_fraction", "train/mfu"}
START = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1])"


def make(folder: Path, options: argparse.Namespace) -> Path:
    """The run directory of the cell."""
    from flanscale.config.compose import Composer
    from flanscale.orchestration.dispatch.reserve import create_run_dir
    from flanscale.orchestration.planning.plan import make_cell

    steps, every = options.steps, options.every
    cell = [f"model={options.model}", "mixture.count=89", "cot=true", "tracker=disabled", f"trainer.steps={steps}"]
    often = [f"trainer.checkpoint_every={every}", f"trainer.log_every={every // 5}", "evaluation.items=2"]
    paths = [f"paths.runs={folder / 'runs'}", f"paths.cache={folder.parent / 'cache'}"]
    folder.mkdir()
    return create_run_dir(make_cell(Composer(), [*cell, *often, *paths]).config)


def start(run_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", START, str(run_dir)])


def finish(run_dir: Path) -> float:
    """Seconds until the cell has ended."""
    began = time.perf_counter()
    if code := start(run_dir).wait():
        raise SystemExit(f"a cell ended with {code}")
    return time.perf_counter() - began


def kill_after(step: int, run_dir: Path) -> int:
    """The last step that was logged when the cell was killed."""
    job = start(run_dir)
    while logged(run_dir) <= step or not (run_dir / "checkpoints" / str(step)).exists():
        if job.poll() is not None:
            raise SystemExit(f"a cell ended with {job.returncode} before it was killed")
        time.sleep(0.005)
    job.kill()
    job.wait()
    return logged(run_dir)


def logged(run_dir: Path) -> int:
    from flanscale.run_directory import read_rows

    return max((row["step"] for row in read_rows(run_dir)), default=0)


def told(run_dir: Path) -> list[dict[str, Any]]:
    """Everything logged, without what depends on the clock."""
    from flanscale.run_directory import read_rows

    return [{key: value for key, value in row.items() if key not in CLOCK} for row in read_rows(run_dir)]


def answers(run_dir: Path) -> list[Any]:
    """The records of all items that were asked."""
    from flanscale.run_directory import evaluations, read_records, recorded

    return [
        record for suite in evaluations(run_dir) for line in recorded(suite) for record in read_records(suite, line)[0]
    ]


def differences(one: Path, other: Path) -> dict[str, Any]:
    """Rows and answers that are not the same, and the largest difference of two losses."""
    rows, others = told(one), told(other)
    losses = [[row["train/loss"] for row in side if "train/loss" in row] for side in (rows, others)]
    return {
        "rows": len(rows),
        "rows that differ": abs(len(rows) - len(others)) + sum(a != b for a, b in zip(rows, others, strict=False)),
        "largest difference of losses": max(abs(a - b) for a, b in zip(*losses, strict=False)),
        "answers": len(answers(one)),
        "answers that differ": sum(a != b for a, b in zip(answers(one), answers(other), strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="micro")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = (make(Path(folder) / name, options) for name in ("undisturbed", "killed"))
        whole = finish(undisturbed)
        step = kill_after(options.every, killed)
        rest = finish(killed)
        found = differences(undisturbed, killed)
        said = {"what": f"{options.model}, {options.steps:,} steps", "killed after step": step, **found}
        score = told(undisturbed)[-1]["eval/normalized_average"]
    print(json.dumps(said | {"score": score, "seconds": whole, "seconds after the kill": rest}))
    if found["rows that differ"] or found["answers that differ"]:
        raise SystemExit("a cell that was killed and went on ends otherwise than one that was not")


if __name__ == "__main__":
    main()
