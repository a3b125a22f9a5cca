"""How is a figure or a state said in words? The same everywhere: tables, live views, last lines of a launch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flanscale.orchestration.planning.figures import duration, hours, quantity
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


def one_line(text: str) -> str:
    """A foreign text without what could upset a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
