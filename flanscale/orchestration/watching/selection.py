"""Which cells are asked for? Those in some states, of some classes of failure, at some places of the grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flanscale.errors import ConfigError, nearest
from flanscale.orchestration.planning.figures import axis_value
from flanscale.orchestration.planning.ledger import Entry, Ledger
from flanscale.orchestration.running.liveness import View
from flanscale.orchestration.watching.heatmap import axis_named
from flanscale.orchestration.watching.monitor import STATUSES, CellStatus, StudyStatus
from flanscale.run_directory import FAILURE_CLASSES


def part_of(ledger: Ledger, asked: Sequence[str]) -> Ledger:
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
            hint = nearest(one, known)
            raise ConfigError(f"--where {text}: {one!r} is no value of {axis}{hint}; there are {', '.join(known)}")
    return axis, values


def states(asked: Sequence[str]) -> frozenset[str]:
    """The states of `--state`, several separated by commas; all of them when none is given.

    Raises:
        ConfigError: no such state.
    """
    return known_words("--state", asked, STATUSES) or frozenset(STATUSES)


def only(study: StudyStatus, wanted: frozenset[str]) -> list[CellStatus]:
    """The cells of these states, those that the study no longer has last."""
    return [cell for cell in (*study.cells, *study.removed) if cell.status in wanted]


@dataclass(frozen=True)
class Filter:
    """What a cell must be like; an empty part lets every cell through."""

    where: tuple[str, ...] = ()  # conditions AXIS=VALUE[,VALUE...], all of which hold
    states: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()

    def places(self, ledger: Ledger, entries: Iterable[Entry]) -> frozenset[str]:
        """Ids of the cells that lie there.

        Raises:
            ConfigError: an axis or a value that the study does not have.
        """
        entries = part_of(ledger, self.where).entries if self.where else entries
        return frozenset(entry.id for entry in entries)

    def accepts(self, view: View) -> bool:
        """Whether a cell is in such a state and, where classes are asked for, failed so."""
        in_state = not self.states or not self.states.isdisjoint(states_of(view))
        return in_state and (not self.classes or failure_class(view) in self.classes)


def known_words(option: str, texts: Iterable[str], known: Sequence[str]) -> frozenset[str]:
    """The words of an option that takes several, separated by commas.

    Raises:
        ConfigError: a word that is not known; the message names the nearest.
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    for word in words:
        if word not in known:
            raise ConfigError(f"{option} {word}: not one of {', '.join(known)}{nearest(word, known)}")
    return frozenset(words)


def known_classes(texts: Iterable[str]) -> frozenset[str]:
    """The classes of `--class`."""
    return known_words("--class", texts, FAILURE_CLASSES)


def states_of(view: View) -> set[str]:
    """The states that a run goes by: one that waits in a queue to be taken up again is preempted and queued."""
    waits = view.alive and view.status != "running"
    return {view.status, "queued"} if waits else {view.status}


def failure_class(view: View) -> str | None:
    """Why it has no result yet, where something went wrong."""
    if view.status == "interrupted":
        return "interrupted"
    return view.state.failure.kind if view.state.failure else None
