"""How long does `flanscale status` take on thousands of run directories, cold and at every refresh?

One command: `python benchmarks/status.py` (`--cells 5000`; a minute or two); it needs nothing but the project. The run
directories are as a study of that size has them: 60 % finished, 10 % running, 10 % failed, 20 % in the queue, with
hundreds of rows of metrics each. Cold is a new process from its start to its end, with the files in the page cache;
a refresh is one more look of the same process while every running cell logs, with and without drawing the live view.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SIZES = ("nano", "micro", "mini", "small", "base")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=300, help="of metrics of each run")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flanscale-status-") as folder:
        index = make_study(Path(folder), options.cells, options.rows)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
        print(f"{options.cells} run directories, medians of {options.repeat}:")
        for words in (["status"], ["status", "--json"], ["status", "--state", "failed"]):
            times = [cold(index, words) for _ in range(options.repeat)]
            report("cold: flanscale " + " ".join(words), times)
        for name, times in refreshes(index, options.rows, options.repeat).items():
            report(name, times)


def report(name: str, times: list[tuple[float, float]]) -> None:
    wall, cpu = (statistics.median(values) for values in zip(*times, strict=True))
    print(f"  {name:45} {wall:6.2f} s, of which processor {cpu:5.2f} s")


def cold(index: Path, words: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a new process."""
    verb, *rest = words
    command = [sys.executable, "-m", "flanscale.cli.main", verb, str(index), *rest]
    began, used = time.perf_counter(), os.times()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    now = os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return time.perf_counter() - began, cpu


def refreshes(index: Path, rows: int, repeat: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of looking again, without and with drawing it."""
    from rich.console import Console

    from flanscale.orchestration.planning.ledger import read_ledger
    from flanscale.orchestration.watching.live import Choice, picture
    from flanscale.orchestration.watching.monitor import Observer

    observer = Observer(read_ledger(index))
    running = [cell for cell in observer.look().cells if cell.status == "running"]
    console = Console(file=StringIO(), force_terminal=True, width=160, height=50)
    choice = Choice(axes=("model", "mixture.count"))
    times: dict[str, list[tuple[float, float]]] = {"refresh: look again": [], "refresh: look again and draw": []}
    for number in range(repeat):
        for name, found in times.items():
            for cell in running:
                with (observer.ledger.directory(cell.entry) / "metrics.jsonl").open("a") as file:
                    file.write(json.dumps(row(rows + number + 1, time.time())) + "\n")
            began, used = time.perf_counter(), time.process_time()
            study = observer.look()
            if name.endswith("draw"):
                console.print(picture(study, choice, console.width, console.height))
            found.append((time.perf_counter() - began, time.process_time() - used))
    return times


# --- run directories as the orchestrator leaves them -----------------------------------------------------------------


def make_study(folder: Path, cells: int, rows: int) -> Path:
    """Write `studies/large.json` and the run directories; returns the index."""
    from flanscale.config.compose import Composer, save
    from flanscale.orchestration.running.liveness import this_process
    from flanscale.run_directory import Failure, RunState, write_state

    failure = Failure("nonfinite_loss", "not finite at step 50", "at step 50\n" * 40, 50)
    entries: dict[str, dict[str, Any]] = {}
    points = []
    counts = [0, 9, 89, 282, 1836]
    seeds = list(range(-(-cells // 50)))
    axes = {"model": list(SIZES), "mixture.count": counts, "cot": [False, True], "seed": seeds}
    save(Composer().compose(["model=nano", "mixture.count=9"]), folder)
    me, began = this_process(), time.time() - 3600
    metrics = "".join(json.dumps(row(step, began + step)) + "\n" for step in range(1, rows + 1))
    answers = json.dumps(answer(rows, began + rows)) + "\n"
    for number in range(cells):
        cell = f"{number:010x}"
        values: dict[str, Any] = {"seed": number // 50, "cot": bool(number // 25 % 2)}
        values |= {"mixture.count": counts[number // 5 % 5], "model": SIZES[number % 5]}
        run = f"{cell}-procedural-{values['model']}-{values['mixture.count']}-s{values['seed']}"
        points.append({"axes": {axis: values[axis] for axis in axes}, "cell": cell, "run": run})
        entries[cell] = {"steps": rows, "parameters": 10**6, "flops": 1e12 * (1 + number % 5)}
        state = "finished" if number % 10 < 6 else ("running", "failed", "queued", "queued")[number % 10 - 6]
        directory = folder / "runs" / run
        directory.mkdir(parents=True)
        shutil.copy(folder / "config.yaml", directory)
        if state != "queued":
            (directory / "metrics.jsonl").write_text(metrics + (answers if state == "finished" else ""))
        record = RunState(state, int(state != "queued"), host=me.host, pid=me.pid, process_started=me.started)
        record = replace(record, failure=failure if state == "failed" else None, seconds=300.0, updated=began)
        write_state(directory, record)
    index = folder / "studies" / "large.json"
    index.parent.mkdir()
    head = {"format": 1, "study": "large", "title": "large", "runs": "../runs", "overrides": [], "axes": axes}
    index.write_text(json.dumps(head | {"points": points, "cells": entries}, indent=1))
    return index


def row(step: int, when: float) -> dict[str, Any]:
    """A row of the training log."""
    names = ("grad_norm", "data_wait_fraction", "pad_fraction", "learning_rate", "mfu")
    values = {"loss": 3.0 / step, "tokens": step * 8192, "examples": step * 64, "tokens_per_second": 8123.4}
    values |= dict.fromkeys(names, 0.123456789 * step / 1000)
    head = {"step": step, "attempt": 1, "time": round(when, 3)}
    return head | {f"train/{name}": value for name, value in values.items()}


def answer(step: int, when: float) -> dict[str, Any]:
    """The row of the evaluation: two benchmarks in two modes."""
    fields = ("score", "stderr", "stderr_tasks", "n", "lower_bound", "normalized")
    head: dict[str, Any] = {"step": step, "attempt": 1, "time": round(when, 3)}
    for benchmark in ("procedural_exact", "procedural_rouge"):
        for setting in ("direct", "cot"):
            head |= {f"eval/{benchmark}/{setting}/{field}": 12.3456789 for field in fields}
    average = {"": 40 + step % 7 / 3, "_stderr": 1.25, "_members": ["procedural_exact", "procedural_rouge"]}
    return head | {f"eval/normalized_average{name}": value for name, value in average.items()}


if __name__ == "__main__":
    main()
