"""What may be compared, and what not: everything about a study's logs that would make a number mean something else.

Nothing is dropped here but what `scores` could not read. Each finding names what it is about, and its cells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.panels import Panel
from analysis.questions import questions
from analysis.runs import Study
from analysis.scores import AVERAGE, Measured
from flanscale.tracking import keys

UNANSWERED = 0.2
"""Share of the items above which it is told that they have no answer."""
UNASKED = 0.01
"""Share of the questions above which it is told that they were not asked."""
FREE = {"tasks": ("model", "seed"), "init": ("seed", "cot", "mixture.count", "mixture.order_seed")}
"""Axes that the data of this name do not follow; of names that are not here, none is followed."""


@dataclass(frozen=True)
class Finding:
    """Something to know before a table is believed."""

    kind: str
    """A name for it in few words, e.g. `different members`."""
    text: str
    """One sentence."""
    cells: tuple[str, ...]


def findings(study: Study, analysed: Sequence[Panel]) -> list[Finding]:
    """Everything to know about the logs behind a study's panels, the gravest first."""
    return [
        *_members(study),
        *_of_kind(study, "lower_bound", "different lower bounds", "are normalised by different lower bounds"),
        *_prompts(study),
        *_of_kind(study, "n", "different items", "answered different numbers of items"),
        *_fingerprints(study),
        *_fractions(study),
        *_copies(study),
        *_unreadable(study),
        *_without_errors(study),
        *_unanswered(study),
        *_unasked(study),
        *_outlying(analysed),
        *_uneven(analysed),
        *_inconclusive(study, analysed),
    ]


def in_a_line(found: Sequence[Finding]) -> str:
    """All findings in one line of a terminal; empty where there are none."""
    kinds = Counter(each.kind for each in found)
    return ", ".join(kind if number == 1 else f"{kind} ({number} times)" for kind, number in kinds.items())


def _members(study: Study) -> Iterator[Finding]:
    groups = _groups({cell: scores.members for cell, scores in study.logged.items() if scores.members})
    if len(groups) < 2:
        return
    common = ", ".join(map("/".join, study.members)) or "none"
    for members, cells in list(groups.items())[1:]:
        names = ", ".join(map("/".join, members))
        text = (
            f"{len(cells)} runs average {names}, where others average something else; the average shown is over what"
            f" all have in common: {common}"
        )
        yield Finding("averages over different members", text, tuple(cells))


def _of_kind(study: Study, name: str, kind: str, what: str) -> Iterator[Finding]:
    for measured in _measured(study):
        values = {
            cell: scores.found[measured][name] for cell, scores in study.scored.items() if measured in scores.found
        }
        groups = _groups({cell: value for cell, value in values.items() if value == value})
        if len(groups) > 1:
            shown = ", ".join(f"{value:g}" for value in groups)
            yield Finding(kind, f"{_title(measured)}: runs {what}: {shown}", _minority(groups))


def _prompts(study: Study) -> Iterator[Finding]:
    for measured in _measured(study):
        groups = _groups(
            {cell: scores.prompts[measured] for cell, scores in study.scored.items() if measured in scores.prompts}
        )
        if len(groups) > 1:
            text = f"{_title(measured)}: runs were asked in {len(groups)} ways, so that scores are not comparable"
            yield Finding("different prompts", text, _minority(groups))


def _fingerprints(study: Study) -> Iterator[Finding]:
    """Where data changed: `tasks` is of those of a mixture, `init` of what a model started from, the others of all."""
    axes = {point.cell: point.axes for point in study.points}
    for name, values in study.fingerprints.items():
        alike: dict[Any, dict[str, str]] = {}
        for cell, value in values.items():
            if name == "init" and value.startswith("run "):
                continue  # a stage of the study itself, told by its identity
            told = {axis: each for axis, each in axes[cell].items() if axis not in FREE.get(name, axes[cell])}
            alike.setdefault(repr(told), {})[cell] = value
        split = [groups for own in alike.values() if len(groups := _groups(own)) > 1]
        if split:
            most = max(map(len, split))
            text = f"data {name}: it changed within the study, and has {most} fingerprints"
            yield Finding("different data", text, tuple(cell for groups in split for cell in _minority(groups)))


def _fractions(study: Study) -> Iterator[Finding]:
    for measured in _measured(study):
        rows = {cell: scores.found[measured] for cell, scores in study.scored.items() if measured in scores.found}
        if len(rows) > 1 and 0 < max(row["score"] for row in rows.values()) <= 1 and _no_percent(rows.values()):
            text = f"{_title(measured)}: no score is above 1, as if they were fractions; percent are expected"
            yield Finding("fractions in place of percent", text, tuple(rows))


def _copies(study: Study) -> Iterator[Finding]:
    trained = {point.cell for point in study.points if study.column(point, "count") != 0}
    logged = {
        cell: (tuple(sorted((*key, row["score"]) for key, row in scores.found.items())), study.records[cell].losses)
        for cell, scores in study.scored.items()
        if cell in trained
        and any(5 < row["score"] < 95 for row in scores.found.values())
        and (study.records[cell].losses or len(scores.found) > 3)
    }
    for cells in (cells for cells in _groups(logged).values() if len(cells) > 1):
        text = f"{len(cells)} cells have the same scores and losses to the digit, as if one run counted more than once"
        yield Finding("copies", text, tuple(cells))


