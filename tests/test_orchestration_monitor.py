"""Watching reads run directories and nothing else, whatever state they are in."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from little_study import Workplace, open_workplace

from flanscale.orchestration.planning.figures import duration, quantity
from flanscale.orchestration.planning.ledger import Ledger, ledger_of
from flanscale.orchestration.planning.plan import Point
from flanscale.orchestration.running import liveness
from flanscale.orchestration.running.liveness import this_process
from flanscale.orchestration.running.progress import Progress
from flanscale.orchestration.watching import monitor
from flanscale.orchestration.watching.forecast import Work, makespan, remaining
from flanscale.orchestration.watching.monitor import Observer
from flanscale.orchestration.watching.status_json import as_json
from flanscale.orchestration.watching.tables import axis_values
from flanscale.run_directory import Failure, RunState, write_state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def study_in_every_state(place: Workplace) -> Ledger:
    """Four cells: one finished after 10 s, one running at step 5 of 20 by this process, one failed, one not begun."""
    ledger = ledger_of(place.plan())
    me = this_process()
    begun = RunState().running(host=me.host, pid=me.pid, process_started=me.started)
    failed = begun.failed(Failure("data", "task0001: no instances", "Traceback", 3, me.host))
    finished = RunState(state="finished", attempt=2, seconds=10.0)
    for entry, state in zip(ledger.entries, (finished, begun, failed), strict=False):
        ledger.directory(entry).mkdir(parents=True)
        write_state(ledger.directory(entry), state)
    rows = [
        [{"step": 20, "train/loss": 0.1}, {"step": 20, "eval/normalized_average": 61.5}],
        [{"step": 5, "train/loss": 2.5, "train/tokens_per_second": 1000.0}],
    ]
    for entry, lines in zip(ledger.entries, rows, strict=False):
        text = "".join(json.dumps(row) + "\n" for row in lines)
        (ledger.directory(entry) / "metrics.jsonl").write_text(text)
    return ledger


def log(ledger: Ledger, number: int, row: dict[str, Any]) -> None:
    """Append a row to the metrics of one of the cells."""
    with (ledger.directory(ledger.entries[number]) / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_the_status_tells_state_progress_score_and_failure_of_every_cell(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    study = Observer(ledger).look()
    cells = as_json(study, study.cells, None)["cells"]
    assert [cell["status"] for cell in cells] == ["finished", "running", "failed", "planned"]
    assert [cell["step"] for cell in cells] == [20, 5, None, None]
    assert [cell["steps"] for cell in cells] == [20, 20, 20, 20]
    assert (cells[0]["score"], cells[0]["attempt"], cells[0]["seconds"]) == (61.5, 2, 10.0)
    assert (cells[1]["loss"], cells[1]["tokens_per_second"]) == (2.5, 1000.0)
    assert (cells[2]["failure"]["class"], cells[2]["failure"]["step"]) == ("data", 3)
    assert cells[3]["points"] == [{"mixture.count": 89, "seed": 1}]


def test_the_time_left_comes_from_the_finished_cells(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    study = Observer(ledger).look()
    assert study.seconds_left() == pytest.approx(20, abs=2)  # of 10 s each: one running, one not begun; one is lost
    write_state(ledger.directory(ledger.entries[0]), RunState())
    assert Observer(ledger).look().seconds_left() is None


def test_a_study_is_settled_when_nobody_is_at_work_on_it(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    assert not Observer(ledger).look().settled
    dead = RunState(state="running", attempt=1, host=this_process().host, pid=2**22 + 1, process_started=1.0)
    write_state(ledger.directory(ledger.entries[1]), dead)
    study = Observer(ledger).look()
    assert study.settled
    assert [cell.status for cell in study.lost] == ["interrupted", "failed"]


def test_a_finished_cell_is_not_read_again(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    observer = Observer(ledger)
    observer.look()
    (ledger.directory(ledger.entries[0]) / "metrics.jsonl").unlink()
    assert observer.look().cells[0].progress.score == 61.5


def test_what_has_not_changed_is_not_read_twice(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = study_in_every_state(place)
    observer = Observer(ledger)
    observer.look()
    read = []
    monkeypatch.setattr(monitor, "read_progress", lambda run: read.append(run.name) or Progress(step=6))
    monkeypatch.setattr(liveness, "read_state", lambda run: read.append(run.name))
    observer.look()
    assert read == []
    log(ledger, 1, {"step": 6, "train/loss": 2.0})
    assert observer.look().cells[1].progress.step == 6
    assert read == [ledger.entries[1].run]


def test_a_run_that_is_taken_up_again_is_seen_at_the_next_look(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    observer, me = Observer(ledger), this_process()
    assert observer.look().cells[2].status == "failed"
    state = observer.look().cells[2].view.state
    write_state(
        ledger.directory(ledger.entries[2]), state.running(host=me.host, pid=me.pid, process_started=me.started)
    )
    ledger.directory(ledger.entries[3]).mkdir()
    write_state(ledger.directory(ledger.entries[3]), RunState(state="finished", attempt=1, seconds=1.0))
    assert [cell.status for cell in observer.look().cells] == ["finished", "running", "running", "finished"]


@pytest.mark.parametrize("text", ["", "{", '{"format": 99}', "[]", '{"format": 1, "state": "flying"}'])
def test_a_damaged_record_is_a_row_with_its_reason_and_hides_no_other(place: Workplace, text: str) -> None:
    ledger = study_in_every_state(place)
    (ledger.directory(ledger.entries[0]) / "state.json").write_text(text)
    observer = Observer(ledger)
    for study in (observer.look(), observer.look()):
        assert [cell.status for cell in study.cells] == ["damaged", "running", "failed", "planned"]
        assert "state.json" in (study.cells[0].problem or "")
        assert [cell.status for cell in study.lost] == ["damaged", "failed"]
    write_state(ledger.directory(ledger.entries[0]), RunState(state="finished", attempt=1))
    assert observer.look().cells[0].status == "finished"


def test_metrics_that_cannot_be_read_are_a_reason_too(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    metrics = ledger.directory(ledger.entries[0]) / "metrics.jsonl"
    metrics.unlink()
    metrics.mkdir()
    cell = Observer(ledger).look().cells[0]
    assert cell.status == "damaged"
    assert "Is a directory" in (cell.problem or "")


def test_clocks_that_disagree_give_no_negative_times(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    me, later = this_process(), time.time() + 1e6
    begun = RunState(
        state="running", attempt=1, host=me.host, pid=me.pid, process_started=me.started, seconds=5.0, updated=later
    )
    write_state(ledger.directory(ledger.entries[1]), begun)
    log(ledger, 1, {"step": 6, "attempt": 1, "time": later, "train/loss": 2.0})
    log(ledger, 1, {"step": 8, "attempt": 1, "time": later + 4, "train/loss": 2.0})
    study = Observer(ledger).look()
    assert study.cells[1].seconds == 5.0
    assert study.remaining[ledger.entries[1].id] == pytest.approx(24.0)  # 12 steps of 2 s
    assert study.device_hours >= 0


def test_the_time_left_of_a_running_cell_is_by_its_own_pace(place: Workplace) -> None:
    ledger, now = study_in_every_state(place), time.time()
    log(ledger, 1, {"step": 6, "attempt": 1, "time": now - 20, "train/loss": 2.0})
    log(ledger, 1, {"step": 10, "attempt": 1, "time": now, "train/loss": 2.0})
    study = Observer(ledger).look()
    assert study.remaining[ledger.entries[1].id] == pytest.approx(50.0, abs=3)
    assert ledger.entries[0].id not in study.remaining  # finished
    assert ledger.entries[2].id not in study.remaining  # failed


def test_before_a_cell_has_finished_the_others_are_judged_by_the_running_ones() -> None:
    works = [Work("a", 10.0, 30.0, False, 20.0), Work("b", 20.0, 0.0, False), Work("c", 10.0, 0.0, False)]
    assert remaining(works) == {"a": 20.0, "b": 100.0, "c": 50.0}
    assert remaining(works[1:]) == {}
    assert makespan(works, remaining(works), at_once=2) == 100.0  # the longest; 170 / 2 is less
    assert makespan(works, remaining(works), at_once=1) == 170.0
    assert makespan(works[1:], {}, at_once=1) is None


def test_a_cell_begins_after_its_parents() -> None:
    works = [
        Work("parent", 10.0, 10.0, True),
        Work("stage", 10.0, 0.0, False, parents=("parent",)),
        *(Work(f"child{n}", 20.0, 0.0, False, parents=("stage",)) for n in range(3)),
    ]
    assert makespan(works, remaining(works), at_once=100) == 30.0


def test_cells_that_left_the_sweep_are_told_apart_and_their_hours_counted(place: Workplace) -> None:
    ledger = study_in_every_state(place)
    ledger = replace(ledger, entries=ledger.entries[1:], points=ledger.points[1:], removed=ledger.entries[:1])
    study = Observer(ledger).look()
    assert [cell.entry.id for cell in study.removed] == [ledger.removed[0].id]
    assert study.removed[0].removed
    assert sum(study.counts.values()) == 3
    assert study.device_hours == pytest.approx(10 / 3600, abs=2 / 3600)


def test_a_study_without_cells_is_settled(place: Workplace) -> None:
    ledger = replace(ledger_of(place.plan()), entries=(), points=())
    study = Observer(ledger).look()
    assert study.settled
    assert study.seconds_left() == 0.0
    assert study.device_hours_left() == 0


def test_a_cell_that_serves_several_points_shows_all_their_values() -> None:
    points = [Point({"count": 0, "cot": cot, "seed": 1}, "a") for cot in (False, True)]
    assert axis_values(points) == {"a": ["0", "false/true", "1"]}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (400000, "4 d 15 h")],
)
def test_durations_are_said_in_the_units_that_matter(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (22_200, "22.2 k"), (999_600, "1 M"), (2.5e21, "2.5 Z"), (3e27, "3e+03 Y")],
)
def test_large_numbers_get_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert quantity(value) == text
