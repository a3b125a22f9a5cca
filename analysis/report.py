"""What came out of a study: one self-contained HTML file, the figure with its data, and a table for the terminal."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import answers, contrasts, figures, gate, joint, panels, replication, sources, tables
from analysis.contrasts import Contrast
from analysis.fit_report import versions
from analysis.gate import Finding
from analysis.panels import Panel
from analysis.replication import Heights, Replicated
from analysis.runs import AnalysisError, Study
from flanscale.errors import ConfigError
from flanscale.run_directory import Attempt, Code, read_attempts

__all__ = ["AnalysisError", "Report", "build"]

TEMPLATES = Path(__file__).parent / "templates"
SHORT = "fewer runs than planned"
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
        AnalysisError: there is no such study, or nothing in it has been evaluated yet; the message is one line.
    """
    study = sources.read(index, source)
    analysed = panels.analyse(study, seed_noise)
    if not analysed:
        raise AnalysisError(f"nothing to report yet: no run of study {study.name} is evaluated ({progress(study)})")
    facts, damaged = trained_with(study)
    asked, unread = contrasts.ask(study, analysed)
    again = _again(first, study, analysed[-1], asked[-1], seed_noise) if first else None
    health = [*gate.findings(study, analysed), *(Finding("damaged files", each, ()) for each in [*unread, *damaged])]
    if seed_noise is not None and all(noise.df < math.inf for panel in analysed for noise in panel.noise.values()):
        text = f"seeds are repeated: their own scatter is used, and not the {seed_noise:g} points that were stated"
        health.append(Finding("stated noise is not used", text, ()))
    name = re.sub(r"[^\w.-]+", "_", study.name).lstrip(".") or "study"
    files = figures.write(analysed, out / name, sizes=sizes(study), note=shortfall(study))
    table = out / f"{name}.runs.csv"
    sources.write_csv(study, table)
    html = out / f"{name}.html"
    svg = files.svg.read_text(encoding="utf-8")
    html.write_text(render(study, analysed, asked, svg, health, facts, again), encoding="utf-8")
    shown = terminal(study, analysed, asked, health)
    if again:
        shown = Group(shown, Text(), Text("\n".join(again.sentences)))
    return Report(shown, html, files.png, files.svg, files.csv, files.json, table)


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


@dataclass(frozen=True)
class Again:
    """What became of another study's findings."""

    study: str
    panel: str
    pairs: Sequence[Replicated]
    heights: Heights | None

    @property
    def sentences(self) -> list[str]:
        """A line for every question that both studies answer, and one for the heights."""
        lines = [
            f"{each.verdict}: {each.first.question.text}: {tables.signed(each.first.estimate)} in {self.study},"
            f" {tables.signed(each.second.estimate)} here"
            for each in self.pairs
        ]
        if self.heights:
            h = self.heights
            lines.append(
                f"Over {h.cells} matched cells the score is {h.difference:+.1f} points from there (sign flips: p ="
                f" {h.p:.2g}), {tables.number(100 * h.inside, 0)} % of them in the first's 95 % prediction intervals,"
                f" in the same order by τ = {h.order:.2f}."
            )
        return lines or ["no question is asked by both studies"]


def terminal(
    study: Study, analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]], health: Sequence[Finding] = ()
) -> RenderableType:
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
    parts.append(Text(f"Normalised points ± standard error.{starred} {progress(study)}.", style="dim"))
    if health:
        parts.append(Text(f"Before you believe a number: {gate.in_a_line(health)}; see the report.", style="yellow"))
    return Group(*parts)


def findings(panel: Panel, asked: Sequence[Contrast]) -> list[str]:
    """What a panel says, a line each; differences are over all sizes."""
    shown = [each for each in contrasts.overall(asked) if each.question.kind in SHOWN]
    lines = [f"{each.question.text}: {tables.signed(each.estimate)}" for each in shown]
    return [*lines, *_form(panel)]


def answer(analysed: Sequence[Panel], asked: Sequence[Sequence[Contrast]]) -> list[str]:
    """The study's answers, a sentence each, from its last panel: the normalised average where there are several."""
    panel = analysed[-1]
    told = [
        *answers.answers(panel, asked[-1]),
        *_form(panel),
        answers.one_choice_of_tasks(panel, asked[-1]),
    ]
    return [each for each in told if each]


def _form(panel: Panel) -> list[str]:
    """What is said of the curve, where there is one."""
    return [panel.comparison.sentence] if len([count for count in panel.counts if count > 0]) > 1 else []


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
    health: Sequence[Finding] = (),
    facts: Mapping[str, Sequence[str]] | None = None,
    again: Again | None = None,
) -> str:
    """The report as one HTML document; everything but the drawing is escaped. `facts`: see `trained_with`."""
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
        trained_with=facts or {},
        health=health,
        again=again,
        joint=[(panel, law) for panel in analysed for law in joint.joint(panel)],
    )


def fingerprints(study: Study) -> dict[str, list[str]]:
    """Content hashes of the data behind the runs; two of one name mean that the data changed within the study."""
    return {name: sorted(set(values.values())) for name, values in sorted(study.fingerprints.items())}


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


def _round(parameters: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= size:
            return f"{float(f'{parameters / size:.2g}'):g} {unit}"
    return str(parameters)
