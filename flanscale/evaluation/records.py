"""What is kept of every item that was asked? One JSON line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError
from flanscale.run_directory.evaluations import read_records

ANSWERED, NO_ANSWER, SKIPPED = "answered", "no_answer", "skipped"
CONTAMINATED, DUPLICATES = "contaminated", "duplicate_options"


@dataclass(frozen=True)
class Sample:
    """One text that the model wrote, and the answer in it."""

    text: str
    answer: str | None
    tokens: int
    ended: bool
    """Rather than cut at the most new tokens."""
    logprob: float


@dataclass(frozen=True)
class Option:
    """What the model thinks of one option: log-probabilities in nats, of all its tokens together."""

    logprob: float
    unconditional: float
    """Behind the setting's neutral prompt."""
    tokens: int
    bytes: int
    """Of the option's text without the space before it, in UTF-8."""
    greedy: bool


@dataclass(frozen=True)
class Record:
    """One item of one benchmark in one setting, as one model answered it."""

    key: str
    subtask: str
    cluster: str
    prompt_hash: str
    prompt_tokens: int
    shots: int
    """How many were in the prompt."""
    dropped: int
    """How many had to be left out, because the prompt was too long."""
    status: str
    """answered; no_answer, where the text holds none, or log-probabilities are not finite or all the same, which counts
    as wrong; skipped, where the question alone was too long, which does not count at all."""
    reference: str | None
    answer: str | None
    scores: Mapping[str, float]
    """Points, 0 to 100, of each metric; empty where the item was skipped or has no reference."""
    samples: tuple[Sample, ...] = ()
    options: tuple[Option, ...] = ()
    gold: int | None = None
    flags: tuple[str, ...] = field(default=())
    """What else is to be known of the item: duplicate_options, contaminated."""

    def line(self) -> dict[str, Any]:
        """As a JSON object: what is not finite is null."""
        return vars(self) | {
            "samples": [_finite(vars(sample)) for sample in self.samples],
            "options": [_finite(vars(option)) for option in self.options],
        }

    @staticmethod
    def of(line: Mapping[str, Any]) -> Record:
        """The record of a JSON object.

        Raises:
            TypeError: it is none.
        """
        samples = tuple(Sample(**{**sample, "logprob": _number(sample["logprob"])}) for sample in line["samples"])
        options = tuple(
            Option(**{**option, **{name: _number(option[name]) for name in ("logprob", "unconditional")}})
            for option in line["options"]
        )
        return Record(**{**line, "samples": samples, "options": options, "flags": tuple(line["flags"])})


def kept(folder: Path, line: str) -> tuple[list[Record], bool]:
    """The records of a line so far, and whether these are all.

    Raises:
        ConfigError: they are damaged, or no records of this version.
    """
    rows, whole = read_records(folder, line)
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            record = Record.of(row)
            if record.status not in (ANSWERED, NO_ANSWER, SKIPPED):
                raise ValueError(f"status {record.status!r}")
            if not all(0 <= float(points) <= 100 for points in record.scores.values()):
                raise ValueError(f"scores {record.scores!r}")
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{folder}: record {number} of {line} is damaged ({error}); delete the files of {line} there, and"
                " result.json, to have it asked again"
            ) from None
        found.append(record)
    return found, whole


def _finite(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in part.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
