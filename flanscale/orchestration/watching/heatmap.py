"""Where on the grid is the study? Two of its axes as a map: mean score or state of the cells at each place.

Colour repeats what the words say, so that it is never needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from flanscale.errors import ConfigError, nearest
from flanscale.orchestration.planning import figures
from flanscale.orchestration.planning.ledger import Ledger
from flanscale.orchestration.planning.sheet import Column, Sheet
from flanscale.orchestration.watching import words
from flanscale.orchestration.watching.monitor import STATUSES, CellStatus, StudyStatus

SCALE = (  # of scores, low to high: viridis, with a readable ink
    *("white on #440154", "white on #46327e", "white on #365c8d", "white on #277f8e"),
    *("black on #1fa187", "black on #4ac16d", "black on #a0da39", "black on #fde725"),
)


@dataclass(frozen=True)
class Place:
    """One place of the map: the cells of all values of the other axes."""

    cells: tuple[CellStatus, ...]

    @cached_property
    def scores(self) -> list[float]:
        found = [cell.progress.score for cell in self.cells if cell.status == "finished"]
        return [score for score in found if score is not None and math.isfinite(score)]

    @cached_property
    def finished(self) -> int:
        return sum(cell.status == "finished" for cell in self.cells)

    @cached_property
    def state(self) -> str:
        """The most urgent state of its cells."""
        return min({cell.status for cell in self.cells}, key=STATUSES.index)

    @cached_property
    def text(self) -> str:
        """The mean score, or the state, with what is missing; empty where the study has no cell."""
        if not self.cells:
            return ""
        lost = "!" if any(cell.lost for cell in self.cells) else ""
        part = f" {self.finished}/{len(self.cells)}" if self.finished < len(self.cells) else ""
        if self.scores:
            return f"{fmean(self.scores):.1f}{part}{lost}"
        if self.state == "running":
            done = fmean((cell.progress.step or 0) / max(cell.entry.steps, 1) for cell in self.cells)
            return f"running {min(done, 1.0):.0%}{lost}"
        return self.state


@dataclass(frozen=True)
class Map:
    """The axes of a map with the values that occur, and its places by their two values in words."""

    down: str
    across: str
    rows: Sequence[str]
    columns: Sequence[str]
    places: Mapping[tuple[str, str], Place]


def map_axes(ledger: Ledger, asked: str | None) -> tuple[str, str] | None:
    """Which axes go down and across: those asked for (`DOWN,ACROSS`), else the two longest, the longest across.

    None where the study has fewer than two axes to choose from.

    Raises:
        ConfigError: an axis that the study does not have.
    """
    if asked is not None:
        names = [name.strip() for name in asked.split(",")]
        if len(names) != 2 or names[0] == names[1]:
            raise ConfigError(f"--map {asked}: expected two axes, as in --map {_example(ledger)}")
        return axis_named(ledger, names[0], "--map"), axis_named(ledger, names[1], "--map")
    longest = sorted((axis for axis in ledger.axes if len(ledger.axes[axis]) > 1), key=lambda a: -len(ledger.axes[a]))
    return (longest[1], longest[0]) if len(longest) > 1 else None


def axis_named(ledger: Ledger, name: str, option: str) -> str:
    """The axis of a full key or of its last part.

    Raises:
        ConfigError: there is none, or several.
    """
    found = [axis for axis in ledger.axes if name in (axis, figures.axis_title(axis))]
    if name in ledger.axes or len(found) == 1:
        return name if name in ledger.axes else found[0]
    hint = nearest(name, [*ledger.axes, *map(figures.axis_title, ledger.axes)])
    there = ", ".join(found or ledger.axes) or "none"
    raise ConfigError(
        f"{option} {name}: {'several axes' if found else 'no axis'} of that name{hint}; there are {there}"
    )


def _example(ledger: Ledger) -> str:
    return ",".join([*map(figures.axis_title, ledger.axes), "AXIS", "AXIS"][:2])


def make_map(study: StudyStatus, axes: tuple[str, str]) -> Map:
    """The study over two of its axes."""
    down, across = axes
    by_id = {cell.entry.id: cell for cell in study.cells}
    cells: dict[tuple[str, str], dict[str, CellStatus]] = {}
    for point in study.ledger.points:
        if point.cell in by_id:
            here = figures.axis_value(point.axes[down]), figures.axis_value(point.axes[across])
            cells.setdefault(here, {})[point.cell] = by_id[point.cell]
    values = study.ledger.axes
    rows = [text for text in map(figures.axis_value, values[down]) if any(text == row for row, _ in cells)]
    columns = [text for text in map(figures.axis_value, values[across]) if any(text == column for _, column in cells)]
    return Map(down, across, rows, columns, {here: Place(tuple(found.values())) for here, found in cells.items()})


def heat_map(drawn: Map, width: int | None = None) -> tuple[Sheet, list[str]]:
    """A map as a table with what must be said about it; with a width, only the columns that fit."""
    scores = [fmean(place.scores) for place in drawn.places.values() if place.scores]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)
    corner = f"{figures.axis_title(drawn.down)} \\ {figures.axis_title(drawn.across)}"
    empty = Place(())
    rows = [[drawn.places.get((row, column), empty) for column in drawn.columns] for row in drawn.rows]
    fitting = _fitting([corner, *drawn.rows], drawn.columns, rows, width)
    sheet = Sheet(
        [Column(corner), *(Column(column, right=True) for column in drawn.columns[:fitting])],
        [
            [name, *((place.text, _style(place, low, high)) for place in row[:fitting])]
            for name, row in zip(drawn.rows, rows, strict=True)
        ],
    )
    return sheet, list(_legend(drawn, len(drawn.columns) - fitting))


def _fitting(names: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Place]], width: int | None) -> int:
    if width is None:
        return len(columns)
    used, fitting = max(map(len, names)), 0
    for number, column in enumerate(columns):
        used += 2 + max(len(column), *(len(row[number].text) for row in rows))
        if used > width:
            break
        fitting += 1
    return fitting


def _style(place: Place, low: float, high: float) -> str:
    if not place.cells:
        return ""
    if not place.scores:
        return words.COLOURS.get(place.state, "")
    share = (fmean(place.scores) - low) / (high - low) if high > low else 0.5
    return SCALE[min(int(share * len(SCALE)), len(SCALE) - 1)]


def _legend(drawn: Map, missing: int) -> Iterator[str]:
    places = drawn.places.values()
    said = []
    if any(place.scores for place in places):
        several = any(len(place.cells) > 1 for place in places)
        said.append("mean score of the finished cells of each place" if several else "score")
    if any(place.scores and place.finished < len(place.cells) for place in places):
        said.append("k/n: so many of them are finished")
    if any(place.text.endswith("!") for place in places):
        said.append("!: one ended without a result")
    if said:
        yield "; ".join(said)
    if missing:
        yield f"… {missing} more columns: a wider terminal, --where or a pipe show them"


def map_json(drawn: Map) -> dict[str, Any]:
    """A map for programs: every place with its values of the two axes."""
    return {
        "axes": [drawn.down, drawn.across],
        "places": [
            {
                "values": [row, column],
                "cells": len(place.cells),
                "finished": place.finished,
                "state": place.state,
                "score": fmean(place.scores) if place.scores else None,
            }
            for (row, column), place in drawn.places.items()
        ],
    }
