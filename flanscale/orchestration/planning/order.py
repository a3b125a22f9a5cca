"""In which order do cells start? Coarse (useful early), longest first (done early), or as the grid has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flanscale.errors import ConfigError
from flanscale.orchestration.planning.plan import Cell, Plan

ORDERS = ("coarse", "longest", "grid")
REPLICATES = ("seed", "mixture.order_seed")  # axes whose values are repetitions, not places on a scale


def in_order(plan: Plan, cells: Sequence[Cell], how: str) -> list[Cell]:
    """Some cells of a plan in the order in which they are to start; parents always before their children.

    Args:
        plan: where the cells are from.
        cells: those to put in order.
        how: one of `ORDERS`.

    Raises:
        ConfigError: it is not.
    """
    if how not in ORDERS:
        raise ConfigError(f"--order={how}: must be one of {', '.join(ORDERS)}")
    arrange: dict[str, Callable[[], list[Cell]]] = {
        "coarse": lambda: _coarse(plan, cells),
        "longest": lambda: _longest(cells),
        "grid": lambda: list(cells),
    }
    return _parents_first(arrange[how]())


def _longest(cells: Sequence[Cell]) -> list[Cell]:
    """The cheapest training first, so that a mistake common to all shows at once; then the longest first.

    Longest first keeps all slots busy to the end: no slot starts a long cell when the others have run dry.
    """
    if not cells:
        return []
    first = min(cells, key=lambda cell: (cell.cost.flops or float("inf"), cell.cost.parameters))
    rest = [cell for cell in cells if cell is not first]
    return [first, *sorted(rest, key=lambda cell: -cell.cost.flops)]


def _coarse(plan: Plan, cells: Sequence[Cell]) -> list[Cell]:
    """The extremes of every axis first, then ever finer halvings; repetitions come in step with the halvings.

    A study stopped at any moment thus covers its whole range, with about as many seeds everywhere.
    """
    levels = {
        key: dict(enumerate(range(len(values)) if key in REPLICATES else halvings(len(values))))
        for key, values in plan.study.axes.items()
    }
    position = {key: {_word(value): n for n, value in enumerate(values)} for key, values in plan.study.axes.items()}
    rank: dict[str, tuple[int, int]] = {}
    for point in plan.points:
        own = [levels[key][position[key][_word(value)]] for key, value in point.axes.items()]
        level = (max(own, default=0), sum(own))
        rank[point.cell] = min(rank.get(point.cell, level), level)
    return sorted(cells, key=lambda cell: rank.get(cell.id, (0, 0)))


def halvings(count: int) -> list[int]:
    """For each of so many places in a row, how many halvings of the row reach it; its two ends take none."""
    levels = [0] * count

    def halve(low: int, high: int, level: int) -> None:
        if high - low > 1:
            middle = (low + high) // 2
            levels[middle] = level
            halve(low, middle, level + 1)
            halve(middle, high, level + 1)

    halve(0, count - 1, 1)
    return levels


def _word(value: Any) -> str:
    """Tells `true` from 1, and may be a key where the value is a list."""
    return repr(value)


def _parents_first(cells: Sequence[Cell]) -> list[Cell]:
    """The same order, with every parent that would come after a child of its moved before the child."""
    by_id = {cell.id: cell for cell in cells}
    arranged: dict[str, Cell] = {}

    def put(cell: Cell) -> None:
        for parent in cell.parents:
            if parent in by_id and parent not in arranged:
                put(by_id[parent])
        arranged.setdefault(cell.id, cell)

    for cell in cells:
        put(cell)
    return list(arranged.values())
