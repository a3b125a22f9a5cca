"""How do cells share the imports that each of them needs? As copies of one process that has done them.

They take half of what a small cell takes beside learning. The process reads one call a line from standard input, makes
a copy of itself that runs the cell, and answers with the copy's process id; it ends when its input does, its copies
live on. It must hold no device, and no thread that a copy would miss.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from flanscale.orchestration.running import child


@dataclass(frozen=True)
class Call:
    """One cell, and where it says what it has no log for yet."""

    arguments: list[str]  # see `child.arguments`
    words: str


def command(runner: str) -> list[str]:
    """What is to be executed, in the environment of the cells."""
    return [sys.executable, "-u", "-m", __name__, runner]


def line(call: Call) -> bytes:
    """A call as the process reads it."""
    return json.dumps(asdict(call)).encode() + b"\n"


def main() -> None:
    """Serve until the input ends, or, in a copy, run the cell."""
    with suppress(Exception):  # each cell records by itself what is wrong with it
        for name in getattr(importlib.import_module(sys.argv[1]), "IMPORTS", ()):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # memory that stays shared, and that no copy searches again
    for given in sys.stdin.buffer:
        _bury()
        pid = os.fork()
        if not pid:
            _run(Call(**json.loads(given)))
            return
        print(pid, flush=True)
    _bury()


def _bury() -> None:
    """Forget the copies that have ended; until then their process ids are nobody else's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(call: Call) -> None:
    os.setsid()
    with Path(call.words).open("wb") as words, Path(os.devnull).open("rb") as nothing:
        for stream, target in ((0, nothing), (1, words), (2, words)):
            os.dup2(target.fileno(), stream)
    sys.argv = [str(child.__file__), *call.arguments]
    child.main()


if __name__ == "__main__":
    main()
