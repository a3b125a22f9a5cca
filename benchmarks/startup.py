"""How long does a cell take to its first finished step, and how much of that does a second cell of its size save?

One command: `python benchmarks/startup.py` (`--model t5_small --rows 8` etc.); it needs nothing but the project. Every
start is a process of its own on packed random tokens; the first has an empty folder of compiled programs, the others
have what it left, as the second cell of a study has. Wall seconds mean something on an idle machine only; CPU seconds
are printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
VOCABULARY = 32128


def start(model: str, rows: int, tokens: tuple[int, int], cache: Path) -> None:
    """One cell up to its first step; prints the seconds of its parts."""
    began = time.perf_counter()
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from flanscale.config.compose import Composer
    from flanscale.models import build_model
    from flanscale.training import enable_compilation_cache, keep_freed_memory, train

    keep_freed_memory()
    enable_compilation_cache(cache)
    widths = [f"trainer.input_tokens={tokens[0]}", f"trainer.target_tokens={tokens[1]}"]
    config = Composer().compose(
        [f"model={model}", "optimizer=adamw", "mixture.count=9", *widths, f"trainer.batch_rows={rows}"]
    )

    class Random:
        def __next__(self) -> dict[str, Any]:
            ones = {stack: np.ones((rows, width), np.int32) for stack, width in stacks.items()}
            names = ("input_tokens", "segment_ids", "positions")
            batch: dict[str, Any] = {f"{stack}_{name}": array for stack, array in ones.items() for name in names}
            weights = ones["decoder"].astype(np.float32)
            return batch | {"decoder_target_tokens": ones["decoder"], "decoder_loss_weights": weights}

        def state(self) -> dict[str, int]:
            return {}

        def restore(self, state: dict[str, int]) -> None: ...

    decoder = config.model.architecture == "decoder"
    stacks = {"decoder": sum(tokens)} if decoder else {"encoder": tokens[0], "decoder": tokens[1]}

    def should_stop() -> bool:  # asked for the first time when the first step is over
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        total = time.perf_counter() - began
        print(json.dumps({"total": total, "cpu": cpu.ru_utime + cpu.ru_stime}), flush=True)
        os._exit(0)

    with tempfile.TemporaryDirectory() as folder:
        train(
            *(build_model(config.model, VOCABULARY), config.optimizer, config.trainer, Random()),
            seed=0,
            checkpoint_dir=Path(folder) / "checkpoints",
            log=lambda step, row: None,
            should_stop=should_stop,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="t5_small")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--tokens", type=int, nargs=2, default=(64, 16), metavar=("INPUT", "TARGET"))
    parser.add_argument("--repeat", type=int, default=3, help="second cells to take the median of")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        start(given.model, given.rows, tuple(given.tokens), given.one)
        return
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", cache]
        runs = [_run(command) for _ in range(1 + given.repeat)]
    first, later = runs[0], {key: statistics.median(run[key] for run in runs[1:]) for key in runs[0]}
    print(
        f"{given.model}, {given.rows} × {given.tokens[0]}+{given.tokens[1]} tokens, seconds to the first finished step"
    )
    for key, words in (
        ("process", "whole, from the process's start"),
        ("total", "without the interpreter"),
        ("cpu", "CPU"),
    ):
        ratio = later[key] / first[key]
        print(f"{words:32} first cell {first[key]:6.2f}   second cell {later[key]:6.2f}   ratio {ratio:.2f}")


def _run(command: list[str]) -> dict[str, float]:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said | {"process": time.perf_counter() - began}


if __name__ == "__main__":
    main()
