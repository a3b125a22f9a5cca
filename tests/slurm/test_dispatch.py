"""On a real Slurm: chains of cells, several nodes, the code of the launch, the notice at the end, refusals."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from little_study import PATH_OF_PROCESSES, TESTS, Workplace, attempts, begun, open_workplace, wait_until
from rich.console import Console

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch.launch import launch
from flanscale.orchestration.planning.ledger import ledger_of
from flanscale.orchestration.planning.plan import Plan
from flanscale.orchestration.running import slurm
from flanscale.orchestration.running.liveness import look
from flanscale.orchestration.steering.cancel import cancel
from flanscale.orchestration.steering.targets import Target, look_at
from flanscale.orchestration.watching.selection import Filter
from flanscale.run_directory import read_state

pytestmark = pytest.mark.slurm
SMALL = ("cluster=slurm", "cluster.cpus=1", "cluster.gpus=0", "cluster.timeout_minutes=60", "cluster.backoff_seconds=0")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("PYTHONPATH", PATH_OF_PROCESSES)
    return open_workplace(tmp_path, monkeypatch)


def submit(plan: Plan, runner: str = "fake_cells", code: int = 0) -> str:
    console = Console(file=io.StringIO(), width=200)
    assert launch(plan, console, again="launch again", runner=runner, order="grid") == code
    return console.file.getvalue()  # type: ignore[attr-defined]


def chained(plan: Plan, parents: Sequence[Sequence[int]]) -> tuple[Plan, list[Path]]:
    """The plan whose cells start from those with these numbers, and their run directories."""
    ids = [cell.id for cell in plan.cells]
    pairs = zip(plan.cells, parents, strict=True)
    plan = replace(plan, cells=tuple(replace(cell, parents=tuple(ids[n] for n in own)) for cell, own in pairs))
    return plan, [plan.directory(cell) for cell in plan.cells]


def wait_until_finished(runs: Sequence[Path], seconds: float = 120) -> None:
    wait_until(lambda: all(read_state(run).state == "finished" for run in runs), seconds)


def ended(run: Path) -> float:
    when = attempts(run)[-1].ended
    assert when is not None
    return when


THREE_AT_MOST = """#!/bin/sh
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
if [ $(($(squeue --me --noheader --array | wc -l) + ${last:-0} + 1)) -gt 3 ]; then
  echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
  exit 1
