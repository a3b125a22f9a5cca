"""Which cells does a verb act on? Those in some states, of some classes of failure, at some places of the grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from flanscale.checks import ConfigError, did_you_mean
from flanscale.orchestration.running.liveness import View
from flanscale.orchestration.running.state import FAILURE_CLASSES
from flanscale.orchestration.watching import selection
from flanscale.orchestration.watching.ledger import Entry, Ledger


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
        entries = selection.where(ledger, self.where).entries if self.where else entries
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
            near = get_close_matches(word, known, n=1, cutoff=0.5)
            raise ConfigError(f"{option} {word}: not one of {', '.join(known)}{did_you_mean(near)}")
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
