"""What does the study look like: a panel per benchmark and prompting mode, over whatever the study varies.

Score against the number of tasks; where there are no two of them, against the parameters of the models; else a line for
every arm. What follows is said of the first kind, and the others are drawn alike.

Colour is size, in order; a solid line with filled marks was trained with rationales, a dashed one with open marks
without. Marks are means with their 95 % interval, small dots single runs, shaded bands the 95 % band of the fitted
curve. With every figure come a CSV of exactly what is drawn and a JSON of the fits.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from analysis import scaling
from analysis.comparison import UNCHANGED
from analysis.fit_report import fit_report
from analysis.panels import Panel
from analysis.published import counterparts
from analysis.runs import Study
from analysis.summary import Curve, Mean
from analysis.tables import limits
from flanscale.run_directory import write_atomically

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "0.35",
    "axes.labelcolor": "0.15",
    "xtick.color": "0.35",
    "ytick.color": "0.35",
    "xtick.labelcolor": "0.15",
    "ytick.labelcolor": "0.15",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "svg.hashsalt": "flanscale",  # ids, and so bytes, that do not change from one drawing to the next
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with dollar signs is no formula
}
PANEL_INCHES = (2.75, 2.3)
GREY = "0.45"
DASHES = (0, (4, 2))
DOTS = (0, (1, 2))


@dataclass(frozen=True)
class FigureFiles:
    """Where a figure and what it was made from lie."""

    png: Path
    svg: Path
    csv: Path
    json: Path


@dataclass(frozen=True)
class Drawn:
    """One mark, or one vertex of a line, as the CSV lists it."""

    benchmark: str
    setting: str
    kind: str
    """run, mean, or the form of a fitted curve."""
    curve: str
    tasks: float
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class CountAxis:
    """Task counts on a log axis, with a slot of its own for 0 left of a break."""

    counts: tuple[int, ...]

    @property
    def span(self) -> tuple[float, float]:
        """log10 of the smallest and largest count above 0, at least half a decade apart."""
        positive = [math.log10(count) for count in self.counts if count > 0] or [0.0]
        middle, half = (positive[0] + positive[-1]) / 2, max((positive[-1] - positive[0]) / 2, 0.25)
        return middle - half, middle + half

    @property
    def width(self) -> float:
        """Of the span."""
        return self.span[1] - self.span[0]

    @property
    def slot(self) -> float:
        """Where 0 is drawn."""
        return self.span[0] - 0.27 * self.width

    def position(self, count: float) -> float:
        """Horizontal position of a count."""
        return math.log10(count) if count > 0 else self.slot

    def labelled(self) -> list[int]:
        """Counts whose tick labels have room: the ends always, of the others those clear of their neighbours."""
        kept = list(self.counts[:1])
        for count in self.counts[1:]:
            clear = self.position(count) - self.position(kept[-1]) > 0.1 * self.width
            before_end = self.span[1] - self.position(count) > 0.13 * self.width
            if count == self.counts[-1] or (clear and before_end):
                kept.append(count)
        return kept


def write(
    panels: Sequence[Panel], stem: Path, *, sizes: Mapping[str, str] | None = None, note: str = ""
) -> FigureFiles:
    """Draw the panels and write `stem`.png, .svg, .csv and .json. `sizes`: legend texts; `note`: a line below."""
    figure, drawn = scaling_figure(panels, sizes=sizes, note=note)
    files = FigureFiles(*(stem.with_name(stem.name + suffix) for suffix in (".png", ".svg", ".csv", ".json")))
    stem.parent.mkdir(parents=True, exist_ok=True)
    save(figure, files.png, files.svg)
    write_atomically(files.csv, pd.DataFrame([asdict(each) for each in drawn]).to_csv(index=False, float_format="%.6g"))
    reports = [asdict(fit_report(panel)) for panel in panels]
    write_atomically(files.json, json.dumps(reports, indent=2, allow_nan=False) + "\n")
    return files


def save(figure: Figure, png_path: Path, svg_path: Path) -> None:
    """Write both formats; the same figure gives the same bytes."""
    write_atomically(png_path, png(figure))
    figure.set_layout_engine("none")  # it stays as it has been laid out
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    write_atomically(svg_path, buffer.getvalue())


def png(figure: Figure) -> bytes:
    """The figure as it would be written, for a notebook."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def scaling_figure(
    panels: Sequence[Panel], *, sizes: Mapping[str, str] | None = None, note: str = ""
) -> tuple[Figure, list[Drawn]]:
    """The scaling figure and everything that is drawn in it."""
    names = list(dict.fromkeys(curve.size for panel in panels for curve in panel.curves))
    colours = dict(zip(names, palette(len(names)), strict=True))
    across = min(len(panels), 3)
    down = math.ceil(len(panels) / across)
    with matplotlib.rc_context(STYLE):
        size = (PANEL_INCHES[0] * max(across, 1.5), PANEL_INCHES[1] * down + 0.75)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, squeeze=False).ravel()
        drawn = []
        for axes, panel in zip(grid, panels, strict=False):
            drawn += DRAW[x_axis(panel)](axes, panel, colours)
            drawn += _published(axes, panel, counterparts(panel, panels)) if x_axis(panel) == "tasks" else []
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        kinds = {x_axis(panel) for panel in panels}
        units = list(dict.fromkeys(panel.unit.name for panel in panels))
        alike = "arms" not in kinds and len(units) == 1
        differ = _one_scale(list(grid[: len(panels)])) if alike else ""
        for axes, panel in zip(grid, panels, strict=False):
            if x_axis(panel) == "tasks":
                _name_ends(axes, panel, colours)
        for place, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
            if kinds != {"arms"} and (place % across == 0 or len(units) > 1):
                axes.set_ylabel(panel.unit.name)
        if kinds == {"tasks"}:
            _legend(figure, panels, {(sizes or {}).get(name, name): colour for name, colour in colours.items()})
        label = {"tasks": "finetuning tasks", "parameters": "parameters", "arms": " or ".join(units)}
        below = [*(label[kind] for kind in sorted(kinds)), differ, note]
        figure.supxlabel("\n".join(filter(None, below)), fontsize=8, color="0.15")
    return figure, drawn


