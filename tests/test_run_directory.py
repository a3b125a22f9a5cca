"""The files of a run directory: read as they were written, and when damaged told in one sentence."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import ConfigError
from flanscale.run_directory import (
    Attempt,
    Code,
    RunState,
    among_runs,
    best_step,
    checkpoint_steps,
    chosen_step,
    evaluations,
    find_run,
    name_among_runs,
    read_attempts,
    read_config,
    read_contamination,
    read_each,
    read_mixture,
    read_records,
    read_result,
    read_rows,
    read_state,
    recorded,
    runs_of,
    write_atomically,
    write_attempts,
    write_contamination,
    write_mixture,
    write_state,
)
from flanscale.run_directory.evaluations import append_records, close_records, write_result

CONFIG = "model: {name: nano}\ntrainer: {select: SELECT}\n"
ATTEMPT = Attempt(1, 2.5, "0.1.0", "3.12.1", "n1", "Linux", ["cell"], code=Code("c0ffee", dirty=True), cpus=4)


def checkpoint(run_dir: Path, step: int, best: int | None) -> None:
    """As Orbax lays it out, as far as it is read here."""
    (run_dir / "checkpoints" / str(step) / "progress").mkdir(parents=True)
    text = json.dumps({"progress": {"best": {"step": best, "loss": 1.0}}})
    (run_dir / "checkpoints" / str(step) / "progress" / "metadata").write_text(text)


SUITE = Path("evaluations", "flan-0")
LINE = "mmlu/letters-5shot"


def read_line(run_dir: Path) -> Any:
    return read_records(run_dir / SUITE, LINE)


def read_suite(run_dir: Path) -> Any:
    return read_result(run_dir / SUITE)


def test_everything_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_attempts(tmp_path, [ATTEMPT, ATTEMPT])
    assert read_attempts(tmp_path) == [ATTEMPT, ATTEMPT]
    write_mixture(tmp_path, "ab12", [{"task": "ä", "weight": 1.0}])
    assert read_mixture(tmp_path) == {"fingerprint": "ab12", "tasks": [{"task": "ä", "weight": 1.0}]}
    write_contamination(tmp_path, [{"benchmark": "mmlu", "item": "test/ä/1"}])
    assert read_contamination(tmp_path) == [{"benchmark": "mmlu", "item": "test/ä/1"}]
    rows = [{"key": "1", "text": "ü", "score": 0.5}, {"key": "2", "text": "", "score": 1.0}]
    close_records(tmp_path / SUITE, LINE, rows)
    assert read_line(tmp_path) == (rows, True)
    assert evaluations(tmp_path) == [tmp_path / SUITE]
    first = recorded(tmp_path / SUITE)[LINE].read_bytes()
    close_records(tmp_path / SUITE, LINE, rows)
    assert recorded(tmp_path / SUITE)[LINE].read_bytes() == first
    write_result(tmp_path / SUITE, {"suite": "flän", "lines": []})
    assert read_suite(tmp_path) == {"suite": "flän", "lines": []}
    assert not list(tmp_path.rglob(".*")), "nothing half-written stays"


def test_records_grow_by_batches_and_what_a_kill_left_half_done_is_written_again(tmp_path: Path) -> None:
    append_records(tmp_path / SUITE, LINE, [{"key": "1", "text": "a\u2028b"}, {"key": "2"}])
    growing = tmp_path / SUITE / "mmlu.letters-5shot.jsonl"
    for torn in ("", '{"key": "3", "te', '{"key": "3"}'):  # the last without the end of its line
        growing.write_bytes(growing.read_bytes() + torn.encode())
        assert read_line(tmp_path) == ([{"key": "1", "text": "a\u2028b"}, {"key": "2"}], False)
    assert recorded(tmp_path / SUITE) == {}, "a line that is not over"
    append_records(tmp_path / SUITE, LINE, [{"key": "3"}])
    assert [row["key"] for row in read_line(tmp_path)[0]] == ["1", "2", "3"]
    close_records(tmp_path / SUITE, LINE, [{"key": "2"}, {"key": "1"}, {"key": "3"}])
    assert read_line(tmp_path) == ([{"key": "2"}, {"key": "1"}, {"key": "3"}], True)
    assert [path.name for path in (tmp_path / SUITE).iterdir()] == ["mmlu.letters-5shot.jsonl.gz"]


def test_an_evaluation_has_a_name_of_its_own_among_the_runs_and_is_found_by_it(tmp_path: Path) -> None:
    folders = [tmp_path / run / suite for run in ("aa-qwen2.5-s0", "bb-nano-s0") for suite in ("", SUITE)]
    names = [name_among_runs(folder) for folder in folders]
    assert names[::2] == ["aa-qwen2.5-s0", "bb-nano-s0"]
    assert len(set(names)) == 4
    assert all("/" not in name for name in names)
    assert [among_runs(tmp_path, name) for name in names] == folders
    assert {runs_of(folder) for folder in folders} == {tmp_path}


def test_what_has_not_been_written_yet_is_nothing_and_no_error(tmp_path: Path) -> None:
    assert (read_state(tmp_path), read_attempts(tmp_path), read_rows(tmp_path)) == (RunState(), [], [])
    assert (read_mixture(tmp_path), read_contamination(tmp_path), evaluations(tmp_path)) == (None, [], [])
    assert (read_line(tmp_path), recorded(tmp_path / SUITE), read_suite(tmp_path)) == (([], False), {}, None)
    assert (checkpoint_steps(tmp_path), best_step(tmp_path), chosen_step(tmp_path)) == ([], None, None)


@pytest.mark.parametrize(
    ("read", "name", "content"),
    [
        (read_config, "config.yaml", b"model: ["),
        (read_config, "config.yaml", b"- a list"),
        (read_config, "config.yaml", b"model: {}\n"),
        (read_state, "state.json", b"{}"),
        (read_state, "state.json", b"[]"),
        (read_state, "state.json", b"\xff"),
        (read_attempts, "provenance.json", b'{"format": 2, "attem'),
        (read_attempts, "provenance.json", b'{"format": 2, "attempts": [{}]}'),
        (read_attempts, "provenance.json", b'{"format": 1, "attempts": []}'),
        (read_rows, "metrics.jsonl", b"[1]\n"),
        (read_rows, "metrics.jsonl", b'{"step": "one"}\n'),
        (read_mixture, "mixture.json", b'{"fingerprint": "a"}'),
        (read_contamination, "contamination.json", b'[{"benchmark": "mm'),
        (read_line, f"{SUITE}/mmlu.letters-5shot.jsonl.gz", b"no gzip"),
        (read_line, f"{SUITE}/mmlu.letters-5shot.jsonl.gz", gzip.compress(b'{"key": "1"}\n' * 99, mtime=0)[:-9]),
        (read_line, f"{SUITE}/mmlu.letters-5shot.jsonl.gz", gzip.compress(b"{\n", mtime=0)),
        (read_line, f"{SUITE}/mmlu.letters-5shot.jsonl", b"{\n"),
        (read_suite, f"{SUITE}/result.json", b'{"suite": '),
        (best_step, "checkpoints/5/progress/metadata", b"{torn"),
    ],
)
def test_a_damaged_file_is_one_sentence_that_names_it(
    tmp_path: Path, read: Callable[[Path], Any], name: str, content: bytes
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert name in str(caught.value)
    assert "cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("select", "best", "chosen"), [("last", 10, 20), ("best", 10, 10), ("best", 7, 20), ("best", None, 20)]
)
def test_a_run_stands_for_its_last_checkpoint_or_its_best_one_if_that_is_kept(
    tmp_path: Path, select: str, best: int | None, chosen: int
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.replace("SELECT", select))
    for step in (10, 20):
        checkpoint(tmp_path, step, best)
    (tmp_path / "checkpoints" / "damaged").mkdir()
    assert checkpoint_steps(tmp_path) == [10, 20]
    assert chosen_step(tmp_path) == chosen


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path, RunState("running", 1))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "state.json", "new")
    assert read_state(tmp_path).state == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_run_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    for name in ("aa11-task-s1", "aa22-task-s10", "bb33-other-s1", ".code"):
        (tmp_path / name).mkdir()
    elsewhere = {"cc44-planned-s1": tmp_path / "far" / "cc44-planned-s1"}
    names = {"aa11": "aa11-task-s1", "task-s1": "aa11-task-s1", "bb": "bb33-other-s1", "ther": "bb33-other-s1"}
    for name, found in names.items():
        assert find_run(name, tmp_path) == tmp_path / found
    assert find_run("cc44", tmp_path, elsewhere) == elsewhere["cc44-planned-s1"]
    with pytest.raises(ConfigError, match=r"task: 2 runs are called so: aa11-task-s1, aa22-task-s10$"):
        find_run("task", tmp_path)
    with pytest.raises(ConfigError, match=r"othr-s1: no such run among the 3 of .*; did you mean bb33-other-s1"):
        find_run("othr-s1", tmp_path)
    with pytest.raises(ConfigError, match=r"far/aa11: no such run directory$"):
        find_run("far/aa11", tmp_path)
    with pytest.raises(ConfigError, match=r"~nosuchuser: no such run among the 3"):
        find_run("~nosuchuser", tmp_path)


@pytest.mark.parametrize("number", [0, 1, 32, 33, 100])
def test_many_that_are_waited_for_are_read_at_once_and_come_in_their_order(number: int) -> None:
    waiting, most = [], []

    def read(item: int) -> int:
        waiting.append(item)
        most.append(len(waiting))
        time.sleep(0.002)
        waiting.remove(item)
        return item * item

    assert read_each(read, range(number)) == [item * item for item in range(number)]
    assert max(most, default=0) > 4 or number <= 33


def test_what_is_there_at_once_is_read_one_after_the_other() -> None:
    threads = set(read_each(lambda _: threading.get_ident(), range(1000)))
    assert threads == {threading.get_ident()}


def test_what_reading_one_of_many_raises_is_raised() -> None:
    with pytest.raises(ConfigError, match="the 70th"):
        read_each(lambda item: fail("the 70th") if item == 70 else item, range(100))


def fail(why: str) -> None:
    raise ConfigError(why)
