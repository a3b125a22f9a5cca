"""Which data does a cell need? Found and fingerprinted when a study is planned, so that no queued cell can miss it.

A plan asks for the same data cell after cell: it is opened once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path

from flanscale.errors import DataError
from flanscale.schema import CollectionConfig, DataConfig, EvaluationConfig, MixtureConfig, PathsConfig, RunConfig
from flanscale.tasks.checking import faults
from flanscale.tasks.digests import kept_in
from flanscale.tasks.registry import (
    HELD_OUT,
    asks_held_out,
    asks_itself,
    open_benchmarks,
    open_evaluation,
    open_training,
    open_wordings,
)
from flanscale.tasks.selection import select_tasks
from flanscale.tasks.task import Collection


def settle_data(config: RunConfig) -> None:
    """Make `data.*` absolute, and fingerprint the wordings, the benchmarks that are kept out, and the tasks.

    Raises:
        DataError: a folder, a task or a benchmark that the cell needs is not there.
    """
    with kept_in(Path(config.paths.cache).expanduser()):
        _settle(config)


def _settle(config: RunConfig) -> None:
    for field in fields(DataConfig):
        if (path := getattr(config.data, field.name)) is not None:
            setattr(config.data, field.name, str(Path(path).expanduser().resolve()))
    evaluation = config.evaluation
    asks = [evaluation.collection, asks_held_out(evaluation)]
    key = json.dumps([vars(config.collection), vars(config.data), config.mixture.skip_bad, config.paths.cache, asks])
    collection, asked = _collections(key)
    names = _names(key, json.dumps(vars(config.mixture)), config.cot)
    if asks_held_out(evaluation) and not asked.held_out:
        raise DataError(f"{asked.name} has no held-out task with data here, so nothing could be evaluated")
    data = json.dumps(vars(config.data))
    config.fingerprints["wordings"] = _wordings(config.mixture.templates, data)
    if config.mixture.contamination != "off":
        config.fingerprints["benchmarks"] = _benchmarks(data, config.mixture.contamination_words)
    if not config.mixture.skip_bad:
        for of_asked, some in ((False, (*names, *collection.held_out)), (True, asked.held_out)):
            _check_own(key, some, of_asked)
    if config.collection.name != "procedural":
        config.fingerprints["tasks"] = _fingerprint(key, names)


@cache
def _collections(key: str) -> tuple[Collection, Collection]:
    """What is learned from, and what asks."""
    collection, data, skip_bad, cache, (other, asks) = json.loads(key)
    config = RunConfig(
        collection=CollectionConfig(**collection),
        mixture=MixtureConfig(count=0, skip_bad=skip_bad),
        evaluation=EvaluationConfig(collection=other, asks=[HELD_OUT] if asks else []),
        data=DataConfig(**data),
        paths=PathsConfig(cache=cache),
    )
    training = open_training(config)
    return training, training if asks_itself(config) or not asks else open_evaluation(config)


def _check_own(key: str, names: Sequence[str], asked: bool) -> None:
    """Raise `DataError` where a record of the user's own tasks is wrong: others are published and stay as they are."""
    if _collections(key)[asked].name == "jsonl" and (
        wrong := [line for name in names for line in _faults(key, name, asked)]
    ):
        more = f" (and {len(wrong) - 1} more: flanscale tasks check lists them)" if len(wrong) > 1 else ""
        raise DataError(f"{wrong[0]}{more}; mixture.skip_bad=true leaves bad records out and counts them")


@cache
def _faults(key: str, name: str, asked: bool) -> list[str]:
    collection, data, _, *others = json.loads(key)
    return list(faults(_collections(json.dumps([collection, data, True, *others]))[asked], [name]))


@cache
def _names(key: str, mixture: str, cot: bool) -> tuple[str, ...]:
    return tuple(select_tasks(_collections(key)[0], MixtureConfig(**json.loads(mixture)), cot=cot))


@cache
def _fingerprint(key: str, names: tuple[str, ...]) -> str:
    """Sixteen hexadecimal characters over the content of tasks that are learned, in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{_task_fingerprint(key, name)}\n".encode())
    return digest.hexdigest()[:16]


@cache
def _task_fingerprint(key: str, name: str) -> str:
    return _collections(key)[0].fingerprint(name)


@cache
def _wordings(templates: str, data: str) -> str:
    return open_wordings(templates, DataConfig(**json.loads(data))).fingerprint


@cache
def _benchmarks(data: str, words: int) -> str:
    from flanscale.tasks import guard  # brings NumPy, which other plans do without

    return guard.fingerprint(open_benchmarks(DataConfig(**json.loads(data))), words)
