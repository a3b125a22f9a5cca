"""Which scores did a run log, and which of them can be believed: numbers checked one by one, and what was wrong with
them.

Scores are in percent, standard errors in points of them, as `flanscale.tracking.keys` logs them. What is not a
number, not finite or out of its range costs the one score that it belongs to, and is told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flanscale.tracking import keys

Measured = tuple[str, str]
"""(benchmark, setting)."""

AVERAGE: Measured = ("normalized_average", "all")
"""Benchmark and setting under which the table carries `eval/normalized_average`."""

PARTS = ("_stderr", "_members", "_prompts", "_asked")
"""What is logged beside an average."""

SCORES = ("score", "stderr", "stderr_tasks", "n", "lower_bound", "normalized")
"""What is known of a run at one benchmark and setting: percent, items, and normalised points. The standard errors, in
points of the score, take the benchmark's tasks as given (`stderr`) or as drawn from many (`stderr_tasks`)."""

HIGHER_IS_BETTER = keys.HIGHER_IS_BETTER
"""Logged beside a score, false says that it is a loss: not in percent, the better the lower, never below 0. It is
known of such a score alone, as 0, and its normalised value is the loss itself."""


@dataclass(frozen=True)
class Scores:
    """What one run logged: `SCORES` by benchmark and setting; NaN where an error or a number was not logged.

    A loss has `HIGHER_IS_BETTER` too.
    """

    found: Mapping[Measured, Mapping[str, float]]
    members: tuple[Measured, ...]
    """Of its normalized average; none where it has no average."""
    prompts: Mapping[Measured, str]
    """Fingerprints of what was asked."""
    problems: tuple[str, ...]


def read_scores(last: Mapping[str, Any]) -> Scores:
    """The scores among the last values of a run's logged keys."""
    raw: dict[Measured, dict[str, Any]] = {}
    for key, value in last.items():
        parts = key.split("/")
        if parts[0] == "eval" and len(parts) == 4:
            raw.setdefault((parts[1], parts[2]), {})[parts[3]] = value
    found, problems = {}, []
    for measured, row in raw.items():
        loss = row.get(HIGHER_IS_BETTER, True) in (False, 0)
        wrong = _wrong_loss(row) if loss else _wrong(row)
        if loss and wrong is None:
            own = {"lower_bound": 0.0, "normalized": float(row["score"]), HIGHER_IS_BETTER: 0.0}
            found[measured] = {name: _number(row.get(name)) for name in SCORES} | own
        elif wrong is None:
            found[measured] = {name: _number(row.get(name)) for name in SCORES}
        else:
            problems.append(f"eval/{'/'.join(measured)}: {wrong}")
    members, average, wrong = _average(last, found, keys.AVERAGE)
    if average is not None:
        found[AVERAGE] = average
    problems += [wrong] if wrong else []
    for name in [key for key in last if re.fullmatch(f"{keys.AVERAGE}@[^/]*", key) and not key.endswith(PARTS)]:
        _, other, wrong = _average(last, found, name)  # of another suite, or of checkpoints that a suite has chosen
        if other is not None:
            found[AVERAGE[0], name.partition("@")[2]] = other
        problems += [wrong] if wrong else []
    prompts = {measured: str(row["prompts"]) for measured, row in raw.items() if "prompts" in row}
    return Scores(found, members, prompts, tuple(problems))


def averaged(found: Mapping[Measured, Mapping[str, float]], members: Sequence[Measured]) -> dict[str, float]:
    """The normalized average over some members, in points; their errors are taken as independent."""
    rows = [found[member] for member in members]
    points = [_scale(row) * row["stderr"] for row in rows]
    stderr = math.sqrt(sum(each**2 for each in points)) / len(rows)
    return _of_average(rows, sum(row["normalized"] for row in rows) / len(rows), stderr)


def _average(
    last: Mapping[str, Any], found: Mapping[Measured, Mapping[str, float]], key: str
) -> tuple[tuple[Measured, ...], dict[str, float] | None, str | None]:
    if key not in last or not found:
        return (), None, None
    listed = last.get(f"{key}_members")
    names = [name.rpartition("/") for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    suffix = key.removeprefix(keys.AVERAGE)  # the settings of its members have it too, where others have been asked
    own = [((benchmark, f"{setting}{suffix}"), (benchmark, setting)) for benchmark, _, setting in names]
    members = tuple(named if named in found else plain for named, plain in own)
    if not members:
        return (), None, f"{key}: nothing says which benchmarks are in it"
    if unknown := ["/".join(member) for member in members if member not in found]:
        return (), None, f"{key}: no score of its member {', '.join(unknown)}"
    if losses := ["/".join(member) for member in members if HIGHER_IS_BETTER in found[member]]:
        return (), None, f"{key}: its member {', '.join(losses)} is a loss, which has no points"
    value = _number(last[key])
    if not math.isfinite(value) or value > 100:
        return (), None, f"{key}: {last[key]!r} is not a score in percent"
    average = _of_average([found[member] for member in members], value, _number(last.get(f"{key}_stderr")))
    if not -1 <= average["score"] <= 101 or average["stderr"] < 0 or average["stderr"] > 100:
        return (), None, f"{key}: {value:g} is no average of its members"
    average["score"] = min(max(average["score"], 0.0), 100.0)  # subtasks are normalised each by itself: a little off
    return members, average, None


def _of_average(rows: Sequence[Mapping[str, float]], value: float, stderr: float) -> dict[str, float]:
    """With the score and lower bound of a single benchmark that would be normalised to the same points."""
    worst = sum(-100 * row["lower_bound"] / (100 - row["lower_bound"]) for row in rows) / len(rows)
    scale = (100 - worst) / 100
    return {
        "score": (value - worst) / scale,
        "stderr": stderr / scale,
        "stderr_tasks": math.nan,
        "n": sum(row["n"] for row in rows),
        "lower_bound": -worst / scale,
        "normalized": value,
    }


def _wrong(row: Mapping[str, Any]) -> str | None:
    """What makes a score unusable; None where nothing does."""
    if any(_number(row.get(name)) > 100 for name in ("stderr", "stderr_tasks")):
        return "a standard error above 100"
    for name in ("score", "lower_bound", "normalized"):
        if name not in row:
            return f"no {name}"
        if not math.isfinite(_number(row[name])):
            return f"{name} is {row[name]!r}"
    if not 0 <= row["score"] <= 100:
        return f"score {row['score']:g} is not in percent"
    if not 0 <= row["lower_bound"] < 100:
        return f"lower_bound {row['lower_bound']:g} leaves nothing up to 100"
    if row["normalized"] > 100:
        return f"normalized {row['normalized']:g} is above 100"
    least = {"stderr": 0, "stderr_tasks": 0, "n": 1}
    below = [name for name, lowest in least.items() if _number(row.get(name)) < lowest]
    return f"{below[0]} is {row[below[0]]!r}" if below else None


def _wrong_loss(row: Mapping[str, Any]) -> str | None:
    if not _number(row.get("score")) >= 0:
        return f"score is {row.get('score')!r}, where a loss is a number from 0 on"
    return f"stderr is {row['stderr']!r}" if _number(row.get("stderr")) < 0 else None


def _number(value: Any) -> float:
    """A number as it is; NaN for anything else, an infinite one too."""
    plain = isinstance(value, float) or (type(value) is int and abs(value) < 2**53)
    return float(value) if plain and math.isfinite(value) else math.nan


def _scale(row: Mapping[str, float]) -> float:
    return 100 / (100 - row["lower_bound"])
