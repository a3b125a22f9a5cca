"""Which data does a cell need? Found and fingerprinted when a study is planned, so that no queued cell can miss it.

A plan asks for the same data cell after cell: it is opened once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

from flanscale.errors import DataError
from flanscale.schema import CollectionConfig, DataConfig, MixtureConfig, RunConfig
from flanscale.tasks.registry import open_benchmarks, open_collection, open_wordings
from flanscale.tasks.selection import select_tasks
from flanscale.tasks.task import Collection


def settle_data(config: RunConfig) -> None:
    """Make `data.*` absolute, and fingerprint the wordings, the benchmarks that are kept out, and the tasks.

    Raises:
        DataError: a folder, a task or a benchmark that the cell needs is not there.
    """
    for field in fields(DataConfig):
        if (path := getattr(config.data, field.name)) is not None:
            setattr(config.data, field.name, str(Path(path).expanduser().resolve()))
    key = json.dumps([asdict(config.collection), asdict(config.data), config.mixture.skip_bad, config.paths.cache])
    collection = _collection(key)
    names = _names(key, json.dumps(asdict(config.mixture)), config.cot)
    if config.evaluation.settings and not collection.held_out:
        raise DataError(f"{collection.name} has no held-out task with data here, so nothing could be evaluated")
    data = json.dumps(asdict(config.data))
    config.fingerprints["wordings"] = _wordings(config.mixture.templates, data)
    if config.mixture.contamination != "off":
        config.fingerprints["benchmarks"] = _benchmarks(data, config.mixture.contamination_words)
    if config.collection.name != "procedural":
        config.fingerprints["tasks"] = _fingerprint(key, (*names, *collection.held_out))


@cache
def _collection(key: str) -> Collection:
    collection, data, skip_bad, cache = json.loads(key)
    return open_collection(CollectionConfig(**collection), DataConfig(**data), skip_bad=skip_bad, cache=cache)


@cache
def _names(key: str, mixture: str, cot: bool) -> tuple[str, ...]:
    return tuple(select_tasks(_collection(key), MixtureConfig(**json.loads(mixture)), cot=cot))


@cache
def _fingerprint(key: str, names: tuple[str, ...]) -> str:
    """Sixteen hexadecimal characters over the content of tasks, in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{_task_fingerprint(key, name)}\n".encode())
    return digest.hexdigest()[:16]


@cache
def _task_fingerprint(key: str, name: str) -> str:
    return _collection(key).fingerprint(name)


@cache
def _wordings(templates: str, data: str) -> str:
    return open_wordings(templates, DataConfig(**json.loads(data))).fingerprint


@cache
def _benchmarks(data: str, words: int) -> str:
    from flanscale.tasks import guard  # brings NumPy, which other plans do without

    return guard.fingerprint(open_benchmarks(DataConfig(**json.loads(data))), words)
