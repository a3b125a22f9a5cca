"""Which numbers are shown: scores, contrasts and fits as small tables of text, the same wherever they appear."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis import scaling, trend
from analysis.contrasts import Contrast
from analysis.panels import Panel
from analysis.runs import Study
from analysis.summary import POINTS, Curve, Estimate
from flanscale.run_directory import write_atomically

SYMBOLS = {"alpha": "α", "beta": "β"}
MISSING = "–"
LATEX = {sign: f"\\{sign}" for sign in "{}$&#%_"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "−": "$-$",
    "→": r"$\to$",
    "↔": r"$\leftrightarrow$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "∞": r"$\infty$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
}
"""How LaTeX writes what means something to it, and what it has no letters for."""


def scores(panel: Panel) -> pd.DataFrame:
    """Mean ± standard error: a row per size and training arm, a column per task count."""
    rows = []
    for curve in panel.curves:
        row = {"size": curve.size} | ({"CoT": "yes" if curve.cot else "no"} if panel.crossed else {})
        rows.append(row | {f"{count:,}": score(panel, curve, count) for count in panel.counts})
    return pd.DataFrame(rows)


def score(panel: Panel, curve: Curve, count: int) -> str:
    """Mean ± standard error, starred where it rests on fewer runs than planned."""
    mean = panel.mean(curve, count)
    if mean is None:
        return MISSING
    digits, short = panel.unit.digits, len(mean.runs) < mean.planned
    return f"{mean.value:.{digits}f} ± {number(mean.estimate.se, digits)}{'*' if short else ''}"


def seeds(panel: Panel) -> pd.DataFrame:
    """A row per curve: how far its runs scatter between seeds."""
    rows = [
        {
            "curve": curve.label,
            "beyond the items' luck, log-odds": number(noise.deviation) if noise.known else MISSING,
            "points where half of 1,000 items is right": number(noise.variance(50, 1000) ** 0.5, 1),
            "degrees of freedom": f"{noise.df:g}" if noise.known else "none: no repeated seeds",
        }
        for curve, noise in panel.noise.items()
    ]
    return pd.DataFrame(rows)


def contrasts(asked: Sequence[Contrast]) -> pd.DataFrame:
    """A row per contrast: difference with its 95 % interval, standard error, and p corrected for the others."""
    rows = [
        {
            "contrast": each.question.text,
            "size": each.question.size,
            "difference": f"{each.estimate.value:+.{each.unit.digits + 1}f}",
            "95 % interval": _ends(each.estimate, each.unit.digits + 1),
            "standard error": number(each.estimate.se, each.unit.digits + 1),
            "degrees of freedom": MISSING if not (df := each.estimate.df) else "∞" if df == math.inf else f"{df:.1f}",
            "p (corrected)": probability(each.p),
        }
        for each in asked
    ]
    return pd.DataFrame(rows)


def trends(panel: Panel) -> pd.DataFrame:
    """A row per curve: how much worse it gets at most from one count to the next, and p of that where it never does."""
    rows = []
    for curve in panel.curves:
        own = [mean for mean in panel.means if mean.curve == curve and mean.count > 0 and mean.estimate.df > 0]
        if len(own) > 1 and all(mean.estimate.se > 0 for mean in own):
            better = np.array([-mean.value if mean.falls else mean.value for mean in own])
            found = trend.trend(better, np.array([mean.estimate.se for mean in own]))
            worst = number(found.worst_dip, panel.unit.digits)
            rows.append({"curve": curve.label, "worse by at most": worst, "p": probability(found.p)})
    return pd.DataFrame(rows)


def forms(panel: Panel) -> pd.DataFrame:
    """A row per form: how well it predicts the largest count from the rest, and how well it fits all."""
    comparison = panel.comparison
    held_out = f"error at {comparison.held_out_count:,.0f} tasks" if comparison.held_out_count else "error"
    rows = [
        {
            "form": scaling.NAMES[form],
            "status": fit.status.replace("_", " "),
            held_out: number(comparison.error[form]),
            "ΔAICc": number(comparison.aicc_difference[form], 1),
            "weighted SSE": number(fit.sse, 1),
            "runs − parameters": str(fit.df) if fit.sse is not None else MISSING,
        }
        for form, fit in panel.fits.items()
    ]
    return pd.DataFrame(rows)


def parameters(panel: Panel) -> pd.DataFrame:
    """A row per parameter: value with its 95 % interval, or the reason why there is none."""
    rows = [
        {
            "form": scaling.NAMES[form],
            "parameter": SYMBOLS.get(each.name, each.name),
            "curve": each.curve or "all",
            "value": MISSING if each.value is None else f"{each.value:.3g}",
            "95 % interval": MISSING if each.status == "degenerate" else limits(each.low, each.high),
            "status": each.status,
        }
        for form, fit in panel.fits.items()
        for each in fit.parameters
    ]
    return pd.DataFrame(rows)


def progress(study: Study) -> str:
    """How much of the study there is, in words."""
    states = Counter(record.state for record in study.records.values())
    cells = f"{len(study.records)} cell{'s' if len(study.records) > 1 else ''}: "
    return cells + ", ".join(f"{number} {state}" for state, number in states.most_common())


def starred(panels: Sequence[Panel]) -> str:
    """What a star beside a score means; empty where there is none."""
    short = any(len(mean.runs) < mean.planned for panel in panels for mean in panel.means)
    return "fewer runs than planned" if short else ""


def incomplete(study: Study) -> pd.DataFrame:
    """A row per point without a score, and why."""
    rows = [
        {"point": point_name(point.axes), "cell": point.cell, "state": record.state, "reason": record.failure or ""}
        for point, record in study.incomplete()
    ]
    return pd.DataFrame(rows)


def cells(study: Study) -> pd.DataFrame:
    """A row per point: the run that serves it and its state."""
    rows = [
        {"point": point_name(point.axes), "run": point.run, "state": study.records[point.cell].state}
        for point in study.points
    ]
    return pd.DataFrame(rows)


def fingerprints(study: Study) -> dict[str, list[str]]:
    """Content hashes of the data behind the runs; two of one name mean that the data changed within the study."""
    return {name: sorted(set(values.values())) for name, values in sorted(study.fingerprints.items())}


def alignment(frame: pd.DataFrame) -> list[Markup]:
    """HTML attributes of the columns: numbers to the right, long texts in lines."""
    out = []
    for name in frame.columns:
        texts = [str(each) for each in frame[name] if each != MISSING]
        numbers = all(re.match(r"[-+<≤≥\[]* ?\d|not bounded|∞", each) for each in texts)
        wide = max(map(len, texts), default=0) > 60
        out.append(Markup(' class="n"' if numbers else ' class="wrap"' if wide else ""))
    return out


def write(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """One table three times: `stem`.csv, .md and .tex, the last for LaTeX's booktabs; returns the paths."""
    rows = [[str(name) for name in frame.columns], *([str(each) for each in row] for row in frame.to_numpy())]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    right = ["n" in each for each in alignment(frame)]
    marks = ["---:" if each else "---" for each in right]
    lines = [[_markdown(each) for each in row] for row in rows]
    markdown = "".join(f"| {' | '.join(row)} |\n" for row in (lines[0], marks, *lines[1:]))
    head, *body = (" & ".join(map(_latex, row)) + r" \\" for row in rows)
    columns = "".join("r" if each else "l" for each in right)
    latex = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    written = {".csv": text.getvalue(), ".md": markdown, ".tex": "\n".join(latex) + "\n"}
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in written.items():
        write_atomically(stem.with_name(stem.name + suffix), content)
    return [stem.with_name(stem.name + suffix) for suffix in written]


