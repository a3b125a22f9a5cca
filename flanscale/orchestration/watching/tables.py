"""What does the table of a study say, and which of its cells where not all of them fit?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from flanscale.orchestration.planning import figures
from flanscale.orchestration.planning.ledger import Entry
from flanscale.orchestration.planning.plan import Point
from flanscale.orchestration.planning.sheet import Column, Place, Sheet
from flanscale.orchestration.watching import words
from flanscale.orchestration.watching.monitor import STATUSES, CellStatus, StudyStatus


def status_table(study: StudyStatus, cells: Sequence[CellStatus]) -> Sheet:
    """These cells of a study."""
    ledger = study.ledger
    wanted = {cell.entry.id for cell in cells}
    axes = axis_values(point for point in ledger.points if point.cell in wanted)
    statuses = {cell.entry.id: cell.status for cell in study.cells}
    stages = stages_of([cell.entry for cell in study.cells])
    staged = max(stages.values(), default=1) > 1
    columns = [
        Column("cell", worth=8),
        Column("stage", optional=True, worth=3),
        *(Column(figures.axis_title(key), worth=7 if len(ledger.axes[key]) > 1 else 1) for key in ledger.axes),
        Column("state"),
        Column("step", right=True, worth=8),
        Column("loss", right=True, worth=5),
        Column("score", right=True, worth=6),
        Column("tok/s", right=True, worth=3, optional=True),
        Column("MFU", right=True, worth=2, optional=True),
        Column("time", right=True, worth=4, optional=True),
        Column("ETA", right=True, worth=5, optional=True),
        Column("try", right=True, worth=3, optional=True),
        Column("reason", optional=True),
    ]
    rows: list[list[Place]] = []
    for cell in cells:
        state = cell.view.state
        rows.append(
            [
                cell.entry.id,
                str(stages.get(cell.entry.id, "")) if staged else "",
                *axes.get(cell.entry.id, ["–"] * len(ledger.axes)),
                (cell.status, words.COLOURS.get(cell.status, "default")),
                words.step(cell),
                _loss(cell),
                words.score(cell),
                words.speed(cell) if cell.status == "running" else "",
                words.utilisation(cell),
                words.duration(cell.seconds) if state.attempt else "",
                words.duration(study.remaining[cell.entry.id]) if _has_eta(cell, study) else "",
                str(state.attempt or ""),
                words.reason(cell, statuses),
            ]
        )
    return Sheet(columns, rows)


def shown(cells: Sequence[CellStatus], most: int) -> list[CellStatus]:
    """All in their order, or at most so many: first what runs, then what failed; neither pushes the other out."""
    if len(cells) <= most:
        return list(cells)
    rank = {status: place for place, status in enumerate(STATUSES)}
    ranked = sorted(cells, key=lambda cell: rank[cell.status])
    running = [cell for cell in ranked if cell.status == "running"]
    lost = [cell for cell in ranked if cell.lost]
    first = running[: max(most - len(lost), most // 2)]
    taken = {id(cell) for cell in first}
    return [*first, *(cell for cell in ranked if id(cell) not in taken and cell.status != "running")][:most]


def hidden(cells: Sequence[CellStatus], visible: Sequence[CellStatus]) -> str:
    """What `shown` has left out of these cells, in words; empty when it is nothing."""
    taken = {id(cell) for cell in visible}
    left_out = Counter(cell.status for cell in cells if id(cell) not in taken)
    parts = [f"{left_out[status]} {status}" for status in STATUSES if left_out[status]]
    return f"… {left_out.total()} more: {', '.join(parts)} (--state, --where or a pipe show them)" if parts else ""


def axis_values(points: Iterable[Point]) -> dict[str, list[str]]:
    """Each cell's value on every axis; a cell that answers for several points shows all their values."""
    values: dict[str, list[list[str]]] = {}
    for point in points:
        here = [figures.axis_value(value) for value in point.axes.values()]
        for seen, value in zip(values.setdefault(point.cell, [[] for _ in here]), here, strict=True):
            if value not in seen:
                seen.append(value)
    return {cell: ["/".join(seen) for seen in columns] for cell, columns in values.items()}


def stages_of(entries: Sequence[Entry]) -> dict[str, int]:
    """The stage of every cell by id: 1 without parents, else the one after its latest parent's."""
    by_id = {entry.id: entry for entry in entries}
    stages: dict[str, int] = {}

    def stage(entry: Entry) -> int:
        if entry.id not in stages:
            stages[entry.id] = 1  # also what a circle would find, which no plan has
            stages[entry.id] += max((stage(by_id[parent]) for parent in entry.parents if parent in by_id), default=0)
        return stages[entry.id]

    for entry in entries:
        stage(entry)
    return stages


def _has_eta(cell: CellStatus, study: StudyStatus) -> bool:
    return cell.status == "running" and cell.entry.id in study.remaining


def _loss(cell: CellStatus) -> Place:
    text = words.loss(cell)
    return (text, "red") if text in ("nan", "inf", "-inf") else text
