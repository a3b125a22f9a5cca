"""A cell's process on this machine: what it sees of the launcher, when it ends, and what is known of it then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from little_study import PATH_OF_PROCESSES, Workplace, attempts, begun, open_workplace, wait_until

from flanscale.orchestration.dispatch.process import Starter
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.running import child
from flanscale.orchestration.running.liveness import look
from flanscale.schema import ClusterConfig

NOSY = """
import json, os
def run(config, run_dir, **_):
    seen = {"environment": dict(os.environ), "session": os.getsid(0), "pid": os.getpid()}
    (run_dir / "seen").write_text(json.dumps(seen))
"""
SHARED = """
import json, os
changed = []
IMPORTS = ("costly",)
def run(config, run_dir, **_):
    import costly
    changed.append(1)
    seen = {"importer": costly.pid, "pid": os.getpid(), "changed": len(changed)}
    (run_dir / "seen").write_text(json.dumps(seen))
"""
BRIEF = """
import fake_cells
def run(config, run_dir, **more):
    config.cluster.timeout_minutes = 0.01  # half of it is past when the notice comes
    fake_cells.run(config, run_dir, **more)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("PYTHONPATH", PATH_OF_PROCESSES)
    return open_workplace(tmp_path, monkeypatch)


def make_run(place: Workplace, *overrides: str) -> Path:
    """The run directory of one cell, ready to be started."""
    return create_run_dir(place.plan("mixture.count=9", "seed=0", *overrides).cells[0].config)


@pytest.mark.parametrize(("gpus", "visible"), [(0, ""), (2, "0,1")])
def test_a_cell_sees_its_own_environment_and_gpus_and_nothing_of_the_launchers_terminal(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, gpus: int, visible: str
) -> None:
    (place.folder / "nosy.py").write_text(NOSY)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")  # of an enclosing job: it would wait for seven others
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    path = os.pathsep.join([str(place.folder), PATH_OF_PROCESSES])
    cluster = ClusterConfig(name="local", gpus=gpus, environment={"PYTHONPATH": path, "NPROC": "1"})
    run, copy = make_run(place), Snapshot(place.folder / "copy", "abc")
    with Starter("nosy", copy) as start:
        cell = start(run, cluster)
        wait_until(cell.done)
    seen = json.loads((run / "seen").read_text())
    environment = seen["environment"]
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["NPROC"]) == (visible, "1")
    assert environment["PYTHONPATH"] == os.pathsep.join([str(copy.path), path])
    assert environment["FLANSCALE_COMMIT"] == "abc"
    assert {name for name in environment if name.startswith(("SLURM_", "SUBMITIT_"))} <= {"SLURM_CONF"}  # not of a job
    assert seen["session"] == seen["pid"] == cell.process.pid


def test_a_cell_that_is_asked_to_leave_saves_and_nothing_is_left_of_its_process(place: Workplace) -> None:
    run = make_run(place, "trainer.steps=500")
    with Starter("fake_cells") as start:
        cell = start(run, ClusterConfig(name="local"))
    wait_until((run / "checkpoint").exists)  # though nothing is kept ready any more
    cell.stop()
    wait_until(cell.done)
    cell.stop()  # asked again, too late
    assert look(run).status == "preempted"
    assert attempts(run)[0].last_step == int((run / "checkpoint").read_text())
    assert cell.words() == ""
    cell.forget()
    assert not list((run.parent / ".submitit").iterdir())


def test_the_time_limit_of_the_cluster_is_handed_on_in_seconds_with_some_notice(place: Workplace) -> None:
    told = child.arguments(place.folder / "runs" / "none", ClusterConfig(name="local", timeout_minutes=4), "")
    assert told[-2:] == ["180", "240"]


def test_cells_share_what_they_import_but_nothing_that_one_of_them_does(place: Workplace) -> None:
    (place.folder / "shared.py").write_text(SHARED)
    (place.folder / "costly.py").write_text("import os\npid = os.getpid()\n")
    path = os.pathsep.join([str(place.folder), PATH_OF_PROCESSES])
    cluster = ClusterConfig(name="local", environment={"PYTHONPATH": path})
    runs = [make_run(place, f"trainer.steps={steps}") for steps in (1, 2)]
    with Starter("shared") as start:
        cells = [start(run, cluster) for run in runs]
        for cell in cells:
            wait_until(cell.done)
    first, second = (json.loads((run / "seen").read_text()) for run in runs)
    assert first["importer"] == second["importer"] != first["pid"] != second["pid"]
    assert [first["changed"], second["changed"]] == [1, 1]


def test_a_cell_whose_imports_fail_says_so_itself(place: Workplace) -> None:
    run = make_run(place)
    with Starter("no_such_module") as start:
        cell = start(run, ClusterConfig(name="local"))
        wait_until(cell.done)
    failure = look(run).state.failure
    assert failure
    assert "no_such_module" in failure.message


def limited(run: Path, runner: str, notice: float, limit: float) -> subprocess.Popen[bytes]:
    """A cell's process with a time limit in seconds that nobody but itself can keep."""
    return subprocess.Popen(
        [sys.executable, "-m", child.__name__, str(run), runner, child.ALONE, str(notice), str(limit)]
    )


def test_a_cell_leaves_after_a_checkpoint_when_its_time_is_nearly_up(place: Workplace) -> None:
    (place.folder / "brief.py").write_text(BRIEF)
    run = make_run(place, "trainer.steps=2000")
    assert limited(run, "brief", notice=3.0, limit=60.0).wait(timeout=50) == 75
    state = look(run).state
    assert (state.state, state.failure and state.failure.kind) == ("preempted", "timeout")
    assert attempts(run)[0].last_step == int((run / "checkpoint").read_text())


def test_a_cell_that_does_not_leave_is_killed_when_its_time_is_up(place: Workplace) -> None:
    run = make_run(place, "trainer.steps=2000")
    assert limited(run, "fake_cells", notice=60.0, limit=3.0).wait(timeout=50) == -signal.SIGKILL
    assert begun(run)
    assert look(run).status == "interrupted"
