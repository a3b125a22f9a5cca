"""How is a figure or a state said in words? The same everywhere: tables, live views, last lines of a launch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from flanscale.orchestration.planning.plan import Point
from flanscale.orchestration.watching.monitor import DAMAGED, CellStatus, StudyStatus

COLOURS = {
    "finished": "green",
    "running": "cyan",
    "failed": "red",
    "interrupted": "red",
    DAMAGED: "red",
    "preempted": "yellow",
    "queued": "blue",
}


def duration(seconds: float | None) -> str:
    """A time span in the two units that matter."""
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def quantity(value: float) -> str:
    """A large number with three significant digits and its unit prefix."""
    for unit in ("", "k", "M", "G", "T", "P", "E", "Z", "Y"):
        if abs(value) < 999.5 or unit == "Y":
            break
        value /= 1000
    return f"{value:.3g}{' ' if unit else ''}{unit}"


def hours(value: float | None) -> str:
    """Device-hours with three significant digits."""
    return "?" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def score(cell: CellStatus) -> str:
    """The held-out score with its standard error."""
    if cell.progress.score is None:
        return ""
    error = "" if cell.progress.stderr is None else f" ± {cell.progress.stderr:.1f}"
    return f"{cell.progress.score:.1f}{error}"


def step(cell: CellStatus) -> str:
    """How far it is."""
    return f"{cell.progress.step or 0}/{cell.entry.steps}" if cell.view.state.attempt else ""


def loss(cell: CellStatus) -> str:
    """The newest training loss."""
    return "" if cell.progress.loss is None else f"{cell.progress.loss:.3f}"


def speed(cell: CellStatus) -> str:
    """Tokens a second, while it runs."""
    value = cell.progress.tokens_per_second
    return quantity(value) if value is not None and math.isfinite(value) else ""


def utilisation(cell: CellStatus) -> str:
    """The MFU in percent."""
    return "" if cell.progress.mfu is None else f"{cell.progress.mfu:.1%}"


def outcome(cell: CellStatus) -> str:
    """One finished or lost cell in one line."""
    if cell.status == "finished":
        return f"{cell.entry.label}: score {score(cell) or 'none'} in {duration(cell.seconds)}"
    why = failure(cell)
    return f"{cell.entry.label}: {cell.status}{f' ({why})' if why else ''}"


def failure(cell: CellStatus) -> str:
    """Why its newest attempt ended early, or why its files cannot be read; in one printable line."""
    told = cell.view.state.failure
    return one_line(cell.problem or (f"{told.kind}: {told.message}" if told else ""))


def reason(cell: CellStatus, statuses: Mapping[str, str]) -> str:
    """Why it is not at work, or what it waits for; `statuses` are of all cells by id."""
    parts = ["no longer in the sweep"] if cell.removed else []
    if why := failure(cell):
        parts.append(why)
    if cell.view.held:
        parts.append(f"held by Slurm ({cell.view.held}): scontrol release {cell.view.state.job}")
    if cell.status in ("planned", "queued"):
        waits = [parent for parent in cell.entry.parents if statuses.get(parent) != "finished"]
        parts += [
            f"after {parent} ({statuses[parent]})" if parent in statuses else f"after {parent}" for parent in waits
        ]
    return "; ".join(parts)


def counts(study: StudyStatus) -> str:
    """How many cells are in which state."""
    ordered = sorted(study.counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number} {status}" for status, number in ordered) or "no cells"


def left(study: StudyStatus) -> str:
    """How long the study still takes; empty when there is nothing to wait for."""
    ahead = len(study.cells) - study.counts["finished"] - len(study.lost)
    seconds = study.seconds_left() if ahead else None
    return f"about {duration(seconds)} left" if seconds is not None else "time left not known yet" if ahead else ""


def totals(study: StudyStatus) -> str:
    """Device-hours used and left, and the time left."""
    ahead = len(study.cells) - study.counts["finished"] - len(study.lost)
    to_go = f", {hours(study.device_hours_left())} to go" if ahead else ""
    time_left = f"; {left(study)}" if ahead else ""
    return f"device-hours: {hours(study.device_hours)} used{to_go}{time_left}"


def axis_values(points: Iterable[Point]) -> dict[str, list[str]]:
    """Each cell's value on every axis; a cell that answers for several points shows all their values."""
    values: dict[str, list[list[str]]] = {}
    for point in points:
        here = [axis_value(value) for value in point.axes.values()]
        for seen, value in zip(values.setdefault(point.cell, [[] for _ in here]), here, strict=True):
            if value not in seen:
                seen.append(value)
    return {cell: ["/".join(seen) for seen in columns] for cell, columns in values.items()}


def axis_value(value: Any) -> str:
    """As it is typed in an override."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def axis_title(key: str) -> str:
    """A column's title: the last part of an axis's key."""
    return key.rsplit(".", 1)[-1]


def one_line(text: str) -> str:
    """A foreign text without what could upset a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
