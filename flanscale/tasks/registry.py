"""Which collection does a cell learn from? The one place that knows them all."""

from __future__ import annotations

from pathlib import Path

from flanscale.schema import CollectionConfig, DataConfig
from flanscale.tasks.niv2 import Niv2
from flanscale.tasks.procedural import Procedural
from flanscale.tasks.task import Collection


def open_collection(config: CollectionConfig, data: DataConfig) -> Collection:
    """The collection that a configuration names; nothing is read before a task is asked for."""
    if config.name == "procedural":
        return Procedural(config.examples_per_task)
    if data.niv2 is None:
        raise ValueError("collection=niv2 without data.niv2")  # refused by flanscale.config before any cell exists
    return Niv2(Path(data.niv2), config.split, config.examples_per_task)
