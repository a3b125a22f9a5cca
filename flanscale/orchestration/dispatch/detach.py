"""How does a queue outlive the terminal? A copy of this process in a session of its own."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def detached(work: Callable[[], int], log: Path) -> int:
    """Do `work` in a child process of its own session, its words appended to a log; returns its pid at once.

    The child ends with `work`'s result as its exit code. Call it while this process has no other threads.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        with log.open("a") as words, Path(os.devnull).open() as nothing:
            for stream, target in ((0, nothing), (1, words), (2, words)):
                os.dup2(target.fileno(), stream)
        code = work()
    except BaseException:  # nobody above this frame belongs to the child
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
