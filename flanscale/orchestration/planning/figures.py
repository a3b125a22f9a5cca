"""How is a number or an axis said in words? The same in every table, line and report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def duration(seconds: float | None) -> str:
    """A time span in the two units that matter."""
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def some(names: Sequence[str], most: int) -> str:
    """So many of the names, and how many more there are."""
    return ", ".join([*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])])


def quantity(value: float) -> str:
    """A large number with three significant digits and its unit prefix."""
    for unit in ("", "k", "M", "G", "T", "P", "E", "Z", "Y"):
        if abs(value) < 999.5 or unit == "Y":
            break
        value /= 1000
    return f"{value:.3g}{' ' if unit else ''}{unit}"


def hours(value: float | None) -> str:
    """Device-hours with three significant digits."""
    return "?" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def in_bytes(number: float) -> str:
    """A size with three significant digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5 or unit == "TB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"


def axis_value(value: Any) -> str:
    """As it is typed in an override."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def axis_title(key: str) -> str:
    """A column's title: the last part of an axis's key."""
    return key.rsplit(".", 1)[-1]
