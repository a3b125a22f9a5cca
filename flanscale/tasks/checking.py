"""Is every record of some tasks as it should be? All that is wrong is said at once, by file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flanscale.errors import DataError
from flanscale.tasks.task import Collection


def faults(collection: Collection, names: Iterable[str]) -> Iterator[str]:
    """What is wrong with tasks: one line for each kind of fault of a task, with the place of its first.

    Args:
        collection: opened so that bad records may be left out; its `skips` are used up.
    """
    for name in names:
        collection.skips.forget()
        try:
            task = collection.task(name)
        except DataError as error:
            yield from collection.skips.lines() or [str(error)]
            continue
        yield from collection.skips.lines()
        if not task.examples:
            yield f"task {name} has no examples"
    collection.skips.forget()