def sizes(study: Study) -> dict[str, str]:
    """Legend texts: model names with their parameters."""
    return {name: f"{name}, {_round(count)} parameters" if count else name for name, count in study.models.items()}


def _round(parameters: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= size:
            return f"{float(f'{parameters / size:.2g}'):g} {unit}"
    return str(parameters)


def x_axis(panel: Panel) -> str:
    """What a panel is drawn over: tasks, parameters or arms."""
    if len([count for count in panel.counts if count > 0]) > 1 or panel.counts == [0]:
        return "tasks"
    models = {curve.model for curve in panel.curves}
    known = {panel.parameters.get(model) for model in models}
    return (
        "parameters"
        if len(models) > 1 and all(known) and len(known) == len(models) and not any(c.others for c in panel.curves)
        else "arms"
    )


def palette(k: int) -> list[Any]:
    """k colours of viridis from dark to light, without the ends that print badly."""
    at = [0.3] if k == 1 else np.linspace(0.1, 0.85 if k > 2 else 0.62, k)
    return list(matplotlib.colormaps["viridis"](at))


def fit_text(panel: Panel) -> str:
    """The verdict and the fit of a panel in one line."""
    comparison, fit = panel.comparison, panel.drawn
    best = "flat end" if comparison.best == UNCHANGED else scaling.NAMES.get(comparison.best or "", "")
    head = {
        "preferred": f"{best} preferred",
        "tied": "forms tied",
        "not identifiable": "form not identifiable",
    }[comparison.verdict]
    if fit is None:
        return head
    if fit.form not in scaling.SHAPES:
        return head if comparison.best == fit.form else f"{head}, {scaling.NAMES[fit.form]} drawn"
    shape = fit.parameter(scaling.SHAPES[fit.form])
    interval = limits(shape.low, shape.high, digits=2)
    return f"{head}; {shape.name} = {shape.value:.2g} {interval if interval.startswith('[') else f'({interval})'}"


def _over_parameters(axes: Axes, panel: Panel, colours: Mapping[str, Any]) -> list[Drawn]:
    """A line for every number of tasks and training arm, named at its end."""
    _chance(axes, panel)
    lines: dict[tuple[int, str, bool | None], list[tuple[float, Mean]]] = {}
    for mean in panel.means:
        arm = mean.curve.arm if mean.count else ""
        key = (mean.count, arm, mean.curve.cot if mean.count else None)
        lines.setdefault(key, []).append((math.log10(panel.parameters[mean.curve.model] or 1), mean))
    drawn, counts = [], sorted({count for count, *_ in lines})
    for (count, arm, cot), points in lines.items():
        colour = palette(len(counts))[counts.index(count)]
        unique = dict(sorted(dict(points).items()))
        style = {"color": colour, "linestyle": DASHES if cot is False else "-", "linewidth": 1.0}
        axes.plot(list(unique), [mean.value for mean in unique.values()], **style)
        for x, mean in unique.items():
            _draw_mean(axes, x, mean, colour)
            drawn.append(_as_drawn(panel, mean))
        name = " ".join(filter(None, (tasks_told(count), arm)))
        last = list(unique)[-1]
        beside: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 7}
        axes.annotate(name, (last, unique[last].value), color=colour, annotation_clip=False, **beside)
    known = {math.log10(panel.parameters[curve.model] or 1): curve.model for curve in panel.curves}
    axes.set_xticks(list(known), labels=list(known.values()), rotation=30, ha="right")
    _titled(axes, panel)
    return drawn


