"""How many items of each line would tell two models apart? Judged by the records of models that were asked already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from statistics import median

from flanscale.errors import ConfigError
from flanscale.evaluation.paired import Needed, difference, items_needed
from flanscale.evaluation.records import SKIPPED, Record, kept
from flanscale.run_directory.evaluations import read_result

MOST_PAIRS = 20


@dataclass(frozen=True)
class Enough:
    """For one line, by the pair of models that is in the middle of all that were compared."""

    line: str
    here: int
    needed: Needed
    pairs: int


def needed(
    records: Mapping[str, Sequence[Sequence[Record]]], metrics: Mapping[str, str], points: float
) -> Iterator[Enough]:
    """What each line needs to tell a difference of so many points.

    Args:
        records: line → the records of each model.
        metrics: line → its headline.

    Raises:
        ConfigError: fewer than two models, or they do not differ on any item.
    """
    for line, models in records.items():
        if len(models) < 2:
            raise ConfigError(f"{line}: {len(models)} model was asked it; how many items tell two apart takes two")
        counts = Counter(record.subtask for record in models[0] if record.status != SKIPPED)
        found = []
        for one, other in islice(combinations(models, 2), MOST_PAIRS):
            try:
                found.append(items_needed(difference(one, other, metrics[line], line), counts, points))
            except ConfigError as error:
                why = error
        if not found:
            raise why
        middle = median(each.formula for each in found)
        yield Enough(line, counts.total(), min(found, key=lambda each: abs(each.formula - middle)), len(found))


def records_of(folders: Sequence[Path]) -> tuple[dict[str, list[list[Record]]], dict[str, str]]:
    """Of the lines with a score: the records of each evaluation, and the headline.

    Raises:
        ConfigError: one of them is not over, or damaged.
    """
    records: dict[str, list[list[Record]]] = {}
    metrics: dict[str, str] = {}
    for folder in folders:
        if (result := read_result(folder)) is None:
            raise ConfigError(f"{folder}: this evaluation is not over")
        for line in result["lines"]:
            if line["scores"]:
                own, whole = kept(folder, line["name"])
                if not own or not whole:
                    raise ConfigError(f"{folder}: the records of {line['name']} are not there")
                records.setdefault(line["name"], []).append(own)
                metrics[line["name"]] = line["scores"][0]["metric"]
    return records, metrics
