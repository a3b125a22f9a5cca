"""How does a mixture get into the tokenised store? What is missing is made by all cores, a task at a time.

Any number of jobs may prepare the same mixture at once: each goes through the missing tasks in an order of its own and
passes over those that another has made meanwhile, so that together they share the work without a word.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flanscale.errors import DataError
from flanscale.pipeline.entry import Entry
from flanscale.pipeline.source import Stored
from flanscale.pipeline.spelling import unspelt
from flanscale.pipeline.store import Manifest, Store, StoreError
from flanscale.pipeline.tokenizers import Tokenizer, load_tokenizer
from flanscale.schema import TokenizerConfig

TOLD = 3  # failed tasks that an error names; the log has all

_Outcome = tuple[bool, str | None]  # whether an entry was made here, and why not if it failed
_KILLED: _Outcome = False, "its worker process was killed, perhaps for want of memory"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskTexts:
    """All texts of one task: text e·renderings + r is rendering r of example e."""

    inputs: Sequence[str]
    targets: Sequence[str]
    examples: int
    renderings: int
    dropped: Mapping[str, int] = field(default_factory=dict)  # why → examples left out
    facts: Mapping[str, Any] = field(default_factory=dict)  # whatever else is worth keeping beside the tokens


@dataclass(frozen=True, eq=False)
class Prepared:
    """A mixture in the store: the entries of its tasks, and which could not be made and why."""

    entries: Mapping[str, Entry]
    failures: Mapping[str, str]
    made: int  # entries made by this call; the others were there, or came from another job
    rebuild: Callable[[str], Entry]

    def check(self) -> Prepared:
        """The same, if no task failed.

        Raises:
            DataError: one line with the number of failed tasks and the first of them.
        """
        if self.failures:
            told = "; ".join(f"{name}: {why}" for name, why in list(self.failures.items())[:TOLD])
            more = f"; and {len(self.failures) - TOLD} more, see the log" if len(self.failures) > TOLD else ""
            total = len(self.failures) + len(self.entries)
            raise DataError(f"{len(self.failures)} of {total} tasks could not be prepared: {told}{more}")
        return self

    def source(self, names: Sequence[str] | None = None) -> Stored:
        """The tokens of these tasks (all that there are), in this order; damage found later is made good."""
        names = list(self.entries) if names is None else list(names)
        return Stored([self.entries[name] for name in names], rebuild=lambda task: self.rebuild(names[task]))


def prepare(
    names: Sequence[str],
    make: Callable[[str], TaskTexts],
    key_of: Callable[[str], str],
    store: Store,
    tokenizer_config: TokenizerConfig,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    manifest_key: str | None = None,
) -> Prepared:
    """The entries of tasks; those that the store lacks are made first.

    Args:
        make: a task's texts; it is pickled, and called in other processes.
        key_of: the key of a task's entry (`entry_key`).
        workers: processes; all cores that this process may use where not given. One works in this process.
        on_progress: told (tasks done, tasks to be made, name) after each task that had to be made; what it raises ends
            the preparation, and what has been made stays.
        manifest_key: content address of the whole mixture. Where the store knows it, `key_of` is not called at all.

    Raises:
        StoreError: the store cannot be written.
        VocabularyError: the tokenizer cannot be loaded.
        DataError: worker processes cannot be started.
    """
    keys, failures = _keys(names, key_of, store, manifest_key)
    entries = dict(zip(keys, store.open_all(list(keys.values())), strict=True))
    missing = {name: keys[name] for name, entry in entries.items() if entry is None}
    workers = workers or _cores()
    maker = _EntryMaker(make, store, tokenizer_config, threads=workers)
    made = 0
    if missing:
        store.clear_abandoned()
        for done, (name, made_here, why) in enumerate(_make_all(maker, missing, workers), start=1):
            made += made_here
            if why is None:
                entries[name] = store.open(keys[name])
            if entries[name] is None:
                failures[name] = why or f"{store.path(keys[name])} vanished after it was written"
                log.error("task %s could not be prepared: %s", name, failures[name])
            if on_progress:
                on_progress(done, len(missing), name)
    ready = {name: entry for name in names if (entry := entries.get(name)) is not None}
    if manifest_key and not failures and (missing or store.manifest(manifest_key) is None):
        store.write_manifest(manifest_key, Manifest(keys, {name: entry.facts for name, entry in ready.items()}))

    def rebuild(name: str) -> Entry:
        maker.make_entry(name, keys[name])
        if (entry := store.open(keys[name])) is None:
            raise DataError(f"{store.path(keys[name])} vanished after it was written")
        return entry

    return Prepared(ready, failures, made, rebuild)


def _keys(
    names: Sequence[str], key_of: Callable[[str], str], store: Store, manifest_key: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Task → key, and task → why there is none."""
    manifest = store.manifest(manifest_key) if manifest_key else None
    if manifest and set(names) <= set(manifest.keys):
        return {name: manifest.keys[name] for name in names}, {}
    keys, failures = {}, {}
    for name in names:
        try:
            keys[name] = key_of(name)
        except DataError as error:
            failures[name] = str(error)
            log.error("task %s could not be prepared: %s", name, error)
    return keys, failures