def _over_arms(axes: Axes, panel: Panel, colours: Mapping[str, Any]) -> list[Drawn]:
    """A line for every arm, its name at the left."""
    drawn = []
    for row, mean in enumerate(panel.means):
        colour = colours[mean.curve.size]
        low, high = mean.interval or (mean.value, mean.value)
        axes.plot([low, high], [row, row], color=colour, linewidth=0.9)
        runs = mean.runs if len(mean.runs) > 1 else ()
        axes.plot([run.normalized for run in runs], [row] * len(runs), ".", color=colour, ms=3, alpha=0.6, mew=0)
        face = "white" if mean.curve.cot is False and mean.count else colour
        axes.plot([mean.value], [row], "o" if mean.count else "D", color=colour, markerfacecolor=face, ms=4)
        drawn += [
            Drawn(panel.benchmark, panel.setting, "run", mean.curve.label, mean.count, r.normalized) for r in runs
        ]
        drawn.append(_as_drawn(panel, mean))
    names = arm_names(panel)
    axes.set_yticks(range(len(names)), labels=names, fontsize=7)
    axes.invert_yaxis()
    _titled(axes, panel)
    return drawn


def _chance(axes: Axes, panel: Panel) -> None:
    if not panel.falls:
        axes.axhline(0, color=GREY, linewidth=0.7, linestyle=DOTS, zorder=0)


def arm_names(panel: Panel) -> list[str]:
    """What tells each mean of a panel from the others: size, mixture, arm and tasks, without what all of them share."""
    parts = [
        [*mean.curve.size.split(" · "), mean.curve.arm if mean.count else "", tasks_told(mean.count)]
        for mean in panel.means
    ]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return [", ".join(part for part in own if part and part not in shared) for own in parts]


def tasks_told(count: int) -> str:
    """How many tasks a model was finetuned on, in words."""
    return f"{count:,} tasks" if count else "not finetuned"


def _as_drawn(panel: Panel, mean: Mean) -> Drawn:
    place = (panel.benchmark, panel.setting)
    return Drawn(*place, "mean", mean.curve.label, mean.count, mean.value, *(mean.interval or ()))


def _over_tasks(axes: Axes, panel: Panel, colours: Mapping[str, Any]) -> list[Drawn]:
    scale = CountAxis(tuple(panel.counts))
    _chance(axes, panel)
    drawn: list[Drawn] = []
    baseline: set[tuple[str, ...]] = set()  # the untouched checkpoint has no arm: drawn once a size
    step = scale.width * min(0.026, 0.08 / max(len(panel.curves) - 1, 1))  # side by side, so that bars do not overlap
    for number, curve in enumerate(panel.curves):
        shift = step * (number - (len(panel.curves) - 1) / 2)
        colour = colours[curve.size]
        drawn += _draw_curve(axes, panel, curve, colour)
        for mean in (mean for mean in panel.means if mean.curve == curve and mean.cells not in baseline):
            if mean.count == 0:
                baseline.add(mean.cells)
            at = scale.position(mean.count) + shift
            runs = mean.runs if len(mean.runs) > 1 else ()  # a single run is its mean
            beside = [at + 0.011 * scale.width] * len(runs)
            axes.plot(beside, [run.normalized for run in runs], ".", color=colour, ms=3, alpha=0.6, mew=0)
            _draw_mean(axes, at, mean, colour)
            place = (panel.benchmark, panel.setting)
            drawn += [Drawn(*place, "run", curve.label, mean.count, run.normalized) for run in runs]
            drawn.append(_as_drawn(panel, mean))
    _finish(axes, scale, panel)
    return drawn


