"""Records are kept batch by batch: a killed evaluation goes on, and leaves the same bytes as one that was not."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_model import FakeModel
from test_evaluation_asking import RANKED, WRITTEN, item, ranked

from flanscale.errors import ConfigError
from flanscale.evaluation.answering import Answered, answers
from flanscale.evaluation.item import Asked, Benchmark, Floor
from flanscale.evaluation.protocol import Sampling, Written
from flanscale.evaluation.suites import Suite, open_suite
from flanscale.run_directory.evaluations import (
    append_records,
    check_weights,
    close_records,
    evaluations,
    read_records,
    read_result,
    recorded,
    write_result,
)

FLOORS = {"a": Floor(0.0, 0.0)}


def benchmark(name: str) -> Benchmark:
    items = {"direct": tuple(map(item, range(10, 17))), "letters": tuple(map(ranked, range(5)))}
    return Benchmark(name, 1, (WRITTEN, RANKED), lambda setting, shots, split: Asked(items[setting], FLOORS))


def suite() -> Suite:
    asks = ["bench/direct-sc2", "bench/letters"]
    return open_suite("s", asks, benchmark, items=None, average=None, sampling=Sampling(0.7))


class Killed(Exception):
    pass


class Mortal(FakeModel):
    """Ends the process, as it were, when it has answered so many batches."""

    left = 1_000

    def generate(self, *given: object, **named: object) -> Iterator[dict[int, list[Written]]]:
        for batch in super().generate(*given, **named):  # type: ignore[arg-type]
            if self.left == 0:
                raise Killed
            self.left -= 1
            yield batch


def asked(folder: Path, model: FakeModel, reached: list[int] | None = None, writes: bool = True) -> list[Answered]:
    told = (lambda count: None) if reached is None else reached.append
    return answers(suite(), model, folder, writes=writes, seen={"bench": {"test/11"}}, reached=told)


def says(prompt: str, sample: int) -> str:
    return prompt[-3:-1] if sample == 0 else "é"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_line_is_asked_and_its_records_are_in_the_order_of_its_items(tmp_path: Path) -> None:
    reached: list[int] = []
    found = asked(tmp_path, FakeModel(says=says), reached)
    assert [one.line.name for one in found] == ["bench/direct-sc2", "bench/letters"]
    assert [record.key for record in found[0].records] == [f"test/{n}" for n in range(10, 17)]
    assert [record.flags for record in found[0].records][:2] == [(), ("contaminated",)]
    assert reached == [2, 4, 6, 7, 9, 11, 12]
    assert list(recorded(tmp_path)) == ["bench/direct-sc2", "bench/letters"]
    rows, whole = read_records(tmp_path, "bench/direct-sc2")
    assert whole
    assert [row["key"] for row in rows] == [record.key for record in found[0].records]


@pytest.mark.parametrize("batches", range(4))
@pytest.mark.parametrize("torn", [b"", b'{"key": "test/1'])
def test_after_a_kill_it_goes_on_and_leaves_the_same_bytes(tmp_path: Path, batches: int, torn: bytes) -> None:
    asked(tmp_path / "whole", FakeModel(says=says))
    mortal = Mortal(says=says)
    mortal.left = batches
    with pytest.raises(Killed):
        asked(tmp_path / "killed", mortal)
    if batches:
        with (tmp_path / "killed" / "bench.direct-sc2.jsonl").open("ab") as file:
            file.write(torn)
    rest = FakeModel(says=says)
    asked(tmp_path / "killed", rest)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len([prompt for prompt in rest.asked if prompt.startswith("Sum. <0>")]) == 7 - 2 * batches


def test_what_was_asked_to_the_end_is_not_asked_again(tmp_path: Path) -> None:
    first = asked(tmp_path, FakeModel(says=says))
    model = FakeModel(says=says)
    assert [one.records for one in asked(tmp_path, model)] == [one.records for one in first]
    assert model.asked == []


def test_of_several_processes_one_keeps_the_records(tmp_path: Path) -> None:
    asked(tmp_path / "none", FakeModel(says=says), writes=False)
    assert not (tmp_path / "none").exists()


def test_the_same_records_give_the_same_bytes_on_any_day(tmp_path: Path) -> None:
    rows = [{"key": "ä", "scores": {"exact": 100.0}}]
    for name in ("one", "other"):
        append_records(tmp_path / name, "b/s", rows)
        close_records(tmp_path / name, "b/s", rows)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert list(contents(tmp_path / "one")) == ["b.s.jsonl.gz"]


def test_damaged_records_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.s.jsonl").write_bytes(b'{"key": 1}\n[]\n')
    with pytest.raises(ConfigError, match=r"b\.s\.jsonl cannot be read"):
        read_records(tmp_path, "b/s")
    (tmp_path / "b.s.jsonl.gz").write_bytes(gzip.compress(b'{"key": 1}\n')[:-4])
    with pytest.raises(ConfigError, match=r"b\.s\.jsonl\.gz cannot be read"):
        read_records(tmp_path, "b/s")
    (tmp_path / "result.json").write_text('{"a"')
    with pytest.raises(ConfigError, match=r"result\.json cannot be read"):
        read_result(tmp_path)


def test_a_result_is_read_as_it_was_written_and_none_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path / "s-1") is None
    write_result(tmp_path / "evaluations" / "s-1", {"suite": "s", "lines": []})
    assert [path.name for path in evaluations(tmp_path)] == ["s-1"]
    assert read_result(evaluations(tmp_path)[0]) == {"suite": "s", "lines": []}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, {"score": float("nan")})


def test_answers_of_other_weights_are_not_gone_on_from(tmp_path: Path) -> None:
    check_weights(tmp_path, "abc", writes=True)
    check_weights(tmp_path, "abc", writes=True)
    with pytest.raises(ConfigError, match=r"holds answers of other weights \(abc, not def\): delete it"):
        check_weights(tmp_path, "def", writes=True)
    (tmp_path / "weights.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        check_weights(tmp_path, "abc", writes=True)


def test_a_full_disk_leaves_what_was_kept_readable(tmp_path: Path) -> None:
    """As far as a torn write: what is behind the last line break is dropped by the next one."""
    append_records(tmp_path, "b/s", [{"key": "1"}])
    path = tmp_path / "b.s.jsonl"
    with path.open("ab") as file:
        file.write(b'{"key": "2", "text": "')
    os.truncate(path, path.stat().st_size - 3)
    append_records(tmp_path, "b/s", [{"key": "3"}])
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [{"key": "1"}, {"key": "3"}]
