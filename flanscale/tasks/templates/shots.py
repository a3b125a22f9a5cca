"""Which worked examples come before the query? Never the query itself, nor one that gives its text away.

They come from `task.exemplars` or, where a task has none, from the task's own examples, which are the training ones:
who renders held-out or validation examples hands in a task whose `exemplars` are neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from flanscale.tasks.task import Example, Task
from flanscale.tasks.templates.form import WHICH_SHOTS, Form, draw

_PATIENCE = 64  # examples looked at in vain before fewer are shown


def choose_shots(task: Task, query: Example, form: Form, choice: int) -> list[Example]:
    """At most `form.shots` examples with different inputs; fewer where too few are left."""
    pool: Sequence[Example] = task.exemplars or task.examples
    order = range(len(pool)) if form.evaluation and task.exemplars else _visit(len(pool), choice)
    shots: list[Example] = []
    asked = _folded(query.input)
    seen = {asked}
    for tries, index in enumerate(order):
        if len(shots) == form.shots or tries == form.shots + _PATIENCE:
            break
        shot = pool[index]
        shown = _folded(shot.input)
        if shown not in seen and not _gives_away(asked, shot) and not _lacks_rationale(shot, query, form):
            seen.add(shown)
            shots.append(shot)
    return shots


@lru_cache(maxsize=1 << 12)
def _folded(text: str) -> str:
    """A text by which those that differ in case or white space alone are one."""
    return " ".join(text.casefold().split())


def _visit(size: int, choice: int) -> Iterator[int]:
    """Every index below `size` once, in an order that `choice` draws: a shuffle that keeps only what it has moved."""
    bits = draw(choice, WHICH_SHOTS)
    moved: dict[int, int] = {}
    for place in range(size):
        other = place + draw(bits, place) % (size - place)
        yield moved.get(other, other)
        moved[other] = moved.get(place, place)


def _gives_away(asked: str, shot: Example) -> bool:
    """Whether an exemplar holds the question; a number or Latin word inside a longer one is another."""
    texts = (shot.input, shot.target, shot.rationale or "")
    return bool(asked) and any(_holds(text, asked) for text in texts)


def _holds(text: str, asked: str) -> bool:
    if len(asked) > 3 * len(text):  # folding never makes a text longer than that
        return False
    text = _folded(text)
    return asked in text and re.search(f"(?<![0-9a-z]){re.escape(asked)}(?![0-9a-z])", text) is not None


def _lacks_rationale(shot: Example, query: Example, form: Form) -> bool:
    """A query answered with its rationale is shown exemplars that are, too."""
    return form.cot and query.rationale is not None and shot.rationale is None
