"""A queued cell runs the code of its launch: a complete copy, whatever is edited, installed or in the way later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flanscale
from flanscale.orchestration.dispatch import snapshot
from flanscale.run_directory import RunState, write_state

CLONE = Path(flanscale.__file__).parents[1]
TAKE = (
    "from pathlib import Path; from flanscale.orchestration.dispatch import snapshot; "
    "print(snapshot.take(Path('runs'), ['a']).path)"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project that may be edited, with a folder of runs in it."""
    for name in ("flanscale", "analysis", "conf", "sweeps"):
        shutil.copytree(CLONE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "runs").mkdir()
    return tmp_path


def take(project: Path) -> Path:
    environment = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run(
        [sys.executable, "-c", TAKE], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    return project / done.stdout.strip()


def test_an_edit_after_the_launch_changes_nothing_of_what_was_copied(project: Path) -> None:
    copy = snapshot.Snapshot(take(project))
    for module in ("flanscale/__init__.py", "analysis/__init__.py"):
        (project / module).write_text("raise SystemExit('edited')\n")
    names = ("flanscale", "analysis", "hydra_plugins.flanscale")
    code = f"import importlib\nfor name in {names}:\n    print(importlib.import_module(name).__file__)\n"
    environment = os.environ | copy.environment({"PYTHONPATH": str(project)})
    # From the edited project itself, with -m as jobs are started, and against PYTHONPATH and what is installed.
    (project / "probe.py").write_text(code)
    told = subprocess.run([sys.executable, "-m", "probe"], cwd=project, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert all(Path(path).is_relative_to(copy.path) for path in told.stdout.split())
    assert (copy.path / "conf" / "run.yaml").read_bytes() == (CLONE / "conf" / "run.yaml").read_bytes()
    assert (copy.path / "sweeps" / "quickstart.yaml").exists()


def test_the_shell_lines_say_the_same_as_the_environment(project: Path) -> None:
    copy = snapshot.Snapshot(take(project))
    script = "\n".join(
        [
            "export PYTHONPATH=/of/the/module",
            *copy.exports(),
            f"{sys.executable} -c 'import os; print(dict(os.environ))'",
        ]
    )
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    for key, value in copy.environment({"PYTHONPATH": "/of/the/module"}).items():
        assert f"'{key}': '{value}'" in told


def test_equal_sources_share_a_copy_and_others_get_their_own(project: Path) -> None:
    first = take(project)
    stamp = (first / snapshot.COMPLETE).stat().st_mtime_ns
    assert take(project) == first
    assert (first / snapshot.COMPLETE).stat().st_mtime_ns == stamp
    (project / "conf" / "model" / "nano.yaml").write_text("name: other\n")
    assert take(project) != first


def test_a_copy_that_is_not_complete_is_made_again(project: Path) -> None:
    first = take(project)
    (first / snapshot.COMPLETE).unlink()
    (first / "flanscale" / "run.py").unlink()
    assert take(project) == first
    assert (first / "flanscale" / "run.py").exists()
    assert not list(first.parent.glob(".*"))


def test_a_copy_is_unused_when_every_run_that_was_given_to_it_has_ended(tmp_path: Path) -> None:
    copy = snapshot.take(tmp_path, ["one", "two"])
    users = copy.path.with_name(f"{copy.path.name}.runs")
    for name, state in (("one", "finished"), ("two", "preempted")):
        (tmp_path / name).mkdir()
        write_state(tmp_path / name, RunState(state=state))
    os.utime(users, (0, 0))
    assert snapshot.unused(tmp_path) == []
    write_state(tmp_path / "two", RunState(state="failed"))
    assert snapshot.unused(tmp_path) == [copy.path]
    copy.used_by(["three"])  # a launch that takes it now has not marked its run as queued on every host yet
    assert snapshot.unused(tmp_path) == []
    os.utime(users, (0, 0))
    snapshot.delete(copy.path)
    assert snapshot.unused(tmp_path) == []
    assert list((tmp_path / snapshot.FOLDER).iterdir()) == []
