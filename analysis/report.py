"""What came out of a study: one self-contained HTML file, the figure with its data, and a table for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import answers, contrasts, figures, gate, page, panels, replication, sources, subtasks, tables
from analysis.contrasts import Contrast
from analysis.gate import Finding
from analysis.panels import Panel
from analysis.replication import Again
from analysis.runs import AnalysisError, Study
from flanscale.errors import ConfigError, one_line
from flanscale.run_directory import Attempt, Code, read_attempts, read_each, write_atomically

__all__ = ["AnalysisError", "Report", "build"]

SHOWN = ("finetuning", "volume", "cot", "size", "level")
"""Kinds of question that the terminal answers."""


@dataclass(frozen=True)
class Report:
    """What `build` wrote, and the tables to print."""

    text: RenderableType
    html: Path
    figure_png: Path
    figure_svg: Path
    csv: Path
    fits: Path
    runs: Path
    tables: Path
    """A folder: scores, contrasts, forms and parameters, each as .csv, .md and .tex."""


def build(
    index: Path, out: Path, source: str = "directories", seed_noise: float | None = None, first: Path | None = None
) -> Report:
    """Analyse a study; write `out`/STUDY.html with the figure, what it was made from, and the table of runs beside it.

    An unfinished study is reported as far as it went, with a list of what is missing.

    Args:
        index: studies/NAME.json.
        out: folder of the files.
        source: where the logs are read from, see `sources`.
        seed_noise: points of standard deviation between seeds where half is right, for a study that repeats none.
        first: index of a study whose findings are asked again of this one.

    Raises:
        AnalysisError: there is no such study, nothing in it has been evaluated yet, or the files cannot be written; the
            message is one line.
    """
    study = sources.read(index, source)
    analysed = panels.analyse(study, seed_noise)
    if not analysed:
        wrong = next((problem for scores in study.logged.values() for problem in scores.problems), "")
        told = f"{tables.progress(study)}{f'; {wrong}' if wrong else ''}"
        raise AnalysisError(f"nothing to report yet: no run of study {study.name} is evaluated ({told})")
    facts, damaged = trained_with(study)
    asked, unread = contrasts.ask(study, analysed)
    again = _again(first, study, analysed[-1], asked[-1], seed_noise) if first else None
    by_subtask, torn = subtasks.read_subtasks(study)
    health = gate.findings(study, analysed)
    health += [Finding("damaged files", each, ()) for each in dict.fromkeys([*unread, *torn, *damaged])]
    if by_subtask and (
        without := [cell for cell in study.scored if study.scored[cell].found and cell not in by_subtask]
    ):
        text = f"{len(without)} evaluated cells have none at hand: there is no table by task where they stand"
        health.append(Finding("no scores by task", text, tuple(without)))
    if seed_noise is not None and all(noise.df < math.inf for panel in analysed for noise in panel.noise.values()):
        text = f"seeds are repeated: their own scatter is used, and not the {seed_noise:g} points that were stated"
        health.append(Finding("stated noise is not used", text, ()))
    shown = terminal(study, analysed, asked, health)
    if again:
        shown = Group(shown, Text(), Text("\n".join(again.sentences)))
    content = page.Content(analysed, asked, "", health, facts, by_subtask, again)
    try:
        return _write(study, content, out, shown)
    except OSError as error:
        raise AnalysisError(f"the report cannot be written to {out}: {error.strerror or one_line(error)}") from error


def _write(study: Study, content: page.Content, out: Path, shown: RenderableType) -> Report:
    name = (re.sub(r"[^\w.-]+", "_", study.name).lstrip(".") or "study")[:100]
    files = figures.write(content.panels, out / name, sizes=figures.sizes(study), note=shortfall(study))
    table, html = out / f"{name}.runs.csv", out / f"{name}.html"
    sources.write_csv(study, table)
    drawn = replace(content, svg=files.svg.read_text(encoding="utf-8"))
    write_atomically(html, page.render(study, drawn))
    written = _tables(study, content.panels, content.asked, out / f"{name}.tables")
    return Report(shown, html, files.png, files.svg, files.csv, files.json, table, written)


def _tables(study: Study, analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]], folder: Path) -> Path:
    members = ", ".join(" ".join(member) for member in study.members)
    names = [f"{panel.title} of {members}" if panel.is_average else panel.title for panel in analysed]
    each = {
        "scores": [tables.scores(panel) for panel in analysed],
        "contrasts": [tables.contrasts(found) for found in asked],
        "forms": [tables.forms(panel) for panel in analysed],
        "parameters": [tables.parameters(panel) for panel in analysed],
    }
    for kind, frames in each.items():
        tables.write(tables.below_each_other(list(zip(names, frames, strict=True))), folder / kind)
    return folder


def _again(first: Path, study: Study, panel: Panel, found: Sequence[Contrast], seed_noise: float | None) -> Again:
    before = sources.read(first)
    if shared := before.records.keys() & study.records.keys():
        raise AnalysisError(
            f"studies {before.name} and {study.name} share {len(shared)} cells: neither can confirm the other"
        )
    earlier = panels.analyse(before, seed_noise)
    if not earlier:
        raise AnalysisError(f"no run of study {before.name} is evaluated: there is nothing to find again")
    theirs, _ = contrasts.ask(before, earlier)
    pairs = replication.replication(theirs[-1], found)
    return Again(before.title, earlier[-1].title, pairs, replication.heights(earlier[-1], panel))


def terminal(
    study: Study, analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]], health: Sequence[Finding] = ()
) -> RenderableType:
    """Mean ± standard error per size × CoT × count, a table per panel, with what follows from it."""
    brief = answers.in_brief(analysed, asked)
    parts: list[RenderableType] = [Text(study.title, style="bold"), Text(), *map(Text, brief), Text()]
    for panel, found in zip(analysed, asked, strict=True):
        scores = tables.scores(panel)
        grid = Table(
            title=f"{panel.title}, by finetuning tasks",
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for name in scores.columns:
            grid.add_column(name, no_wrap=True, justify="left" if name in ("size", "CoT") else "right")
        for row in scores.to_numpy():
            grid.add_row(*row)
        parts += [grid, Text("\n".join(findings(panel, found))), Text()]
    starred = f" * {short}." if (short := tables.starred(analysed)) else ""
    parts.append(Text(f"{_units(analysed)}{starred} {tables.progress(study)}.", style="dim"))
    if health:
        parts.append(Text(f"Before you believe a number: {gate.in_a_line(health)}; see the report.", style="yellow"))
    return Group(*parts)


def _units(analysed: Sequence[Panel]) -> str:
    points = "Points: 0 is chance, 100 everything right; " if any(not panel.falls for panel in analysed) else ""
    return f"{points}± standard error, [95 % interval]."


def findings(panel: Panel, asked: Sequence[Contrast]) -> list[str]:
    """What a panel says, a line each; differences are over all sizes."""
    shown = [each for each in contrasts.overall(asked) if each.question.kind in SHOWN]
    lines = [f"{each.question.text}: {tables.signed(each.estimate, each.unit.digits)}" for each in shown]
    return [*lines, *filter(None, [answers.form(panel)])]


def shortfall(study: Study) -> str:
    """What a figure must say about points that are not in it; empty when all are."""
    gone = len(study.incomplete())
    return f"{gone} of {len(study.points)} points have no score yet" if gone else ""


def trained_with(study: Study) -> tuple[dict[str, list[str]], list[str]]:
    """Commits, versions and devices that the runs' provenance names, and which of the files are damaged."""
    found: dict[str, set[str]] = {}
    damaged = []
    runs = sorted({point.run for point in study.points})
    for attempts in read_each(_attempts, [study.folder / run for run in runs]):
        if isinstance(attempts, ConfigError):
            damaged.append(str(attempts))
            continue
        for name, value in (fact for attempt in attempts for fact in _provenance(attempt).items()):
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in found.items()}, damaged


def _attempts(run_dir: Path) -> Sequence[Attempt] | ConfigError:
    try:
        return read_attempts(run_dir)
    except ConfigError as error:
        return error


def _provenance(attempt: Attempt) -> dict[str, str]:
    code, packages = attempt.code or Code(), attempt.packages or {}
    commit = f"{code.commit}{' (modified)' if code.dirty else ''}" if code.commit else None
    facts = {"commit": commit, "python": attempt.python, "platform": attempt.platform}
    return {
        name: value
        for name, value in (facts | {"devices": ", ".join(attempt.devices or [])} | packages).items()
        if value
    }