fi
exec {sbatch} "$@"
"""


def test_cells_beyond_the_limit_of_queued_jobs_are_submitted_by_a_job_when_there_is_room(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = place.folder / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(THREE_AT_MOST.replace("{sbatch}", str(shutil.which("sbatch"))))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    plan = place.plan(*SMALL, "trainer.steps=200")
    said = submit(plan)
    assert "of 4 cells to Slurm" in said
    (follower,) = re.findall(r"the rest follow by job (\d+) when there is room", said)
    runs = [plan.directory(cell) for cell in plan.cells]
    wait_until(lambda: [read_state(run).state for run in runs].count("finished") == 2)
    wait_until(lambda: not {read_state(run).job for run in runs} & (slurm.known_jobs() or {}).keys())
    subprocess.run(["scontrol", "update", f"JobId={follower}", "StartTime=now"], check=True)
    wait_until_finished(runs)
    assert [len(attempts(run)) for run in runs] == [1, 1, 1, 1]


def test_cells_of_one_job_go_back_with_it_and_leave_it_one_by_one(place: Workplace) -> None:
    plan = place.plan(*SMALL, "cluster.cells_per_job=2", "trainer.steps=300")
    assert "submitted 4 cells to Slurm in 2 jobs: job" in submit(plan)
    runs = [plan.directory(cell) for cell in plan.cells]
    first, second = runs[::2], runs[1::2]  # dealt out in turns
    assert [len({read_state(run).job for run in unit}) for unit in (first, second)] == [1, 1]
    wait_until(lambda: all((unit[0] / "checkpoint").exists() for unit in (first, second)))
    subprocess.run(["scancel", "--signal=USR2", read_state(first[0]).job or ""], check=True)
    ledger = ledger_of(plan)
    cells = look_at(Target(ledger, ledger.entries), Filter(), slurm.known_jobs)
    stopped = cancel([cell for cell in cells if cell.directory == second[0]])
    assert stopped.running_jobs == [second[0].name]
    wait_until_finished([*first, second[1]])
    wait_until(lambda: read_state(second[0]).job is None)
    assert (read_state(second[0]).state, look(second[0]).alive) == ("preempted", False)
    assert [len(attempts(run)) for run in runs] == [2, 1, 1, 1]
    submit(plan)
    wait_until_finished(runs)
    assert len(attempts(second[0])) == 2


def test_a_child_starts_when_its_own_parent_has_ended_also_one_that_was_requeued(place: Workplace) -> None:
    plan, runs = chained(place.plan(*SMALL, "trainer.steps=200"), [[], [], [0], [1]])
    submit(plan)
    wait_until(lambda: (runs[0] / "checkpoint").exists())
    subprocess.run(["scancel", "--signal=USR2", read_state(runs[0]).job or ""], check=True)
    wait_until(lambda: read_state(runs[0]).state == "preempted")
    wait_until_finished(runs[1::2])
    assert not begun(runs[2]) or len(attempts(runs[0])) == 2
    wait_until_finished(runs)
    assert len(attempts(runs[0])) == 2
    for parent, child in ((runs[0], runs[2]), (runs[1], runs[3])):
        assert ended(parent) <= attempts(child)[0].began


def test_children_of_one_parent_start_together_and_those_of_a_failed_one_not_at_all(place: Workplace) -> None:
    plan, runs = chained(place.plan(*SMALL, "seed=0,93,1", "mixture.count=9"), [[], [], [1]])
    submit(plan)
    wait_until_finished(runs[:1])
    wait_until(lambda: not {read_state(run).job for run in runs} & set(slurm.known_jobs() or ()))
    assert (read_state(runs[1]).state, begun(runs[2])) == ("failed", False)
    said = submit(plan, code=1)
    assert "1 cell failed before (1 unknown)" in said
    assert f"they start from {runs[1].name}, which failed" in said


def test_two_nodes_of_two_processes_are_one_cell(place: Workplace) -> None:
    (place.folder / "where.py").write_text(
        "import json, os\n"
        "def run(config, run_dir, *, attempt, should_stop):\n"
        "    keys = ('SLURM_PROCID', 'SLURMD_NODENAME', 'SLURM_STEP_NUM_TASKS', 'SLURM_LOCALID')\n"
        "    told = {key: os.environ[key] for key in keys}\n"
        "    (run_dir / f'rank.{told[\"SLURM_PROCID\"]}').write_text(json.dumps(told))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{place.folder}{os.pathsep}{PATH_OF_PROCESSES}")
        submit(
            place.plan(*SMALL, "mixture.count=9", "seed=0", "cluster.nodes=2", "cluster.tasks_per_node=2"),
            runner="where",
        )
    (run,) = place.runs()
    wait_until_finished([run])
    told = [json.loads((run / f"rank.{rank}").read_text()) for rank in range(4)]
    assert {rank["SLURM_STEP_NUM_TASKS"] for rank in told} == {"4"}
    assert sorted((rank["SLURMD_NODENAME"], rank["SLURM_LOCALID"]) for rank in told) == [
        ("n1", "0"),
        ("n1", "1"),
        ("n2", "0"),
        ("n2", "1"),
    ]
    assert read_state(run).attempt == 1


def test_a_queued_cell_runs_the_code_that_was_there_when_it_was_launched(place: Workplace) -> None:
    project = place.folder / "project"
    for name in ("flanscale", "analysis", "conf", "sweeps"):
        shutil.copytree(TESTS.parent / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "flanscale" / "_mark.py").write_text("MARK = 'as launched'\n")
    (place.folder / "marks.py").write_text(
        "from flanscale._mark import MARK\n"
        "def run(config, run_dir, *, attempt, should_stop):\n"
        "    (run_dir / 'mark').write_text(MARK)\n"
    )
    code = (
        "from rich.console import Console; from flanscale.orchestration.dispatch.launch import launch;"
        "from flanscale.orchestration.planning.preview import make_plan; import sys;"
        "launch(make_plan('little', sys.argv[1:]), Console(), again='', runner='marks')"
    )
    path = os.pathsep.join([str(project), str(place.folder)])
    subprocess.run(
        [sys.executable, "-c", code, *SMALL, "mixture.count=9", "seed=0", "cluster.sbatch={hold: true}"],
        env=os.environ | {"PYTHONPATH": path},
        cwd=place.folder,
        check=True,
    )
    (run,) = place.runs()
    (project / "flanscale" / "_mark.py").write_text("MARK = 'edited'\n")
    (project / "flanscale" / "orchestration" / "running" / "job.py").write_text("raise SystemExit('edited')\n")
    subprocess.run(["scontrol", "release", read_state(run).job or ""], check=True)
    wait_until_finished([run])
    assert (run / "mark").read_text() == "as launched"


def test_the_notice_comes_when_all_jobs_have_ended(place: Workplace) -> None:
    told = place.folder / "told"
    notify = f"'echo $FLANSCALE_STUDY $FLANSCALE_OUTCOME >> {told}'"
    said = submit(place.plan(*SMALL, "mixture.count=9", "seed=0,93", f"cluster.notify={notify}"))
    assert "the report is drawn by job" in said
    wait_until(lambda: told.exists() and told.read_text().endswith("\n"))
    assert told.read_text() == "little failed\n"
    assert sorted(place.statuses().values()) == ["failed", "finished"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cluster.partition=mian", "cluster.partition=mian: no such partition; did you mean main"),
        ("cluster.cpus=99", "cluster.cpus=99: no node of partition main has more than"),
        ("cluster.nodes=99", "cluster.nodes=99: partition main has 2 with these resources"),
        ("cluster.sbatch={constraint: nothing}", "Slurm refused: "),
    ],
)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(place: Workplace, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        submit(place.plan(*SMALL, override))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert place.runs() == []
