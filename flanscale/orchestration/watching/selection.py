"""Which cells are asked for? Filters of a study by state (`--state`) and by place on the grid (`--where`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from flanscale.checks import ConfigError
from flanscale.orchestration.watching.heatmap import axis_named
from flanscale.orchestration.watching.ledger import Ledger
from flanscale.orchestration.watching.monitor import STATUSES, CellStatus, StudyStatus
from flanscale.orchestration.watching.words import axis_value


def where(ledger: Ledger, asked: Sequence[str]) -> Ledger:
    """The part of a study that lies there: every text is `AXIS=VALUE[,VALUE...]`, and all must hold.

    Raises:
        ConfigError: an axis or a value that the study does not have.
    """
    if not asked:
        return ledger
    wanted: dict[str, set[str]] = {}
    for text in asked:
        axis, values = _condition(ledger, text)
        wanted.setdefault(axis, set()).update(values)
    points = tuple(
        point
        for point in ledger.points
        if all(axis_value(point.axes[axis]) in values for axis, values in wanted.items())
    )
    cells = {point.cell for point in points}
    entries = tuple(entry for entry in ledger.entries if entry.id in cells)
    return replace(ledger, points=points, entries=entries, removed=())


def _condition(ledger: Ledger, text: str) -> tuple[str, Sequence[str]]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--where {text}: expected AXIS=VALUE")
    axis = axis_named(ledger, name.strip(), "--where")
    known = [axis_value(one) for one in ledger.axes[axis]]
    values = [value] if value in known else [part.strip() for part in value.split(",")]
    for one in values:
        if one not in known:
            near = get_close_matches(one, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--where {text}: {one!r} is no value of {axis}{hint}; there are {', '.join(known)}")
    return axis, values


def states(asked: Sequence[str]) -> frozenset[str]:
    """The states of `--state`, several separated by commas; all of them when none is given.

    Raises:
        ConfigError: no such state.
    """
    wanted = [state.strip() for text in asked for state in text.split(",")]
    for state in wanted:
        if state not in STATUSES:
            near = get_close_matches(state, STATUSES, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--state {state}: no such state{hint}; there are {', '.join(STATUSES)}")
    return frozenset(wanted or STATUSES)


def only(study: StudyStatus, wanted: frozenset[str]) -> list[CellStatus]:
    """The cells of these states, those that the study no longer has last."""
    return [cell for cell in (*study.cells, *study.removed) if cell.status in wanted]