def _draw_mean(axes: Axes, at: float, mean: Mean, colour: Any) -> None:
    untouched = mean.count == 0
    axes.errorbar(
        at,
        mean.value,
        yerr=[[mean.value - mean.interval[0]], [mean.interval[1] - mean.value]] if mean.interval else None,
        fmt="D" if untouched else "o",
        color=colour,
        markerfacecolor="white" if mean.curve.cot is False and not untouched else colour,
        markersize=3.4 if untouched else 4,
        markeredgewidth=0.9,
        elinewidth=0.9,
        zorder=3,
    )


def _draw_curve(axes: Axes, panel: Panel, curve: Curve, colour: Any) -> list[Drawn]:
    """The fitted curve with its band; where nothing could be fitted the means are joined, thinly."""
    style: dict[str, Any] = {"color": colour, "linestyle": DASHES if curve.cot is False else "-"}
    means = sorted((mean.count, mean.value) for mean in panel.means if mean.curve == curve and mean.count > 0)
    fit = panel.drawn
    if fit is None or curve.label not in fit.curves:
        axes.plot([math.log10(n) for n, _ in means], [value for _, value in means], linewidth=0.6, alpha=0.6, **style)
        return []
    n = np.geomspace(means[0][0], means[-1][0], 60)
    value, (low, high) = fit.predict(curve.label, n), fit.band(curve.label, n)
    axes.fill_between(np.log10(n), low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(np.log10(n), value, linewidth=1.2, **style)
    vertices = zip(n, value, low, high, strict=True)
    return [Drawn(panel.benchmark, panel.setting, fit.form, curve.label, *map(float, each)) for each in vertices]


def _published(axes: Axes, panel: Panel, of: Mapping[str, Mapping[int, float]]) -> list[Drawn]:
    """What the paper measured of the same models, as crosses on a grey line."""
    scale = CountAxis(tuple(panel.counts))
    for points in of.values():
        x = [scale.position(count) for count in points]
        axes.plot(x, list(points.values()), "x", color=GREY, markersize=3.5, mew=0.8, zorder=1)
        trained = [(scale.position(count), value) for count, value in points.items() if count > 0]
        axes.plot(*zip(*trained, strict=True), color=GREY, linewidth=0.6, linestyle=DOTS, zorder=1)
    return [
        Drawn(panel.benchmark, panel.setting, "published", model, count, value)
        for model, points in of.items()
        for count, value in points.items()
    ]


def _one_scale(grid: Sequence[Axes]) -> str:
    """One vertical scale for all panels where it shows them all; else a line that says that they differ."""
    ends = np.array([axes.get_ylim() for axes in grid])
    spans = ends[:, 1] - ends[:, 0]
    if spans.max() > 3 * spans.min():
        return "vertical scales differ between panels"
    for axes in grid:
        axes.set_ylim(ends[:, 0].min(), ends[:, 1].max())
    return ""


def _name_ends(axes: Axes, panel: Panel, colours: Mapping[str, Any]) -> None:
    """The size at the end of each curve, moved apart; left to the legend where there are more than fit."""
    low, high = axes.get_ylim()
    last = [[mean for mean in panel.means if mean.curve == curve][-1:] for curve in panel.curves]
    ends = sorted(((mean.value - low) / (high - low), mean.curve.size) for own in last for mean in own if mean.count)
    apart = 0.065
    if len({size for _, size in ends}) < 2 or len(ends) * apart > 1:
        return
    places: list[float] = []
    for at, _ in ends:
        places.append(max(at, places[-1] + apart) if places else at)
    over = max(0.0, places[-1] - 1)
    for number in reversed(range(len(places))):  # what was pushed beyond the top goes down again
        above = places[number + 1] - apart if number + 1 < len(places) else 1.0
        places[number] = min(places[number], above) if over else places[number]
    for place, (_, size) in zip(places, ends, strict=True):
        axes.text(1.01, place, size, transform=axes.transAxes, color=colours[size], fontsize=6.5, va="center")


DRAW = {"tasks": _over_tasks, "parameters": _over_parameters, "arms": _over_arms}


def _titled(axes: Axes, panel: Panel) -> None:
    axes.set_title(_in_lines(panel.title), loc="left", pad=15, fontweight="bold", color="0.1")


def _finish(axes: Axes, scale: CountAxis, panel: Panel) -> None:
    _titled(axes, panel)
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    line = axes.annotate(fit_text(panel), (0, 1), (0, 4), fontsize=7, color=GREY, **above)
    line.set_in_layout(False)  # the title's padding has made room for it
    low, high = scale.span
    margin = 0.07 * scale.width
    zero = 0 in scale.counts
    axes.set_xlim((scale.slot if zero else low) - margin, high + margin)
    labels = scale.labelled()
    axes.set_xticks([scale.position(count) for count in labels], labels=[f"{count:,}" for count in labels])
    axes.set_xticks([scale.position(count) for count in scale.counts], minor=True)
    axes.margins(y=0.06)
    if zero:
        _break_axis(axes, scale.slot - margin, scale.slot + margin, low - margin, high + margin)


def _in_lines(title: str) -> str:
    """A panel's title in as many lines as its width takes; broken after blanks, and within words after signs."""
    style = FontProperties(weight="bold", size=matplotlib.rcParams["axes.titlesize"])
    room = 72 * PANEL_INCHES[0] * 0.8  # beside the labels of the axis
    lines = [""]
    for part in re.split(r"(?<=[ _/-])", title):
        longer = lines[-1] + part
        if lines[-1] and TextPath((0, 0), longer.rstrip(), prop=style).get_extents().width > room:
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(line.rstrip() for line in lines)


def _break_axis(axes: Axes, slot_low: float, slot_high: float, low: float, high: float) -> None:
    on_axis: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "color": "0.35"}
    axes.spines["bottom"].set_bounds(low, high)
    axes.plot([slot_low, slot_high], [0, 0], linewidth=0.7, **on_axis)
    for x in (slot_high, low):
        axes.plot([x], [0], marker=[(-1, -2), (1, 2)], markersize=5, mew=0.7, linestyle="none", **on_axis)


