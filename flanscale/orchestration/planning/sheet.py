"""How does a table fit where it is shown? Aligned columns, of which narrow places leave out the least worthy.

Thousands of rows are laid out in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = "  "
LAST_WIDTH = 24  # of the last column, at least, when the others are chosen

Place = str | tuple[str, str]  # a text, or one with its style


@dataclass(frozen=True)
class Column:
    """One column's head."""

    title: str
    right: bool = False  # aligned to the right
    worth: int = 9  # narrow places leave out the columns of the least worth; 9 stays
    optional: bool = False  # left out everywhere when it is empty


@dataclass(frozen=True)
class Sheet:
    """A table: its columns, and as many places in every row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Place]]


def show(sheet: Sheet, console: Console) -> None:
    """Print it: fitted to a terminal, whole elsewhere."""
    text = fitted(sheet, console.width) if console.is_terminal else plain(sheet)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def plain(sheet: Sheet) -> str:
    """As lines of text of whatever width."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in _lines(_filled(sheet)))


def fitted(sheet: Sheet, width: int, *, crop: bool = False) -> Text:
    """For a terminal of so many characters; `crop` cuts what is longer still, else the terminal folds it."""
    text = Text(no_wrap=crop, overflow="ellipsis")
    for number, line in enumerate(_lines(_narrowed(_filled(sheet), width))):
        here = Text.assemble(*((words, style or ("bold" if number == 0 else "")) for words, style in line))
        here.rstrip()
        if crop:
            here.truncate(width, overflow="ellipsis")
        text.append_text(here if not number else Text("\n").append_text(here))
    return text


def _lines(sheet: Sheet) -> Iterator[list[tuple[str, str]]]:
    """The head and every row as aligned pieces with their styles."""
    widths = _widths(sheet)
    last = len(widths) - 1
    for row in ([column.title for column in sheet.columns], *sheet.rows):
        line = []
        for number, (place, column, width) in enumerate(zip(row, sheet.columns, widths, strict=True)):
            text, style = (place, "") if isinstance(place, str) else place
            space = " " * (width - _len(text))
            if style and column.right:
                line += [(space, ""), (text, style), (GAP, "")]
            elif style:
                line += [(text, style), (space + GAP, "")]
            else:
                aligned = space + text if column.right else text if number == last else text + space
                line.append((aligned + GAP, ""))
        yield line


def _widths(sheet: Sheet) -> list[int]:
    columns = zip(*([column.title for column in sheet.columns], *sheet.rows), strict=True)
    return [max(_len(place if isinstance(place, str) else place[0]) for place in places) for places in columns]


def _len(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _filled(sheet: Sheet) -> Sheet:
    """Without optional columns that are empty."""
    full = [not column.optional or any(row[n] for row in sheet.rows) for n, column in enumerate(sheet.columns)]
    return _kept(sheet, [number for number, keep in enumerate(full) if keep])


def _narrowed(sheet: Sheet, width: int) -> Sheet:
    """Without the columns of least worth, until the others fit."""
    widths = _widths(sheet)
    widths[-1] = min(widths[-1], LAST_WIDTH)
    kept = list(range(len(widths)))
    while sum(widths[number] + len(GAP) for number in kept) - len(GAP) > width:
        least = min(reversed(kept), key=lambda number: sheet.columns[number].worth)
        if sheet.columns[least].worth == 9:
            break
        kept.remove(least)
    return _kept(sheet, kept)


def _kept(sheet: Sheet, numbers: Sequence[int]) -> Sheet:
    if len(numbers) == len(sheet.columns):
        return sheet
    return Sheet([sheet.columns[n] for n in numbers], [[row[n] for n in numbers] for row in sheet.rows])
