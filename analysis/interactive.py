"""What does the reader of a report move about: the study's figure once more, as charts for Plotly in the page.

A chart is a panel of `figures`, its marks at the same places, with what a mark is when it is pointed at. Values are
normalised points; `raw` says how they become the benchmark's own percent, where all its runs have one lower bound.
What can be switched off is named in a trace's `meta`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import matplotlib.colors
import numpy as np

from analysis.figures import CountAxis, arm_names, fit_text, palette, tasks_told, x_axis
from analysis.panels import Panel
from analysis.published import counterparts
from analysis.runs import Study
from analysis.summary import LOSS, POINTS, Curve, Mean

MOST_VERTICES = 20_000
"""Of all loss curves together: what a browser draws at once, and a page can hold."""


@dataclass(frozen=True)
class Chart:
    """One drawing: traces and layout as Plotly reads them, below a title and a line."""

    title: str
    line: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    value_axis: str = "y"
    """Along which the scores are."""
    raw: Mapping[str, float] | None = None
    """The benchmark's own percent are `low` + `factor` · normalised points."""
    scores: bool = True
    unit: str = POINTS.name


def library() -> str:
    """Plotly's script, whole, as the installed package carries it."""
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def colours(panels: Sequence[Panel]) -> dict[str, str]:
    """Of the sizes, as in the figure."""
    names = list(dict.fromkeys(curve.size for panel in panels for curve in panel.curves))
    return _shades(names)


def score_charts(panels: Sequence[Panel]) -> list[Chart]:
    """A chart for every panel."""
    of = colours(panels)
    return [DRAW[x_axis(panel)](panel, of, counterparts(panel, panels)) for panel in panels]


def loss_charts(study: Study) -> list[Chart]:
    """Training loss against the step, a chart a size and a line a run, coloured by its number of tasks."""
    points = {point.cell: point for point in study.points}
    logged = {cell: record.losses for cell, record in study.records.items() if record.losses and cell in points}
    thin = math.ceil(sum(map(len, logged.values())) / MOST_VERTICES)
    counts = sorted({study.column(points[cell], "count") or 0 for cell in logged})
    shades = _shades(counts)
    by_size: dict[str, list[dict[str, Any]]] = {}
    for cell, losses in logged.items():
        point = points[cell]
        count, size = study.column(point, "count") or 0, str(study.column(point, "model"))
        seen = losses[::thin]
        words = ", ".join(f"{axis} {value}" for axis, value in point.axes.items() if axis != "model")
        trace = {
            "mode": "lines",
            "x": [step for step, _ in seen],
            "y": [float(f"{loss:.4g}") for _, loss in seen],
            "line": {"width": 1, "color": shades[count], "dash": "solid" if study.column(point, "cot") else "dash"},
            "hovertemplate": f"{html.escape(words)}<br>step %{{x}}: %{{y:.3f}}<extra></extra>",
            "meta": {"size": size, "arm": Curve(size, study.column(point, "cot")).arm if "cot" in study.axes else ""},
        }
        by_size.setdefault(size, []).append(trace)
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": LOSS.name}}}
    return [Chart(size, "", traces, layout, scores=False, unit=LOSS.name) for size, traces in by_size.items()]


def _over_tasks(panel: Panel, of: Mapping[str, str], published: Mapping[str, Mapping[int, float]]) -> Chart:
    scale = CountAxis(tuple(panel.counts))
    traces: list[dict[str, Any]] = []
    step = scale.width * min(0.026, 0.08 / max(len(panel.curves) - 1, 1))
    for number, curve in enumerate(panel.curves):
        colour, meta = of[curve.size], {"size": curve.size, "arm": curve.arm}
        shift = step * (number - (len(panel.curves) - 1) / 2)
        traces += _curve(panel, curve, colour, meta)
        own = [mean for mean in panel.means if mean.curve == curve]
        runs = [
            (scale.position(mean.count) + shift + 0.011 * scale.width, run)
            for mean in own
            for run in mean.runs
            if len(mean.runs) > 1
        ]
        traces.append(
            {
                "mode": "markers",
                "x": [round(x, 4) for x, _ in runs],
                "y": [round(run.normalized, 4) for _, run in runs],
                "text": [html.escape(", ".join(run.cells)) for _, run in runs],
                "hovertemplate": f"%{{text}}<br>%{{y:.{panel.unit.digits}f}}<extra></extra>",
                "marker": {"size": 3.5, "color": colour, "opacity": 0.6},
                "meta": meta,
            }
        )
        traces.append(_marks(panel, own, [scale.position(mean.count) + shift for mean in own], colour, meta))
    for size, points in published.items():
        traces.append(
            {
                "mode": "lines+markers",
                "x": [round(scale.position(count), 4) for count in points],
                "y": [round(value, 4) for value in points.values()],
                "line": {"width": 1, "color": "#888", "dash": "dot"},
                "marker": {"symbol": "x-thin-open", "size": 6, "color": "#888"},
                "hovertemplate": f"{html.escape(size)}, published: %{{y:.1f}}<extra></extra>",
                "meta": {"size": size, "arm": ""},
            }
        )
    low, high = scale.span
    margin = 0.07 * scale.width
    ticks = scale.labelled()
    layout = {
        "xaxis": {
            "title": {"text": "finetuning tasks"},
            "tickvals": [scale.position(count) for count in ticks],
            "ticktext": [f"{count:,}" for count in ticks],
            "range": [(scale.slot if 0 in scale.counts else low) - margin, high + margin],
        },
    }
    return Chart(panel.title, fit_text(panel), traces, layout, raw=_raw(panel), unit=panel.unit.name)


