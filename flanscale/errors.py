"""What can go wrong by somebody's doing? Each error with the failure class that a run's record gives it.

Also how such an error is said: in one line, with the nearest of the names that would have been right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import ClassVar


class FlanscaleError(Exception):
    """What flanscale raises of its own accord."""

    failure_class: ClassVar[str] = "unknown"  # one of `run_directory.FAILURE_CLASSES`


class UserError(FlanscaleError, ValueError):
    """Something that the user can put right; the message is one line that tells how."""


class ConfigError(UserError):
    """A configuration, a command or a record that cannot be used."""

    failure_class = "config"


class VocabularyError(ConfigError):
    """No vocabulary file, or not the right one."""


class WeightsError(ConfigError):
    """Weights that cannot be taken or given."""


class OtherRun(ConfigError):
    """A checkpoint belongs to another run than the one that would go on from it."""


class DataError(UserError):
    """Task data that is missing or malformed; the message names the file or the task."""

    failure_class = "data"


class NonFiniteLoss(FlanscaleError):
    """Too many steps in a row had a loss or gradient that is not finite."""

    failure_class = "nonfinite_loss"


class NonFiniteLogits(NonFiniteLoss):
    """A model cannot say its next token: its logits are not finite. `prompt` is the number, from 0, of the first."""

    def __init__(self, message: str, prompt: int = 0) -> None:
        super().__init__(message)
        self.prompt = prompt


class NonFiniteWeights(NonFiniteLoss):
    """Parameters that are to be asked hold numbers that are not finite."""


class Preempted(FlanscaleError):
    """Asked to stop; what a checkpoint holds is saved, and the run can go on from there."""

    failure_class = "preempted"


class CutOff(FlanscaleError):
    """The attempts before this one were ended by their nodes, too many in a row."""

    failure_class = "node"


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """What a program does: a mistake of the user ends it in one line on standard error and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"flanscale: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def one_line(error: BaseException) -> str:
    """What a library's message says before its diagnostics."""
    lines = str(error).strip().split("\n")
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def nearest(word: object, known: Iterable[str]) -> str:
    """`; did you mean …?` with the known names most like one that is not known, or nothing where none is."""
    return did_you_mean(closest(str(word), known))


def closest(word: str, known: Iterable[str]) -> list[str]:
    """The known names most like a word, best first: those that hold it whole, else those spelt much like it."""
    names = list(dict.fromkeys(known))
    whole = [name for name in names if len(word) > 3 and word.lower() in name.lower()]
    return whole[:3] or get_close_matches(word, names, n=3, cutoff=0.5)


def did_you_mean(names: Iterable[str]) -> str:
    """The hint itself, with at most three of the names."""
    shown = list(names)[:3]
    return f"; did you mean {' or '.join(shown)}?" if shown else ""
