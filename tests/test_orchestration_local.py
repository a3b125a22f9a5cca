"""The queue of this machine: parents before their children, and no child without its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from little_study import Workplace, open_workplace

from flanscale.orchestration.dispatch import local
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.planning.plan import Plan
from flanscale.orchestration.running.stop import StopRequest
from flanscale.orchestration.running.withheld import withhold
from flanscale.run_directory import Failure, RunState, read_state, write_state
from flanscale.schema import ClusterConfig


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(local, "LOOK_SECONDS", 0.01)
    (tmp_path / "runs").mkdir()
    return open_workplace(tmp_path, monkeypatch)


class Ended:
    """A cell whose process has ended before anybody looks."""

    def done(self) -> bool:
        return True

    def stop(self) -> None: ...

    def words(self) -> str:
        return ""

    def forget(self) -> None: ...


def chained(plan: Plan, parents: Sequence[Sequence[int]]) -> Plan:
    ids = [cell.id for cell in plan.cells]
    pairs = zip(plan.cells, parents, strict=True)
    return replace(plan, cells=tuple(replace(cell, parents=tuple(ids[n] for n in own)) for cell, own in pairs))


def run(plan: Plan, ends: dict[int, str], **more: object) -> tuple[list[int], local.Done]:
    """The numbers of the cells in the order in which they were started; `ends` says how some of them end."""
    numbers = {plan.directory(cell).name: number for number, cell in enumerate(plan.cells)}
    started: list[int] = []

    def start(directory: Path, cluster: ClusterConfig) -> Ended:
        number = numbers[directory.name]
        started.append(number)
        running = replace(read_state(directory), state="running", attempt=1, pid=2**22 + 1)
        end = ends.get(number, "finished")
        failed = running.failed(Failure("data", "no instances"))
        write_state(directory, {"finished": running.finished(), "failed": failed, "killed": running}[end])
        return Ended()

    none = lambda: None  # noqa: E731
    done = local.run_queue(plan, start, StopRequest(), tick=none, leaving=none, **more)  # type: ignore[arg-type]
    return started, done


def test_parents_come_first_whatever_the_order_and_however_many_slots(place: Workplace) -> None:
    plan = chained(place.plan("cluster.parallelism=4"), [[1], [3], [], [2]])
    assert run(plan, {}, order="grid")[0] == [2, 3, 1, 0]


@pytest.mark.parametrize(("end", "why"), [("failed", "which failed"), ("killed", "which was interrupted")])
def test_what_starts_from_a_cell_without_result_is_left_planned(place: Workplace, end: str, why: str) -> None:
    plan = chained(place.plan("cluster.parallelism=1"), [[], [0], [1], []])
    started, done = run(plan, {0: end}, order="grid")
    assert sorted(started) == [0, 3]
    assert dict(done.held_up) == {f"{plan.cells[0].run}, {why}": 2}
    assert (done.started, [plan.directory(cell).exists() for cell in plan.cells]) == (2, [True, False, False, True])


def test_a_parent_that_is_finished_already_is_not_waited_for(place: Workplace) -> None:
    plan = chained(place.plan(), [[], [0], [0], [0]])
    write_state(create_run_dir(plan.cells[0].config), RunState(state="finished", attempt=1))
    assert sorted(run(plan, {})[0]) == [1, 2, 3]


def test_a_cell_that_failed_for_good_starts_only_when_its_class_is_asked_for(place: Workplace) -> None:
    plan = place.plan()
    for cell, kind in zip(plan.cells, ("data", "node", "config", "timeout"), strict=True):
        write_state(create_run_dir(cell.config), RunState(attempt=1).failed(Failure(kind, "x")))
    assert sorted(run(plan, {})[0]) == [1, 3]
    assert run(plan, {}, retry=("data",))[0] == [0]


def test_a_cell_that_is_cancelled_while_it_is_being_reserved_is_not_started(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cancels marks the cell first and looks then: it sees a cell that waits, and says so."""
    plan = place.plan()
    cancelled = plan.directory(plan.cells[1])
    really = local.reserve

    def reserve(directory: Path, *more: object) -> bool:
        if directory == cancelled:
            withhold(directory)
        return really(directory, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "reserve", reserve)
    started, _ = run(plan, {})
    assert 1 not in started
    assert len(started) == len(plan.cells) - 1
    assert not cancelled.exists()
