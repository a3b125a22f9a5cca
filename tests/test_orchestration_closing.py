"""When a study has ended its report is drawn and whoever wanted to know is told, and neither can make it fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from little_study import Workplace, open_workplace

from flanscale.orchestration.dispatch import closing
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.planning.ledger import ledger_of, write_ledger
from flanscale.orchestration.running import slurm
from flanscale.orchestration.watching.monitor import Observer
from flanscale.run_directory import Failure, RunState, write_state

NOTIFY = 'echo "$FLANSCALE_STUDY $FLANSCALE_OUTCOME" >> told'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def test_the_notice_tells_the_study_and_its_outcome(place: Workplace) -> None:
    place.pretend_finished()
    index = place.folder / "studies" / "little.json"
    closing.close(str(index), "reports", NOTIFY)
    plan = place.plan()
    write_state(plan.directory(plan.cells[0]), RunState(attempt=1).failed(Failure("data", "x")))
    closing.close(str(index), "reports", NOTIFY)
    assert (place.folder / "told").read_text() == "little finished\nlittle failed\n"


def test_nobody_is_told_while_a_later_launch_is_at_it(
    place: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "known_jobs", lambda: {"7": "Resources"})
    place.pretend_finished()
    plan = place.plan()
    write_state(plan.directory(plan.cells[0]), RunState(state="queued", job="7", host="login2", pid=1))
    closing.close(str(place.folder / "studies" / "little.json"), "reports", NOTIFY)
    assert not (place.folder / "told").exists()
    assert "in the hands of a later launch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("echo no such room >&2; exit 3", "exit code 3: no such room"),
        ("nothing-of-that-name", "exit code 127"),
        ("sleep 5", "not over after 0.2 s"),
    ],
)
def test_a_notice_that_fails_is_one_line(
    place: Workplace, command: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "NOTIFY_SECONDS", 0.2 if "sleep" in command else 20)
    ledger = ledger_of(place.plan())
    said: list[str] = []
    closing.notify(command, Observer(ledger).look(), said.append)
    assert len(said) == 1
    assert line in said[0]


def test_a_queue_on_this_machine_tells_when_it_has_ended_and_only_when_it_did_something(place: Workplace) -> None:
    overrides = ("mixture.count=9", "seed=0", "trainer.steps=1", f"cluster.notify='{NOTIFY}'")
    for _ in range(2):
        assert place.launched("little", *overrides).returncode == 0
    assert (place.folder / "told").read_text() == "little finished\n"


def test_what_keeps_a_report_from_being_drawn_is_one_line(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    plan = place.plan()
    ledger = ledger_of(plan)
    ledger.path.parent.mkdir()
    write_ledger(ledger)
    for cell in plan.cells:
        write_state(create_run_dir(cell.config), RunState(state="finished", attempt=1))
    closing.close(str(ledger.path), "reports", None)
    assert "no report: " in capsys.readouterr().out