# --- making entries --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _EntryMaker:
    """What it takes to make an entry, in this process or in another."""

    make: Callable[[str], TaskTexts]
    store: Store
    tokenizer_config: TokenizerConfig
    threads: int

    def __getstate__(self) -> dict[str, Any]:
        return {
            "make": self.make,
            "store": self.store,
            "tokenizer_config": self.tokenizer_config,
            "threads": 1,
        }  # of each of many processes

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.tokenizer_config, threads=self.threads)

    def make_entry(self, name: str, key: str) -> None:
        texts = self.make(name)
        if not len(texts.inputs) == len(texts.targets) == texts.examples * texts.renderings:
            raise ValueError(
                f"{len(texts.inputs)} inputs and {len(texts.targets)} targets are not"
                f" {texts.examples} examples in {texts.renderings} renderings"
            )
        inputs, targets = self.tokenizer.encode(texts.inputs), self.tokenizer.encode(texts.targets)
        facts = {
            **texts.facts,
            "task": name,
            "examples": texts.examples,
            "renderings": texts.renderings,
            "input_tokens": int(inputs.lengths.sum()),
            "target_tokens": int(targets.lengths.sum()),
            "unspelt": unspelt(targets, self.tokenizer.unknown_id),
            "dropped": dict(texts.dropped),
        }
        self.store.write(key, inputs, targets, facts)

    def try_entry(self, name: str, key: str) -> _Outcome:
        """(made here, why it failed); another job's entry is left as it is.

        Raises:
            StoreError: the store cannot be written, which no other task would fare better with.
        """
        if self.store.open(key) is not None:
            return False, None
        try:
            self.make_entry(name, key)
        except StoreError:
            raise
        except DataError as error:
            return False, str(error)
        except Exception as error:  # a fault of the code: told with its place, and the other tasks go on
            place = traceback.extract_tb(error.__traceback__)[-1]
            return False, f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        return True, None


def _make_all(maker: _EntryMaker, missing: Mapping[str, str], workers: int) -> Iterator[tuple[str, bool, str | None]]:
    """(task, made here, why it failed) as the tasks are done, in no order."""
    order = list(missing.items())
    random.Random().shuffle(order)  # unlike every other job's
    workers = min(workers, len(order))
    if workers == 1:
        yield from ((name, *maker.try_entry(name, key)) for name, key in order)
        return
    _ = maker.tokenizer  # fails here rather than once a task
    started = False  # whether workers have ever done anything
    while order:
        running: dict[Future[_Outcome], tuple[str, str]] = {}
        try:
            with _pool(maker, workers) as pool:
                while order or running:
                    while order and len(running) <= workers:
                        running[pool.submit(_in_worker, *order[-1])] = order[-1]
                        order.pop()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = future.result()
                        started = True
                        yield running.pop(future)[0], *outcome
        except BrokenProcessPool:  # one of these took its worker down, and the pool with it
            alone = {name: _alone(maker, name, key) for name, key in running.values()}
            started |= any(outcome != _KILLED for outcome in alone.values())
            if not started:
                raise DataError(
                    "worker processes end before they have done anything; the program that prepares a mixture needs"
                    ' `if __name__ == "__main__":` round its main part, and memory for its workers'
                ) from None
            yield from ((name, *outcome) for name, outcome in alone.items())


def _alone(maker: _EntryMaker, name: str, key: str) -> _Outcome:
    """Make one entry in a worker process of its own."""
    try:
        with _pool(maker, 1) as pool:
            return pool.submit(_in_worker, name, key).result()
    except BrokenProcessPool:
        return _KILLED


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_maker: _EntryMaker  # of a worker process


def _pool(maker: _EntryMaker, workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: this process may run JAX's threads, which do not survive a fork.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (maker,))


def _start_worker(maker: _EntryMaker) -> None:
    global _maker
    _maker = maker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_worker(name: str, key: str) -> _Outcome:
    return _maker.try_entry(name, key)
