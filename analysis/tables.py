"""Which numbers are shown: scores, contrasts and fits as small tables of text, the same wherever they appear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import scaling, trend
from analysis.contrasts import Contrast
from analysis.panels import Panel
from analysis.runs import Study
from analysis.summary import Curve, Estimate

SYMBOLS = {"alpha": "α", "beta": "β"}
MISSING = "–"


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
    return f"{mean.value:.1f} ± {mean.estimate.se:.1f}{'*' if len(mean.runs) < mean.planned else ''}"


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
            "difference": signed(each.estimate),
            "standard error": f"{each.estimate.se:.2f}",
            "degrees of freedom": f"{each.estimate.df:.1f}" if each.estimate.df else MISSING,
            "p (corrected)": probability(each.p),
        }
        for each in asked
    ]
    return pd.DataFrame(rows)


def trends(panel: Panel) -> pd.DataFrame:
    """A row per curve: its deepest fall between neighbouring counts, and p of falls as deep where there are none."""
    rows = []
    for curve in panel.curves:
        own = [mean for mean in panel.means if mean.curve == curve and mean.count > 0 and mean.estimate.df > 0]
        if len(own) > 1 and all(mean.estimate.se > 0 for mean in own):
            found = trend.trend(np.array([m.value for m in own]), np.array([m.estimate.se for m in own]))
            rows.append({"curve": curve.label, "deepest fall": number(found.worst_dip, 1), "p": probability(found.p)})
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


def point_name(axes: Mapping[str, Any]) -> str:
    """A point in the words of its axes."""
    return " ".join(f"{axis}={value}" for axis, value in axes.items())


def signed(estimate: Estimate) -> str:
    """An estimate with its sign and 95 % interval, or with the items' error where that is all there is."""
    if estimate.interval is None:
        return f"{estimate.value:+.1f} ± {estimate.se:.1f} (items)"
    low, high = estimate.interval
    return f"{estimate.value:+.1f} [{low:+.1f}, {high:+.1f}]"


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
