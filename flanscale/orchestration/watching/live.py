"""How is a study followed? A picture drawn again and again on a terminal, a line for each ended cell elsewhere."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flanscale.orchestration.planning.sheet import fitted, plain
from flanscale.orchestration.watching import words
from flanscale.orchestration.watching.heatmap import heat_map, make_map
from flanscale.orchestration.watching.monitor import DAMAGED, STATUSES, CellStatus, Observer, StudyStatus
from flanscale.orchestration.watching.selection import only
from flanscale.orchestration.watching.tables import hidden, shown, status_table

PLAIN_WIDTH = 200  # where the output is no terminal, nothing is gained by folding
REFRESH_SECONDS = 1.0
PROGRESS_SECONDS = 5.0  # between two lines about the only cell of a study
QUIET_SECONDS = 3.0  # a queue starts its next cell sooner than that
SHARE_OF_LOOKING = 0.25  # most of the time that goes into looking, however large the study and slow the file system
BAR = 24  # characters
ALL = frozenset(STATUSES)


@dataclass(frozen=True)
class Choice:
    """What is to be seen of a study."""

    states: frozenset[str] = ALL
    axes: tuple[str, str] | None = None  # of the map, down and across
    wants_map: bool = False  # even where it leaves the table little room


def picture(study: StudyStatus, choice: Choice, width: int, height: int) -> Text:
    """A study as it is now, on so many characters and lines: a bar, the map, and as much of the table as fits."""
    lines = [_crop(_bar(study), width), _crop(Text(words.totals(study)), width)]
    lines += [_crop(Text(line), width) for line in _removed(study)]
    if choice.axes:
        sheet, said = heat_map(make_map(study, choice.axes), width)
        if len(sheet.rows) + len(said) + 3 <= height * (2 / 3 if choice.wants_map else 1 / 3):
            lines += [Text(), fitted(sheet, width, crop=True), *(_crop(Text(line), width) for line in said), Text()]
    cells = only(study, choice.states)
    room = height - 1 - sum(len(line.plain.split("\n")) for line in lines)  # for rows, below the table's head
    room = max(room - (len(cells) > room), 0)
    visible = shown(cells, room)
    lines.append(fitted(status_table(study, visible), width, crop=True))
    if rest := hidden(cells, visible):
        lines.append(_crop(Text(rest), width))
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _bar(study: StudyStatus) -> Text:
    finished, total = study.counts["finished"], len(study.cells)
    filled = BAR * finished // max(total, 1)
    bar = Text("━" * filled, "green").append("─" * (BAR - filled), "dim")
    return Text.assemble((study.ledger.study, "bold"), " ", bar, f" {finished}/{total} cells; {words.counts(study)}")


def _removed(study: StudyStatus) -> Iterator[str]:
    if study.removed:
        states = [cell.status for cell in study.removed]
        told = ", ".join(f"{states.count(state)} {state}" for state in STATUSES if state in states)
        yield f"no longer in the sweep: {told}"


def _crop(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def show_status(observer: Observer, console: Console, choice: Choice | None = None, *, watch: bool = False) -> None:
    """The tables of a study; with `watch`, its progress first, until nobody is at work on it."""
    choice = choice or Choice()
    if watch:
        with following(observer, console, choice, screen=True) as follow:
            quiet_since = time.monotonic()
            while not _over(follow.study) and time.monotonic() - quiet_since < QUIET_SECONDS:
                time.sleep(REFRESH_SECONDS / 4)
                follow()
                if not follow.study.settled:
                    quiet_since = time.monotonic()
    print_status(observer.look(), console, choice)


def _over(study: StudyStatus) -> bool:
    """Whether nothing will happen to any cell by itself."""
    return all(cell.status in ("finished", "failed", DAMAGED) for cell in study.cells)


def print_status(study: StudyStatus, console: Console, choice: Choice) -> None:
    """The table, the map and the sums of a study; on a terminal no more rows of the table than it has."""
    cells, below = only(study, choice.states), list(_map(study, console, choice.axes))
    if console.is_terminal:
        room = max(console.height - 6 - sum(len(str(text).split("\n")) for text in below), 5)
        visible = shown(cells, room)
        _say(console, fitted(status_table(study, visible), console.width))
        _say(console, hidden(cells, visible))
    else:
        _say(console, plain(status_table(study, cells)))
    for text in (*below, *_removed(study), words.totals(study), words.counts(study)):
        _say(console, text)


def _map(study: StudyStatus, console: Console, axes: tuple[str, str] | None) -> Iterator[str | Text]:
    if axes:
        sheet, said = heat_map(make_map(study, axes), console.width if console.is_terminal else None)
        yield "\n"
        yield fitted(sheet, console.width, crop=True) if console.is_terminal else plain(sheet)
        yield "\n".join(said)


def _say(console: Console, text: str | Text) -> None:
    if text:
        text = text.rstrip("\n") if isinstance(text, str) else text
        console.print(text, markup=False, highlight=False, soft_wrap=True)


# --- following -------------------------------------------------------------------------------------------------


class Follower:
    """Shows a study's progress whenever it is called: redrawn on a terminal, one line for each ended cell elsewhere."""

    def __init__(self, observer: Observer, console: Console, choice: Choice, live: Live | None, screen: bool) -> None:
        self._observer, self._console, self._choice, self._live = observer, console, choice, live
        self._screen = screen
        self._due = self._progress_due = 0.0
        self.study = observer.look()  # as it was shown last
        self._told = {cell.entry.id: cell.view.state.attempt for cell in self.study.cells if _ended(cell)}

    def __call__(self) -> None:
        """Show the present state, at most once a second."""
        began = time.monotonic()
        if began >= self._due:
            self.show(self._observer.look())
            now = time.monotonic()
            self._due = now + max(REFRESH_SECONDS, (now - began) / SHARE_OF_LOOKING)

    def show(self, study: StudyStatus) -> None:
        """Show this state."""
        self.study = study
        if not self._screen:
            self._print_ended(study)
        if not self._live and len(study.cells) == 1:
            self._print_progress(study.cells[0])
        if self._live:
            height = self._console.height if self._screen else self._console.height // 2
            self._live.update(picture(study, self._choice, self._console.width, height), refresh=True)

    def _print_progress(self, cell: CellStatus) -> None:
        """A line now and then, since the end of one cell alone may be far away."""
        if cell.status == "running" and cell.progress.loss is not None and time.monotonic() >= self._progress_due:
            self._progress_due = time.monotonic() + PROGRESS_SECONDS
            speed = f", {words.speed(cell)} tokens/s" if words.speed(cell) else ""
            _say(self._console, f"{cell.entry.label}: step {words.step(cell)}, loss {words.loss(cell)}{speed}")

    def _print_ended(self, study: StudyStatus) -> None:
        finished, total = study.counts["finished"], len(study.cells)
        for cell in study.cells:
            if _ended(cell) and self._told.get(cell.entry.id) != cell.view.state.attempt:
                self._told[cell.entry.id] = cell.view.state.attempt
                mark = Text("✔", "green") if cell.status == "finished" else Text("✘", "red")
                self._console.print(
                    mark, f"[{finished}/{total}]", words.outcome(cell), markup=False, highlight=False, soft_wrap=True
                )


def _ended(cell: CellStatus) -> bool:
    return cell.status == "finished" or cell.lost


@contextmanager
def following(
    observer: Observer, console: Console, choice: Choice | None = None, *, screen: bool = False
) -> Iterator[Follower]:
    """A display of a study's progress that is open inside the `with` block; `screen` gives it the whole terminal."""
    choice = choice or Choice()
    if not console.is_terminal:
        yield (follower := Follower(observer, console, choice, None, screen=False))
        follower.show(observer.look())
        return
    with Live(console=console, auto_refresh=False, transient=not screen, screen=screen) as live:
        yield (follower := Follower(observer, console, choice, live, screen))
        follower.show(observer.look())


def open_console() -> Console:
    """A console on standard output; what its encoding lacks is shown as a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
