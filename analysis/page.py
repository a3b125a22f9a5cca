"""What does a reviewer get to see of a study: the report as one HTML file that needs nothing else.

The answers first, then the figure, how large every difference is, and below that whatever a number rests on. The figure
can be moved about; printed, or where scripts do not run, the drawing that is in its place shows all of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from analysis import answers, figures, forest, interactive, joint, published, spending, tables
from analysis.contrasts import Contrast, overall
from analysis.fit_report import versions
from analysis.gate import Finding
from analysis.panels import Panel
from analysis.replication import Again
from analysis.runs import Study
from analysis.subtasks import Subtasks, by_subtask

TEMPLATES = Path(__file__).parent / "templates"
MAIN = ("finetuning", "volume", "cot", "size", "size_gain", "level", "volume_less_cot")
"""Kinds of question that the page shows unfolded, over all sizes."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "flanscale", "commit", "python", "platform", "devices")
"""Of what the runs' provenance names, what is shown unfolded."""


@dataclass(frozen=True)
class Content:
    """All that a page is made of beside the study itself. `asked`: the contrasts of each panel."""

    panels: Sequence[Panel]
    asked: Sequence[Sequence[Contrast]]
    svg: str
    health: Sequence[Finding] = ()
    trained_with: Mapping[str, Sequence[str]] = field(default_factory=dict)
    subtasks: Mapping[str, Subtasks] = field(default_factory=dict)
    """By cell."""
    again: Again | None = None


def render(study: Study, content: Content) -> str:
    """The report as one HTML document; everything but the drawing and the scripts of our own is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    panels = [*content.panels[-1:], *content.panels[:-1]]  # the one that the answers are about
    asked = [*content.asked[-1:], *content.asked[:-1]]
    scripts = [interactive.library(), (TEMPLATES / "report.js").read_text(encoding="utf-8")]
    scores, losses = interactive.score_charts(panels), interactive.loss_charts(study)
    charts = json.dumps([vars(chart) for chart in (*scores, *losses)], separators=(",", ":"), allow_nan=False)
    pairs = [(panel, each) for panel, found in zip(panels, asked, strict=True) for each in found]
    wide = {id(each) for found in asked for each in overall(found)}
    main = [(panel, each) for panel, each in pairs if id(each) in wide and each.question.kind in MAIN]
    shown = {id(each) for _, each in main}
    facts = content.trained_with
    curves = [curve for panel in panels for curve in panel.curves]
    return environment.get_template("report.html").render(
        study=study,
        content=content,
        panels=list(zip(panels, asked, strict=True)),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        scripts=scripts,
        script_hashes=" ".join(map(_hash, scripts)),
        charts_json=charts.replace("<", "\\u003c"),
        score_charts=scores,
        loss_charts=losses,
        colours=interactive.colours(panels),
        sizes=list(dict.fromkeys(curve.size for curve in curves)),
        labels=figures.sizes(study),
        coloured=any(figures.x_axis(panel) != "parameters" for panel in panels),
        published=any(published.counterparts(panel, panels) for panel in panels),
        starred=tables.starred(panels),
        progress=tables.progress,
        unpaired=_unpaired(panels, asked),
        arms=[arm for arm in dict.fromkeys(curve.arm for curve in curves) if arm],
        svg=content.svg[content.svg.index("<svg") :],
        units=" or ".join(dict.fromkeys(panel.unit.name for panel in panels)),
        answer=answers.of_study(content.panels, content.asked),
        main=forest.forests(main),
        details=forest.forests([(panel, each) for panel, each in pairs if id(each) not in shown]),
        by_subtask=[
            (panel, frame)
            for panel, found in zip(panels, asked, strict=True)
            if not (
                frame := by_subtask(
                    panel, [each for each in overall(found) if each.question.kind in MAIN], content.subtasks
                )
            ).empty
        ],
        joint=[(panel, law) for panel in panels for law in joint.joint(panel)],
        tables=tables,
        cost=spending.cost(study),
        mixtures=spending.mixtures(study),
        versions=versions(),
        fingerprints=tables.fingerprints(study),
        trained_with={name: values for name, values in facts.items() if name in PACKAGES},
        packages={name: values for name, values in facts.items() if name not in PACKAGES},
    )


def _unpaired(panels: Sequence[Panel], asked: Sequence[Sequence[Contrast]]) -> str:
    """Which differences of single runs have an error that is too wide, in a sentence; empty where none has."""
    wide = [panel.title for panel, found in zip(panels, asked, strict=True) if found and not found[0].paired]
    alone = [panel.title for panel in panels if not panel.repeated and panel.title in wide]
    return (
        f"Predictions were not at hand, so not paired item by item and too wide: {', '.join(alone)}." if alone else ""
    )


def _hash(script: str) -> str:
    """By which a Content-Security-Policy names a script (W3C, CSP level 3, §2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
