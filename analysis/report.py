"""What came out of a study: one self-contained HTML file, the figure with its data, and a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import contrasts, figures, panels, runs, tables
from analysis.contrasts import Contrast
from analysis.fit_report import versions
from analysis.items import read_answers
from analysis.panels import Panel
from analysis.runs import AnalysisError, Study
from flanscale.errors import ConfigError
from flanscale.run_directory import Attempt, Code, read_attempts

__all__ = ["AnalysisError", "Report", "build"]

TEMPLATES = Path(__file__).parent / "templates"
SHORT = "fewer runs than planned"


@dataclass(frozen=True)
class Report:
    """What `build` wrote, and the tables to print."""

    text: RenderableType
    html: Path
    figure_png: Path
    figure_svg: Path
    csv: Path
    fits: Path


def build(index: Path, out: Path) -> Report:
    """Analyse a study; write `out`/STUDY.html with STUDY.png, .svg, .csv (what is drawn) and .json (fits) beside it.

    An unfinished study is reported as far as it went, with a list of what is missing.

    Raises:
        AnalysisError: there is no such study, or nothing in it has been evaluated yet; the message is one line.
    """
    study = runs.from_directories(index)
    analysed = panels.analyse(study)
    if not analysed:
        raise AnalysisError(f"nothing to report yet: no run of study {study.name} is evaluated ({progress(study)})")
    answers, unread = read_answers(study)
    damaged = [*unread, *trained_with(study)[1]]
    asked = contrasts.ask(study, analysed, answers)
    files = figures.write(analysed, out / study.name, sizes=sizes(study), note=shortfall(study))
    html = out / f"{study.name}.html"
    svg = files.svg.read_text(encoding="utf-8")
    html.write_text(render(study, analysed, asked, svg, damaged), encoding="utf-8")
    text = Group(terminal(study, analysed, asked), *(Text(f"damaged: {each}", style="red") for each in damaged))
    return Report(text, html, files.png, files.svg, files.csv, files.json)


def terminal(study: Study, analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]]) -> RenderableType:
    """Mean ± standard error per size × CoT × count, a table per panel, with what follows from it."""
    parts: list[RenderableType] = [Text(study.title, style="bold"), Text()]
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
    starred = f" * {SHORT}." if any(len(mean.runs) < mean.planned for panel in analysed for mean in panel.means) else ""
    return Group(*parts, Text(f"Normalised points ± standard error.{starred} {progress(study)}.", style="dim"))


def findings(panel: Panel, asked: Sequence[Contrast]) -> list[str]:
    """What a panel says, a line each; differences are over all sizes."""
    shown = [each for each in _overall(asked) if each.question.kind in ("cot", "volume")]
    lines = [f"{each.question.text}: {tables.signed(each.estimate)}" for each in shown]
    return [*lines, panel.comparison.sentence]


def answer(analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]]) -> str:
    """The study's answer in two sentences, from its last panel: the normalised average where there are several."""
    panel, found = analysed[-1], _overall(asked[-1])
    counts = [count for count in panel.counts if count > 0]
    gains = [
        f"{tables.signed(each.estimate)} points {each.question.arm}".strip()
        for each in found
        if each.question.kind == "volume"
    ]
    first = (
        f"{panel.title}: {' and '.join(gains)} from {counts[0]:,} to {counts[-1]:,} finetuning tasks"
        if gains
        else (f"{panel.title}: there are no two task counts to compare")
    )
    rationales = [
        f"; training with CoT adds {tables.signed(each.estimate)} at equal task counts"
        for each in found
        if each.question.kind == "cot"
    ]
    return f"{first}{''.join(rationales)}. {panel.comparison.sentence}"


def progress(study: Study) -> str:
    """How much of the study there is, in words."""
    states = Counter(record.state for record in study.records.values())
    return f"{len(study.records)} cells: " + ", ".join(f"{number} {state}" for state, number in states.most_common())


def shortfall(study: Study) -> str:
    """What a figure must say about points that are not in it; empty when all are."""
    gone = len(study.incomplete())
    return f"{gone} of {len(study.points)} points have no score yet" if gone else ""


def sizes(study: Study) -> dict[str, str]:
    """Legend texts: model names with their parameters."""
    return {name: f"{name}, {_round(count)} parameters" if count else name for name, count in study.models.items()}


def render(
    study: Study,
    analysed: Sequence[Panel],
    asked: Sequence[Sequence[Contrast]],
    svg: str,
    damaged: Sequence[str] = (),
) -> str:
    """The report as one HTML document; everything but the drawing is escaped.

    `damaged` are sentences about files of runs that could not be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html").render(
        study=study,
        panels=list(zip(analysed, asked, strict=True)),
        svg=svg[svg.index("<svg") :],
        answer=answer(analysed, asked),
        progress=progress(study),
        findings=findings,
        short=SHORT,
        tables=tables,
        versions=versions(),
        fingerprints=fingerprints(study),
        trained_with=trained_with(study)[0],
        damaged=damaged,
    )


def fingerprints(study: Study) -> dict[str, list[str]]:
    """Content hashes of the data behind the runs; two of one name mean that the data changed within the study."""
    found: dict[str, set[str]] = {}
    for record in study.records.values():
        for name, value in (record.config.get("fingerprints") or {}).items():
            found.setdefault(name, set()).add(str(value))
    return {name: sorted(values) for name, values in sorted(found.items())}


def trained_with(study: Study) -> tuple[dict[str, list[str]], list[str]]:
    """Commits, versions and devices that the runs' provenance names, and which of the files are damaged."""
    found: dict[str, set[str]] = {}
    damaged = []
    for run in sorted({point.run for point in study.points}):
        try:
            attempts = read_attempts(study.folder / run)
        except ConfigError as error:
            damaged.append(str(error))
            continue
        for name, value in (fact for attempt in attempts for fact in _provenance(attempt).items()):
            found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in found.items()}, damaged


def _provenance(attempt: Attempt) -> dict[str, str]:
    code, packages = attempt.code or Code(), attempt.packages or {}
    commit = f"{code.commit}{' (modified)' if code.dirty else ''}" if code.commit else None
    facts = {"commit": commit, "python": attempt.python, "platform": attempt.platform}
    return {
        name: value
        for name, value in (facts | {"devices": ", ".join(attempt.devices or [])} | packages).items()
        if value
    }


def _overall(asked: Sequence[Contrast]) -> list[Contrast]:
    """The contrasts over all sizes, or of the only one."""
    return [each for each in asked if each.question.size == asked[0].question.size]


def _round(parameters: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= size:
            return f"{float(f'{parameters / size:.2g}'):g} {unit}"
    return str(parameters)
