"""What a command typed in a test has told."""

from collections.abc import Callable
from typing import NamedTuple


class Told(NamedTuple):
    """What a command has printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Told]
