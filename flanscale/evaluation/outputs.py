"""What did another program's model answer? Its recorded outputs, read by the same rules and scored like any others.

A line holds an "output" and says of which item it is: by "key", or by "question", which is the whole prompt, the
question as it is asked, or that without what stands before its first colon and in its last line (`Q: … A:`). A line
of a suite with several samples takes as many outputs of each item.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError, DataError
from flanscale.evaluation.asking import judged
from flanscale.evaluation.item import Item
from flanscale.evaluation.protocol import Written
from flanscale.evaluation.records import Record
from flanscale.evaluation.suites import Line
from flanscale.tasks.benchmark_files import STRICT
from flanscale.tasks.reading import json_lines

_OPENING = re.compile(r"^[^\s:]{1,30}:\s")  # Q:
_CLOSING = re.compile(r"\n[^\n]*$")  # A: Let's think step by step.


@dataclass(frozen=True)
class Scored:
    """The records of the items that have an output, in the items' order, and how many have none."""

    records: tuple[Record, ...]
    without: int


def score_outputs(path: Path, line: Line) -> Scored:
    """The records of recorded outputs.

    Raises:
        ConfigError: the line ranks options, which texts cannot do.
        DataError: there is no such file, or a line of it is malformed or of no item.
    """
    if line.setting.extract is None:
        raise ConfigError(f"{line.name} ranks options by their probabilities: outputs are of a setting that writes")
    if not path.is_file():
        raise DataError(f"{path}: no such file of outputs")
    texts: dict[str, list[str]] = {}
    keys, questions = {item.key for item in line.asked.items}, _questions(line.asked.items)
    for number, row in json_lines(path, STRICT):
        where = f"{path}:{number}"
        # Of items that ask the same, the one with the fewest outputs so far.
        key = min(_keys(row, keys, questions, where), key=lambda key: len(texts.get(key, ())))
        texts.setdefault(key, []).append(_text(row, where))
    if not texts:
        raise DataError(f"{path}: no output in it")
    samples = line.ask.samples
    for key, own in texts.items():
        if len(own) != samples:
            raise DataError(f"{path}: {len(own)} outputs of {key}, where {line.name} takes {samples} of each item")
    answered = [item for item in line.asked.items if item.key in texts]
    records = [
        judged(line.setting, item, [Written(text, 0, ended=True, logprob=math.nan) for text in texts[item.key]])
        for item in answered
    ]
    return Scored(tuple(records), len(line.asked.items) - len(answered))


def _text(row: Mapping[str, Any], where: str) -> str:
    if not isinstance(text := row.get("output"), str):
        raise DataError(f'{where}: expected a text as "output"')
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"{where}: half of a surrogate pair, which is no text")
    return text


def _keys(row: Mapping[str, Any], keys: set[str], questions: Mapping[str, list[str]], where: str) -> list[str]:
    """Of the items that a line may be of."""
    if "key" in row:
        if not isinstance(row["key"], str) or row["key"] not in keys:
            raise DataError(f"{where}: no item has the key {row['key']!r}")
        return [row["key"]]
    asked = row.get("question")
    if not isinstance(asked, str):
        raise DataError(f'{where}: expected "key" or "question", which says of which item the output is')
    if (found := questions.get(asked.strip())) is None:
        raise DataError(f"{where}: no item asks {asked.strip()[:60]!r}")
    return found


def _questions(items: Sequence[Item]) -> dict[str, list[str]]:
    """Text → keys of the items that it may stand for."""
    found: dict[str, dict[str, None]] = {}
    for item in items:
        question = item.prompt.question
        for text in (item.prompt.text(), question, _OPENING.sub("", _CLOSING.sub("", question))):
            found.setdefault(text.strip(), {})[item.key] = None
    return {text: list(keys) for text, keys in found.items()}
