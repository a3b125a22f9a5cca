"""What do people see of a study? The public face of words, tables and live views."""

from __future__ import annotations

import io
import sys

from rich.console import Console

from flanscale.orchestration.watching.live import Choice, following, show_status
from flanscale.orchestration.watching.words import axis_values, counts, duration, left, outcome, quantity

__all__ = [
    "Choice",
    "axis_values",
    "counts",
    "duration",
    "following",
    "left",
    "open_console",
    "outcome",
    "quantity",
    "show_status",
]

PLAIN_WIDTH = 200  # where the output is no terminal, nothing is gained by folding


def open_console() -> Console:
    """A console on standard output; what its encoding lacks is shown as a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
