"""A cell trains on what its identity says: content that has changed since it was planned is refused, by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rendered_folder import rendered_folder
from steering import Steering, failed, record

from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.running.job import start
from flanscale.run_directory import Failure, read_state
from flanscale.tasks import settling

OWN = """
base: [model=nano, tracker=disabled, trainer.steps=2, collection=jsonl, data.jsonl=own, tokenizer=bytes,
  evaluation=none, mixture.count=1]
axes: {seed: [0]}
"""


@pytest.fixture
def steering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Steering:
    return Steering(tmp_path, monkeypatch, capsys)


def write_task(*outputs: object) -> None:
    """The user's own task as it is from now on, for a process that has not seen it yet."""
    Path("own").mkdir(exist_ok=True)
    lines = [json.dumps({"input": f"question {number}", "output": output}) for number, output in enumerate(outputs)]
    Path("own/sums.jsonl").write_text("\n".join(lines))
    forget()


def refused(run: Path) -> Failure:
    """Why a job of the run ends at once."""
    with pytest.raises(SystemExit):
        start(str(run), "fake_cells")
    failure = read_state(run).failure
    assert failure is not None
    return failure


def forget() -> None:
    """As a new process begins."""
    for remembered in vars(settling).values():
        if hasattr(remembered, "cache_clear"):
            remembered.cache_clear()


def test_a_task_that_was_changed_after_planning_is_not_trained_on(steering: Steering) -> None:
    Path("sweeps/little.yaml").write_text(OWN)
    write_task("1", "2")
    steering.place.pretend_finished()
    (run,) = steering.place.runs()
    record(run, failed("data"))

    write_task("1", "3")
    told = (
        "tasks: not the content with which this cell was planned; bring that back,"
        " or launch the study again: it makes a new cell of what is here now"
    )
    code, out, _ = steering.type("retry", "little")
    assert (code, out) == (0, f"starts nothing again; leaves 1: 1 {told}\n")
    failure = refused(run)
    assert (failure.kind, failure.message) == ("data", told)
    assert not (run / "attempts.log").exists()

    (again,) = steering.place.plan().cells
    assert again.run != run.name, "what launch makes of it is another cell"
    write_task("1", "2")
    code, out, _ = steering.type("retry", "little")
    assert (code, read_state(run).state) == (0, "finished")


def test_a_row_that_was_changed_after_planning_is_not_trained_on(steering: Steering) -> None:
    study = OWN.replace("jsonl, data.jsonl=own", "rendered, data.rendered=own, paths.cache=cache, cot=true")
    Path("sweeps/little.yaml").write_text(study)
    rendered_folder(Path("own"), [("CoT", "cot_gsm8k")])
    run = create_run_dir(steering.place.plan().cells[0].config)
    rendered_folder(Path("own"), [("CoT", "cot_gsm8k")], rows=2)
    forget()
    failure = refused(run)
    assert failure.kind == "data"
    assert failure.message.startswith("tasks: not the content with which this cell was planned")


def test_a_task_that_has_gone_is_named_and_so_is_a_bad_one(steering: Steering) -> None:
    Path("sweeps/little.yaml").write_text(OWN)
    write_task("1", "2")
    run = create_run_dir(steering.place.plan().cells[0].config)
    write_task("1", 2)
    failure = refused(run)
    assert failure.kind == "data"
    assert "sums.jsonl:2: " in failure.message
    Path("own/sums.jsonl").unlink()
    forget()
    failure = refused(run)
    assert failure.kind == "data"
    assert "data.jsonl" in failure.message


def test_a_launch_says_how_mended_data_is_trained_on(steering: Steering) -> None:
    steering.place.pretend_finished()
    record(steering.place.run("-9-direct-s0"), failed("data"))
    code, out, _ = steering.type("launch", "little", "trainer.steps=20")
    assert code == 1
    assert "where data is mended, which makes new cells: flanscale launch little trainer.steps=20\n" in out