def below_each_other(frames: Sequence[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """One table of several, each row with the name of the panel that it is of; empty where all are."""
    named = [(name, frame) for name, frame in frames if not frame.empty]
    if not named:
        return pd.DataFrame()
    whole = pd.concat([frame.assign(panel=name) for name, frame in named]).fillna(MISSING)
    return whole[["panel", *(name for name in whole.columns if name != "panel")]]


def _latex(text: str) -> str:
    minus = re.sub(r"(?<![\w.])-(?=\d)", "−", text)
    return "".join(LATEX.get(letter, letter) for letter in " ".join(minus.split()))


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<$])", r"\\\1", " ".join(text.split()))


def point_name(axes: Mapping[str, Any]) -> str:
    """A point in the words of its axes."""
    return " ".join(f"{axis}={value}" for axis, value in axes.items())


def signed(estimate: Estimate, digits: int = POINTS.digits) -> str:
    """An estimate with its sign and 95 % interval, or with the items' error where that is all there is."""
    value = f"{round(estimate.value, digits) + 0.0:+.{digits}f}"  # no minus before nothing
    if estimate.interval is None:
        return f"{value} ± {number(estimate.se, digits)} (items)"
    return f"{value} {_ends(estimate, digits)}"


def _ends(estimate: Estimate, digits: int) -> str:
    if estimate.interval is None:
        return MISSING
    low, high = (round(end, digits) + 0.0 for end in estimate.interval)
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or the mark of none."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def probability(p: float | None) -> str:
    """A p-value to two digits."""
    return MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def limits(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval to so many significant digits; an open end makes it a one-sided limit."""
    if low is None and high is None:
        return "not bounded"
    if low is None:
        return f"≤ {high:.{digits}g}"
    if high is None:
        return f"≥ {low:.{digits}g}"
    return f"[{low:.{digits}g}, {high:.{digits}g}]"
