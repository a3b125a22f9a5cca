"""How much could the best model score with this vocabulary? The share of items whose answer it can write at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flanscale.evaluation.item import Item

LOW = 50.0


@dataclass(frozen=True)
class Ceiling:
    """Shares in percent."""

    share: float
    """The mean over subtasks; NaN where no item has a reference."""
    by_subtask: Mapping[str, float]

    @property
    def warning(self) -> str | None:
        """A sentence where most answers of a subtask cannot be written."""
        low = [f"{name} {share:.1f} %" for name, share in self.by_subtask.items() if share < LOW]
        return (
            f"this vocabulary can write less than {LOW:.0f} % of the right answers of {', '.join(low)}" if low else None
        )


def ceiling(
    items: Iterable[Item], survives: Callable[[str], str], metric: Callable[[str, Sequence[str]], float]
) -> Ceiling:
    """The share of items with a reference that is still fully right after it was encoded and decoded.

    Args:
        survives: what is left of a text when it was encoded and decoded.
        metric: one of `metrics.METRICS`, which says what counts as equal.
    """
    rights: dict[str, list[bool]] = {}
    for item in items:
        if item.references:
            right = any(metric(survives(reference), item.references) == 100.0 for reference in item.references)
            rights.setdefault(item.subtask, []).append(right)
    shares = {name: 100.0 * sum(right) / len(right) for name, right in rights.items()}
    return Ceiling(sum(shares.values()) / len(shares) if shares else float("nan"), shares)
