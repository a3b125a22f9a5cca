"""What does a study cost in all? Device-hours, dollars and energy, with where the figures come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flanscale.orchestration.planning.plan import Cell
from flanscale.orchestration.watching.words import hours

if TYPE_CHECKING:
    from flanscale.orchestration.planning.preview import Preview


def totals(seen: Preview) -> list[str]:
    """Device-hours, dollars and energy of a study, and where the figures come from; nothing where nothing is known."""
    starts, waiting = seen.starts, seen.that("wait")
    if not any(seen.estimates.values()) and not seen.spent:
        return []
    parts = [f"{hours(seen.spent)} spent"]
    if waiting:
        parts.append(f"{hours(seen.device_hours(waiting))} queued or running")
    parts.append(f"{hours(seen.device_hours(starts))} to start")
    lines = [f"device-hours: {', '.join(parts)}{_basis(seen)}"]
    if bill := _bill(seen, [*starts, *waiting]):
        lines.append(bill)
    return lines


def _basis(seen: Preview) -> str:
    """How the hours of what is ahead are known, by cells."""
    bases = [guess.basis for guess in seen.estimates.values() if guess]
    mfus = {f"{cell.config.cluster.mfu:.0%}" for cell in seen.plan.cells}
    words = {
        "measured": "measured on finished runs of the same size",
        "pace": "by FLOPs at the pace of finished ones",
        "mfu": f"assuming an MFU of {' or '.join(sorted(mfus))} (cluster.mfu) and no evaluation",
    }
    said = [
        f"{words[basis]}{f' for {bases.count(basis)} cells' if len(set(bases)) > 1 else ''}"
        for basis in words
        if basis in bases
    ]
    return f" ({'; '.join(said)})" if said else ""


def _bill(seen: Preview, cells: Sequence[Cell]) -> str:
    """Dollars and kilowatt-hours of what is ahead, where prices are configured for all of it."""
    each = [(cell.config.cluster, seen.estimates[cell.id]) for cell in cells]
    known = [(cluster, guess.device_hours) for cluster, guess in each if guess]
    if len(known) < len(each) or not known:
        return ""
    dollars = [cluster.dollars_per_hour for cluster, _ in known]
    watts = [cluster.watts for cluster, _ in known]
    said = []
    if None not in dollars:
        said.append(f"{sum((d or 0) * taken for d, (_, taken) in zip(dollars, known, strict=True)):,.2f} dollars")
    if None not in watts:
        said.append(f"{sum((w or 0) * taken for w, (_, taken) in zip(watts, known, strict=True)) / 1000:,.3g} kWh")
    return f"still to pay: {', '.join(said)}" if said else ""