def _legend(figure: Figure, panels: Sequence[Panel], colours: Mapping[str, Any]) -> None:
    """One legend for all panels, in as few rows as the figure's width allows."""
    handles = _handles(panels, colours)
    for columns in range(len(handles), 0, -1):
        style: dict[str, Any] = {"ncols": columns, "handlelength": 2, "columnspacing": 1.5}
        legend = figure.legend(handles=handles, loc="outside upper center", **style)
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            return
        legend.remove()


def _handles(panels: Sequence[Panel], colours: Mapping[str, Any]) -> list[Line2D]:
    arms = {curve.cot for panel in panels for curve in panel.curves}
    handles = [Line2D([], [], color=colour, linewidth=2.4, label=size) for size, colour in colours.items()]
    style: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "marker": "o", "markersize": 4}
    if True in arms:
        handles.append(Line2D([], [], label="trained with CoT", **style))
    if False in arms:
        handles.append(Line2D([], [], label="without CoT", markerfacecolor="white", linestyle=DASHES, **style))
    if any(mean.count == 0 for panel in panels for mean in panel.means):
        handles.append(Line2D([], [], color=GREY, marker="D", markersize=3.4, linestyle="none", label="not finetuned"))
    if any(counterparts(panel, panels) for panel in panels):
        handles.append(Line2D([], [], color=GREY, marker="x", markersize=3.5, linestyle="none", label="published"))
    if any(x_axis(panel) != "arms" and not panel.falls for panel in panels):
        handles.append(Line2D([], [], color=GREY, linewidth=0.7, linestyle=DOTS, label="chance"))
    return handles