def _unreadable(study: Study) -> Iterator[Finding]:
    for cell, scores in study.scored.items():
        for problem in scores.problems:
            yield Finding("unreadable scores", f"{cell}: {problem}", (cell,))
    for cell, record in study.records.items():
        if record.state == "damaged":
            yield Finding("damaged runs", f"{cell}: {record.failure}", (cell,))


def _without_errors(study: Study) -> Iterator[Finding]:
    for measured in _measured(study):
        cells = tuple(
            cell
            for cell, scores in study.scored.items()
            if measured in scores.found and scores.found[measured]["stderr"] != scores.found[measured]["stderr"]
        )
        if cells:
            yield Finding("no standard error", f"{_title(measured)}: {len(cells)} runs logged none", cells)


def _unanswered(study: Study) -> Iterator[Finding]:
    """Where many items have no answer: a low score says there that a form was not kept, not what a model knows."""
    for measured, shares in _shares(study, "failures", lambda failures, n: failures / n).items():
        if cells := tuple(cell for cell, share in shares.items() if UNANSWERED < share <= 1):
            most = 100 * max(shares[cell] for cell in cells)
            text = f"{_title(measured)}: of {len(cells)} runs up to {most:.0f} % of the items have none"
            yield Finding("items without an answer", text, cells)


def _unasked(study: Study) -> Iterator[Finding]:
    """Where questions were too long to be asked: the score is of the others, and of the tasks that have others."""
    for measured, shares in _shares(study, "skipped", lambda skipped, n: skipped / (n + skipped)).items():
        if cells := tuple(cell for cell, share in shares.items() if share > UNASKED):
            most = 100 * max(shares[cell] for cell in cells)
            text = (
                f"{_title(measured)}: up to {most:.1f} % of the questions are longer than evaluation.context, and were"
                f" not asked in {len(cells)} runs"
            )
            yield Finding("questions that were not asked", text, cells)


def _shares(study: Study, count: str, share: Callable[[float, float], float]) -> dict[Measured, dict[str, float]]:
    """Of every score, what a count of items is in each run, beside how many were scored; where both are numbers."""
    of: dict[Measured, dict[str, float]] = {}
    for cell, record in study.records.items():
        for benchmark, setting in keys.scored(record.last):
            number: Any = record.last.get(keys.eval_key(benchmark, setting, count))
            n: Any = record.last.get(keys.eval_key(benchmark, setting, "n"))
            if all(type(each) in (int, float) for each in (number, n)) and n > 0 and number >= 0:
                of.setdefault((benchmark, setting), {})[cell] = share(number, n)
    return of


def _outlying(analysed: Sequence[Panel]) -> Iterator[Finding]:
    for panel in analysed:
        for run, away in panel.outliers:
            text = (
                f"{panel.title}: a run of {run.curve.label} at {run.count:,} tasks scores {run.normalized:.1f},"
                f" {away:.0f} standard deviations from the others of its cell; means and fits have it"
            )
            yield Finding("outlying runs", text, run.cells)


def _uneven(analysed: Sequence[Panel]) -> Iterator[Finding]:
    for panel in analysed[-1:]:
        counts: dict[bool | None, dict[str, frozenset[int]]] = {}
        for curve in panel.curves:
            own = frozenset(mean.count for mean in panel.means if mean.curve == curve)
            counts.setdefault(curve.cot, {})[curve.label] = own
        for each in counts.values():
            lost = sorted(set().union(*each.values()) - frozenset.intersection(*each.values()))
            if lost:
                shown = ", ".join(f"{count:,}" for count in lost)
                text = f"{', '.join(each)} do not all have scores at {shown} tasks: averages over sizes leave these out"
                yield Finding("counts that not all have", text, ())


def _inconclusive(study: Study, analysed: Sequence[Panel]) -> Iterator[Finding]:
    """Questions that the design asks and the scores do not answer."""
    for panel in analysed[-1:]:
        planned = list(dict.fromkeys((run.curve, run.count) for run in panel.runs))
        known = {question.text for question in questions([(m.curve, m.count) for m in panel.means], panel.parameters)}
        asked = [question.text for question in questions(planned, panel.parameters)]
        lost = dict.fromkeys(text for text in asked if text not in known)
        if lost:
            gone = tuple(dict.fromkeys(point.cell for point, _ in study.incomplete()))
            text = f"{len(gone)} cells without scores; what they would tell cannot be said: {'; '.join(lost)}"
            yield Finding("missing arms", text, gone)


def _no_percent(rows: Iterable[Mapping[str, float]]) -> bool:
    """Whether the scores are so many of n items as fractions, and not as percent."""

    def whole(row: Mapping[str, float], scale: float) -> bool:
        right = row["score"] / scale * row["n"]
        return math.isnan(right) or abs(right - round(right)) < 1e-6 * max(1.0, right)

    known = list(rows)
    return all(whole(row, 1) for row in known) and not all(whole(row, 100) for row in known if row["n"] == row["n"])


def _measured(study: Study) -> list[Measured]:
    found = dict.fromkeys(measured for scores in study.scored.values() for measured in scores.found)
    return [measured for measured in found if measured != AVERAGE]


def _groups(values: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Cells by value, the most frequent first."""
    found: dict[Any, list[str]] = {}
    for cell, value in values.items():
        found.setdefault(value, []).append(cell)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _minority(groups: Mapping[Any, list[str]]) -> tuple[str, ...]:
    return tuple(cell for cells in list(groups.values())[1:] for cell in cells)


def _title(measured: Measured) -> str:
    return "/".join(measured)