def _curve(panel: Panel, curve: Curve, colour: str, meta: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The fitted curve with its band, or the means joined where there is none."""
    means = sorted((mean.count, mean.value) for mean in panel.means if mean.curve == curve and mean.count > 0)
    fit, quiet = panel.drawn, {"mode": "lines", "hoverinfo": "skip", "meta": meta}
    line = {"color": colour, "width": 1.6, "dash": "dash" if curve.cot is False else "solid"}
    if fit is None or curve.label not in fit.curves:
        x = [round(math.log10(count), 4) for count, _ in means]
        yield quiet | {"x": x, "y": [round(v, 4) for _, v in means], "line": line | {"width": 0.8}}
        return
    n = np.geomspace(means[0][0], means[-1][0], 40)
    low, high = fit.band(curve.label, n)
    x = np.log10(n).round(4).tolist()
    around = np.concatenate([low, high[::-1]]).round(4).tolist()
    red, green, blue = (round(255 * part) for part in matplotlib.colors.to_rgb(colour))
    fill = {"fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.13)", "line": {"width": 0}}
    yield quiet | {"x": [*x, *x[::-1]], "y": around} | fill
    yield quiet | {"x": x, "y": np.asarray(fit.predict(curve.label, n)).round(4).tolist(), "line": line}


def _over_parameters(panel: Panel, of: Mapping[str, str], published: Mapping[str, Mapping[int, float]]) -> Chart:
    lines: dict[tuple[int, str], list[Mean]] = {}
    for mean in panel.means:
        lines.setdefault((mean.count, mean.curve.arm if mean.count else ""), []).append(mean)
    counts = sorted({count for count, _ in lines})
    shades = _shades(counts)
    traces = []
    for (count, arm), means in lines.items():
        unique = {panel.parameters[mean.curve.model] or 1: mean for mean in means}
        own = [unique[size] for size in sorted(unique)]
        trace = _marks(panel, own, [math.log10(size) for size in sorted(unique)], shades[count], {"arm": arm})
        dash = "dash" if own[0].curve.cot is False and count else "solid"
        name = " ".join(filter(None, (tasks_told(count), arm)))
        line = {"color": shades[count], "width": 1.4, "dash": dash}
        traces.append(trace | {"mode": "lines+markers", "line": line, "name": html.escape(name), "showlegend": True})
    known = {math.log10(panel.parameters[curve.model] or 1): curve.model for curve in panel.curves}
    names = [html.escape(name) for name in known.values()]
    ticks = {"tickvals": list(known), "ticktext": names, "tickangle": -45}
    return Chart(panel.title, "", traces, {"xaxis": ticks}, raw=_raw(panel), unit=panel.unit.name)


def _over_arms(panel: Panel, of: Mapping[str, str], published: Mapping[str, Mapping[int, float]]) -> Chart:
    names = arm_names(panel)
    traces = []
    for row, mean in enumerate(panel.means):
        trace = _marks(panel, [mean], [row], of[mean.curve.size], {"size": mean.curve.size, "arm": mean.curve.arm})
        trace["x"], trace["y"] = trace["y"], trace["x"]
        trace["error_x"] = trace.pop("error_y")
        traces.append(trace)
    rows = {"tickvals": list(range(len(names))), "ticktext": [html.escape(name) for name in names]}
    layout = {"yaxis": rows | {"autorange": "reversed", "automargin": True}, "height": 90 + 24 * len(names)}
    return Chart(panel.title, "", traces, layout, value_axis="x", raw=_raw(panel), unit=panel.unit.name)


DRAW = {"tasks": _over_tasks, "parameters": _over_parameters, "arms": _over_arms}


def _shades(names: Sequence[Any]) -> dict[Any, str]:
    return dict(zip(names, map(matplotlib.colors.to_hex, palette(len(names))), strict=True))


def _marks(
    panel: Panel, means: Sequence[Mean], x: Sequence[float], colour: str, meta: Mapping[str, str]
) -> dict[str, Any]:
    """Means with their intervals."""
    ends = [mean.interval or (mean.value, mean.value) for mean in means]
    hollow = [mean.curve.cot is False and mean.count > 0 for mean in means]
    return {
        "mode": "markers",
        "x": [round(each, 4) for each in x],
        "y": [round(mean.value, 4) for mean in means],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [round(high - mean.value, 4) for mean, (_, high) in zip(means, ends, strict=True)],
            "arrayminus": [round(mean.value - low, 4) for mean, (low, _) in zip(means, ends, strict=True)],
            "color": colour,
            "thickness": 1.2,
            "width": 0,
        },
        "marker": {
            "size": 7,
            "color": ["#fff" if each else colour for each in hollow],
            "symbol": ["circle" if mean.count else "diamond" for mean in means],
            "line": {"width": 1.2, "color": colour},
        },
        "text": [html.escape(_told(panel, mean)).replace("\n", "<br>") for mean in means],
        "hovertemplate": "%{text}<extra></extra>",
        "meta": dict(meta),
    }


def _told(panel: Panel, mean: Mean) -> str:
    where = f"{mean.curve.label if mean.count else mean.curve.size}\n{tasks_told(mean.count)}"
    runs = f"{len(mean.runs)} run{'s' if len(mean.runs) > 1 else ''}"
    digits = panel.unit.digits
    if mean.interval is None:
        return f"{where}: {mean.value:.{digits}f} ± {mean.estimate.se:.{digits}f} (items), {runs}"
    return f"{where}: {mean.value:.{digits}f} [{', '.join(f'{end:.{digits}f}' for end in mean.interval)}], {runs}"


def _raw(panel: Panel) -> dict[str, float] | None:
    bounds = {run.lower_bound for run in panel.runs if run.scored}
    if panel.is_average or panel.falls or len(bounds) != 1 or bounds == {0.0}:
        return None
    [low] = bounds
    return {"low": low, "factor": (100 - low) / 100}
