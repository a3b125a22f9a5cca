"""Which benchmarks are there? One module each; those that are read from files have a folder of their name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from flanscale.evaluation.item import Benchmark

FROM_FILES = ("mmlu", "bbh", "tydiqa", "mgsm", "gsm8k", "open_ended")


def open_benchmark(name: str, folder: Path) -> Benchmark:
    """One of `FROM_FILES`, of files in `folder`; nothing is read yet."""
    opened: Benchmark = import_module(f"{__name__}.{name}").benchmark(folder)
    return opened
