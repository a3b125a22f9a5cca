"""Preparing a mixture: what is missing is made, once, and one task's trouble is its own."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from flanscale.errors import DataError, VocabularyError
from flanscale.pipeline import prepare as module
from flanscale.pipeline.prepare import TaskTexts, prepare
from flanscale.pipeline.store import Store, StoreError, entry_key
from flanscale.pipeline.tokenizers import Bytes
from flanscale.schema import TokenizerConfig

NAMES = [f"task{i}" for i in range(12)]
BYTES = TokenizerConfig("bytes")


def make(name: str, seconds: float = 0.0, marks: Path | None = None, **trouble: str) -> TaskTexts:
    """Texts that follow from the name; a mark in a file for every call; trouble on request."""
    if marks:
        with (marks / name).open("a") as file:
            file.write(".")
    time.sleep(seconds)
    match trouble.get(name):
        case "data":
            raise DataError(f"{name}.json:7: no output")
        case "bug":
            raise KeyError("instances")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "short":
            return TaskTexts(["a"], ["b"], examples=2, renderings=1)
    inputs = [f"{name} {i} {r}" for i in range(20) for r in range(2)]
    return TaskTexts(inputs, [text[::-1] for text in inputs], examples=20, renderings=2, dropped={"benchmark": 3})


def key_of(name: str) -> str:
    return entry_key(task=name)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob("??/*.tokens")}


@pytest.mark.parametrize("workers", [1, 2])
def test_only_what_is_missing_is_made_and_progress_is_told(tmp_path: Path, workers: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    store, told = Store(tmp_path / "store"), []
    marking = functools.partial(make, marks=marks)
    first = prepare(NAMES[:5], marking, key_of, store, BYTES, workers=workers)
    again = prepare(NAMES, marking, key_of, store, BYTES, workers=workers, on_progress=lambda *now: told.append(now))
    assert (first.made, again.made, prepare(NAMES, marking, key_of, store, BYTES).made) == (5, 7, 0)
    assert [path.read_text() for path in marks.iterdir()] == ["."] * len(NAMES)
    assert [(done, total) for done, total, _ in told] == [(done, 7) for done in range(1, 8)]
    assert {name for *_, name in told} == set(NAMES[5:])
    assert list(again.entries) == NAMES
    characters = sum(len(f"task3 {i} {r}") for i in range(20) for r in range(2))
    assert dict(again.check().entries["task3"].facts) == {
        "task": "task3",
        "examples": 20,
        "renderings": 2,
        "input_tokens": characters,
        "target_tokens": characters,
        "unspelt": 0,
        "dropped": {"benchmark": 3},
    }


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    for workers in (1, 3):
        prepare(NAMES, make, key_of, Store(tmp_path / str(workers)), BYTES, workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "3")
    assert len(files(tmp_path / "1")) == len(NAMES)


def test_the_source_gives_the_texts_that_were_made(tmp_path: Path) -> None:
    source = prepare(NAMES, make, key_of, Store(tmp_path), BYTES, workers=1).source(["task7", "task2"])
    inputs, targets = source.tokens(np.array([0, 1]), np.array([4, 19]), np.array([2, 9], np.uint64))
    assert [Bytes().decode(piece) for piece in (*inputs, *targets)] == [
        "task7 4 0", "task2 19 1", "0 4 7ksat", "1 91 2ksat",
    ]  # fmt: skip


def test_what_is_found_damaged_during_training_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    prepare(NAMES, make, key_of, store, BYTES, workers=1)
    sound = files(tmp_path)
    path = store.path(key_of("task4"))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    prepared = prepare(NAMES, make, key_of, store, BYTES, workers=1)
    assert prepared.made == 0
    prepared.source().tokens(np.array([4]), np.array([0]), np.array([0], np.uint64))
    assert files(tmp_path) == sound


@pytest.mark.parametrize("workers", [1, 2])
def test_failing_tasks_are_named_and_lose_none_of_the_others(tmp_path: Path, workers: int) -> None:
    trouble = {"task1": "data", "task4": "bug", "task8": "short"}
    prepared = prepare(NAMES, functools.partial(make, **trouble), key_of, Store(tmp_path), BYTES, workers=workers)
    assert list(prepared.entries) == [name for name in NAMES if name not in trouble]
    assert prepared.failures["task1"] == "task1.json:7: no output"
    assert prepared.failures["task4"].startswith("KeyError: 'instances' (")
    assert f"{Path(__file__).name}:" in prepared.failures["task4"]
    assert "not 2 examples in 1 renderings" in prepared.failures["task8"]
    with pytest.raises(DataError, match=r"^3 of 12 tasks could not be prepared: .*task1: task1.json:7: no output"):
        prepared.check()
    assert prepare(NAMES, make, key_of, Store(tmp_path), BYTES, workers=1).check().made == 3


def test_a_task_whose_data_is_not_there_fails_alone(tmp_path: Path) -> None:
    def missing(name: str) -> str:
        if name == "task3":
            raise DataError("no file task3.json")
        return key_of(name)

    prepared = prepare(NAMES, make, missing, Store(tmp_path), BYTES, workers=1)
    assert prepared.failures == {"task3": "no file task3.json"}
    assert len(prepared.entries) == len(NAMES) - 1


def test_a_killed_worker_costs_only_the_task_that_killed_it(tmp_path: Path) -> None:
    trouble = functools.partial(make, task5="kill")
    prepared = prepare(NAMES, trouble, key_of, Store(tmp_path), BYTES, workers=2)
    assert prepared.failures == {"task5": "its worker process was killed, perhaps for want of memory"}
    assert list(prepared.entries) == [name for name in NAMES if name != "task5"]


def test_workers_that_cannot_start_are_one_line(tmp_path: Path) -> None:
    every = functools.partial(make, **dict.fromkeys(NAMES, "kill"))
    with pytest.raises(DataError, match=r"^worker processes end before .*__main__"):
        prepare(NAMES[:2], every, key_of, Store(tmp_path), BYTES, workers=2)


def test_a_store_that_cannot_be_written_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "partial").write_text("a file where there should be a folder")
    for workers in (1, 2):
        with pytest.raises(StoreError, match=r"the tokenised store cannot be written .*(File exists|Not a directory)"):
            prepare(NAMES, make, key_of, Store(tmp_path), BYTES, workers=workers)


def test_a_tokenizer_that_cannot_be_loaded_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "no.model").write_text("nothing")
    for name in ("sentencepiece", "huggingface"):
        with pytest.raises(VocabularyError):
            prepare(NAMES, make, key_of, Store(tmp_path), TokenizerConfig(name, str(tmp_path / "no.model")), workers=2)


def test_what_progress_raises_ends_it_and_keeps_what_is_made(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_three(done: int, total: int, name: str) -> None:
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        prepare(NAMES, make, key_of, Store(tmp_path), BYTES, workers=1, on_progress=stop_at_three)
    assert prepare(NAMES, make, key_of, Store(tmp_path), BYTES, workers=1).made == len(NAMES) - 3


def test_a_known_manifest_spares_the_keys_and_mends_what_is_gone(tmp_path: Path) -> None:
    def no_key(name: str) -> str:
        raise AssertionError("asked for a key")

    store = Store(tmp_path)
    prepare(NAMES, make, key_of, store, BYTES, workers=1, manifest_key="mixture")
    assert store.manifest("mixture").facts["task3"]["examples"] == 20
    store.path(key_of("task3")).unlink()
    prepared = prepare(NAMES, make, no_key, store, BYTES, workers=1, manifest_key="mixture")
    assert prepared.made == 1
    assert list(prepared.entries) == NAMES


def test_a_mixture_with_failures_gets_no_manifest(tmp_path: Path) -> None:
    trouble = functools.partial(make, task1="data")
    prepare(NAMES, trouble, key_of, Store(tmp_path), BYTES, workers=1, manifest_key="mixture")
    assert Store(tmp_path).manifest("mixture") is None


def _prepare_all(root: Path, marks: Path) -> None:
    slow = functools.partial(make, seconds=0.05, marks=marks)
    prepared = prepare(NAMES, slow, key_of, Store(root), BYTES, workers=1)
    raise SystemExit(0 if list(prepared.entries) == NAMES else 1)


def test_jobs_that_prepare_the_same_mixture_share_the_work(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    context = multiprocessing.get_context("forkserver")
    jobs = [context.Process(target=_prepare_all, args=(tmp_path / "store", marks)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * 4
    made = sum(len(path.read_text()) for path in marks.iterdir())
    assert made < 3 * len(NAMES), "each job made nearly everything itself"
    assert Store(tmp_path / "store").verify([key_of(name) for name in NAMES]) == {}


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    parent = context.Process(target=_prepare_slowly, args=(tmp_path,))
    parent.start()
    while not (pids := list(tmp_path.glob("*.pid"))):
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGKILL)
    deadline = time.time() + 10
    alive = [int(path.stem) for path in pids]
    while alive and time.time() < deadline:
        time.sleep(0.05)
        alive = [pid for pid in alive if _runs(pid)]
    assert alive == []


def _prepare_slowly(root: Path) -> None:
    prepare(NAMES, functools.partial(_wait_with_pid, root), key_of, Store(root / "store"), BYTES, workers=2)


def _wait_with_pid(root: Path, name: str) -> TaskTexts:
    (root / f"{os.getpid()}.pid").touch()
    time.sleep(60)
    return make(name)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_cores_counted_are_those_that_may_be_used() -> None:
    assert module._cores() == len(os.sched_getaffinity(0))
