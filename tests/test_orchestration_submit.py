"""A plan becomes job arrays: what each asks for and waits for, and what is left when Slurm says no."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
from fake_slurm import FakeSlurm, open_slurm
from little_study import Workplace, open_workplace
from rich.console import Console

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch import closing, follow, launcher
from flanscale.orchestration.dispatch.launch import launch
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.planning.plan import Plan
from flanscale.orchestration.running import repeat
from flanscale.orchestration.running import slurm as running_slurm
from flanscale.orchestration.running.withheld import withhold
from flanscale.run_directory import Failure, RunState, evaluations, read_state, write_state
from flanscale.run_directory.evaluations import write_result

SLURM = ("cluster=slurm", "cluster.gpus=0")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


@pytest.fixture
def slurm(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return open_slurm(place.folder / "bin", monkeypatch)


def with_parents(plan: Plan, parents: Sequence[Sequence[int]]) -> Plan:
    """The plan whose cells start from those with these numbers."""
    ids = [cell.id for cell in plan.cells]
    pairs = zip(plan.cells, parents, strict=True)
    return replace(plan, cells=tuple(replace(cell, parents=tuple(ids[n] for n in own)) for cell, own in pairs))


def submit(plan: Plan, report: closing.Report | None = None, order: str = "grid") -> str:
    console = Console(file=io.StringIO(), width=200)
    assert launch(plan, console, again="launch again", report=report, order=order) == 0
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_cells_of_one_shape_are_one_array_with_its_cap_and_the_controller_is_asked_once(
    place: Workplace, slurm: FakeSlurm
) -> None:
    said = submit(place.plan(*SLURM, "cluster.parallelism=3"))
    assert said.splitlines() == [
        "submitted 4 cells to Slurm: job 101",
        "4 queued",
        "watch with: flanscale status little --watch",
        "stop with: flanscale cancel little",
    ]
    assert slurm.option(101, "array") == "0-3%3"
    assert slurm.option(101, "dependency") is None
    assert [read_state(run).job for run in sorted(place.runs(), key=lambda run: read_state(run).job or "")] == [
        f"101_{n}" for n in range(4)
    ]
    assert slurm.asked("scontrol") == slurm.asked("sinfo") == 1
    assert submit(place.plan(*SLURM)).splitlines()[0] == "4 queued"
    assert len(slurm.scripts()) == 1


def test_submitting_hands_nothing_of_an_enclosing_job_on_and_leaves_this_process_as_it_was(
    place: Workplace, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Handler(logging.Handler):
        def close(self) -> None:
            closed.append("by the import of submitit")
            super().close()

    for name in [name for name in sys.modules if name.split(".")[0] == "submitit"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet")
    slurm.refuse('[ -n "$SLURM_CPU_BIND$SUBMITIT_LOG_LEVEL" ]', "inherited")
    before, handler = dict(os.environ), Handler()
    submit(place.plan(*SLURM))
    assert dict(os.environ) == before
    assert closed == []
    handler.close()


def test_each_shape_is_an_array_of_its_own(place: Workplace, slurm: FakeSlurm) -> None:
    plan = place.plan(*SLURM, "cluster.cpus=1")
    big = [replace(cell.config, cluster=replace(cell.config.cluster, cpus=8, gpus=2)) for cell in plan.cells[2:]]
    submit(
        replace(
            plan, cells=(*plan.cells[:2], *(replace(c, config=b) for c, b in zip(plan.cells[2:], big, strict=True)))
        )
    )
    assert [slurm.option(job, "cpus-per-task") for job in (101, 102)] == ["1", "8"]
    assert [slurm.option(job, "gpus-per-node") for job in (101, 102)] == [None, "2"]
    assert [slurm.option(job, "array") for job in (101, 102)] == ["0-1%2", "0-1%2"]


def test_cells_that_share_jobs_are_dealt_out_and_their_job_has_time_for_one_after_another(
    place: Workplace, slurm: FakeSlurm
) -> None:
    shared = ("cluster.cells_per_job=3", "cluster.cells_at_once=2", "cluster.timeout_minutes=50", "seed=0,1,2,3,4")
    plan = place.plan(*SLURM, *shared, "cluster.parallelism=4")
    assert submit(plan).splitlines()[0] == "submitted 10 cells to Slurm in 4 jobs: job 101"
    assert (slurm.option(101, "array"), slurm.option(101, "time")) == ("0-3%2", "100")
    jobs = [read_state(plan.directory(cell)).job for cell in plan.cells]
    assert jobs == [f"101_{n % 4}" for n in range(10)]
    waiting = with_parents(place.plan(*SLURM, *shared, "trainer.steps=30"), [[], [], *([[0]] * 8)])
    submit(waiting)
    assert [slurm.option(n, "array") for n in (102, 103, 104)] == [None, None, "0-2%3"]
    assert (slurm.option(102, "time"), slurm.option(104, "dependency")) == ("50", "afterok:102")


def test_a_job_longer_than_the_partition_allows_is_told_with_the_cells_it_runs(
    place: Workplace, slurm: FakeSlurm
) -> None:
    plan = place.plan(*SLURM, "cluster.partition=long", "cluster.timeout_minutes=1440", "cluster.cells_per_job=3")
    with pytest.raises(ConfigError, match="timeout_minutes=1440 for each of 3 cells one after another: partition long"):
        submit(plan)


def test_several_nodes_are_one_step_with_all_its_tasks(place: Workplace, slurm: FakeSlurm) -> None:
    cluster = ("cluster=slurm", "cluster.nodes=2", "cluster.gpus=4", "trainer.batch_rows=32")
    one_each = place.plan(*cluster, "trainer.mesh.data=8", "cluster.tasks_per_node=4")
    submit(one_each)
    assert [slurm.option(101, name) for name in ("nodes", "ntasks-per-node", "cpus-per-task")] == ["2", "4", "2"]
    script = slurm.scripts()[0]
    assert "--kill-on-bad-exit=1" in script


def test_arrays_are_no_larger_than_slurm_allows_and_share_the_cap(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = open_slurm(place.folder / "bin", monkeypatch, largest_array=2)
    said = submit(place.plan(*SLURM, "cluster.parallelism=2"))
    assert said.startswith("submitted 4 cells to Slurm: jobs 101, 102\n")
    assert [slurm.option(job, "array") for job in (101, 102)] == ["0-1%1", "0-1%1"]


def test_children_wait_for_their_own_parents_only(place: Workplace, slurm: FakeSlurm) -> None:
    submit(with_parents(place.plan(*SLURM), [[], [0], [0], [1]]))
    assert [slurm.option(job, "dependency") for job in (101, 102, 103)] == [None, "afterok:101", "afterok:102_0"]
    assert [slurm.option(job, "array") for job in (101, 102, 103)] == [None, "0-1%2", None]
    assert [slurm.option(job, "kill-on-invalid-dep") for job in (101, 102, 103)] == [None, "yes", "yes"]


def test_arrays_that_correspond_one_to_one_wait_element_by_element(place: Workplace, slurm: FakeSlurm) -> None:
    plan = with_parents(place.plan(*SLURM), [[], [], [1], [0]])
    submit(plan)
    assert slurm.option(102, "dependency") == "aftercorr:101"
    jobs = [read_state(plan.directory(cell)).job for cell in plan.cells]
    assert jobs == ["101_0", "101_1", "102_1", "102_0"]


def test_a_cell_is_asked_its_suite_by_a_job_of_its_own_that_waits_for_it(place: Workplace, slurm: FakeSlurm) -> None:
    suite = (*SLURM, "evaluation=procedural", "evaluation.items=1")
    hours = ("cluster.timeout_minutes=600", "cluster.evaluation={timeout_minutes: 30, cpus: 2}")
    plan = place.plan(*suite, *hours)
    assert submit(plan).splitlines()[0] == "submitted 8 cells to Slurm: jobs 101, 102"
    assert [slurm.option(job, "time") for job in (101, 102)] == ["600", "30"]
    assert [slurm.option(job, "dependency") for job in (101, 102)] == [None, "aftercorr:101"]
    for run in place.runs():
        trained, (asked,) = read_state(run).job or "", evaluations(run)
        assert read_state(asked).job == trained.replace("101_", "102_")
    itself = place.plan(*suite, "cluster.evaluation=null")
    assert len(itself.cells) == 4


def test_a_suite_that_a_finished_study_was_not_asked_is_asked_and_nothing_is_trained(
    place: Workplace, slurm: FakeSlurm
) -> None:
    place.pretend_finished(*SLURM)
    suite = (*SLURM, "evaluation=procedural", "evaluation.items=1")
    said = submit(place.plan(*suite, "cluster.evaluation=null"))  # they cannot ask themselves any more
    assert said.splitlines()[0] == "submitted 4 cells to Slurm: job 101"
    assert (slurm.option(101, "array"), slurm.option(101, "dependency")) == ("0-3%4", None)
    for run in place.runs():
        assert read_state(run).state == "finished"
        (asked,) = evaluations(run)
        assert read_state(asked).state == "queued"
        write_state(asked, RunState(state="finished", attempt=1))
        write_result(asked, {"suite": "procedural"})
    assert len(place.plan(*suite, "cluster.evaluation=null").cells) == 4, "nothing is left to be asked"


def test_a_cell_of_several_parents_waits_for_all_of_them(place: Workplace, slurm: FakeSlurm) -> None:
    submit(with_parents(place.plan(*SLURM), [[], [], [0], [0, 1]]))
    assert sorted(slurm.option(job, "dependency") or "" for job in (102, 103)) == ["afterok:101", "afterok:101_0"]


def test_a_finished_parent_is_not_waited_for_and_one_of_another_launch_by_its_job(
    place: Workplace, slurm: FakeSlurm
) -> None:
    plan = place.plan(*SLURM)
    write_state(create_run_dir(plan.cells[0].config), RunState(state="finished", attempt=1))
    elsewhere = RunState(state="queued", job="77", host="login2", pid=1, process_started=1.0)
    write_state(create_run_dir(plan.cells[1].config), elsewhere)
    with (slurm.folder / "queue").open("a") as queue:
        queue.write("77\n")
    submit(with_parents(plan, [[], [], [0], [1]]))
    assert [slurm.option(job, "dependency") for job in (101, 102)] == [None, "afterok:77"]


def test_a_failed_parent_leaves_its_children_planned_and_is_told_once(place: Workplace, slurm: FakeSlurm) -> None:
    plan = with_parents(place.plan(*SLURM), [[], [0], [1], []])
    failed = RunState(attempt=1).failed(Failure("data", "no instances"))
    write_state(create_run_dir(plan.cells[0].config), failed)
    said = submit(plan).splitlines()
    assert said[:3] == [
        "1 cell failed before (1 data): flanscale retry little",
        "submitted 1 cells to Slurm: job 101",
        f"2 cells are left for a later launch: they start from {plan.cells[0].run}, which failed",
    ]
    assert [plan.directory(cell).exists() for cell in plan.cells] == [True, False, False, True]


def test_cells_that_failed_start_again_when_their_class_is_asked_for(place: Workplace, slurm: FakeSlurm) -> None:
    plan = place.plan(*SLURM)
    for cell, kind in zip(plan.cells, ("data", "node", "config", "data"), strict=True):
        write_state(create_run_dir(cell.config), RunState(attempt=1).failed(Failure(kind, "x")))
    console = Console(file=io.StringIO(), width=200)
    launch(plan, console, again="", retry=("data",))
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[0] == "1 cell failed before (1 config): flanscale retry little"
    assert said[1] == "submitted 3 cells to Slurm: job 101"


def test_what_another_study_asks_for_does_not_rewrite_its_index(place: Workplace, slurm: FakeSlurm) -> None:
    from flanscale.orchestration.planning.ledger import ledger_of

    plan = place.plan(*SLURM)
    index = ledger_of(plan)
    launch(replace(plan, cells=plan.cells[:1]), Console(file=io.StringIO()), again="", index=index)
    assert not index.path.exists()
    assert len(place.runs()) == 1


def test_a_refusal_midway_gives_back_what_was_reserved_for_it_and_keeps_what_is_queued(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = open_slurm(place.folder / "bin", monkeypatch, largest_array=2)
    slurm.refuse("[ $(cat count) = 101 ]", "Batch job submission failed: Job violates accounting/QOS policy")
    with pytest.raises(ConfigError, match=r"QOS policy.*limit of queued jobs .*the rest has not been submitted: again"):
        launch(place.plan(*SLURM), Console(file=io.StringIO()), again="again")
    assert len(place.runs()) == 2
    assert sorted(place.statuses().values()) == ["planned", "planned", "queued", "queued"]
    (slurm.folder / "refuse").unlink()
    assert submit(place.plan(*SLURM)).startswith("submitted 2 cells to Slurm: job 102\n")


def its_rest(plan: Plan, job: int) -> follow.Rest:
    """What the job with this number was left."""
    pickled = next(plan.runs.glob(f".submitit/*/{job}_submitted.pkl"))
    return cloudpickle.loads(pickled.read_bytes()).args[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("words", ["QOSMaxSubmitJobPerUserLimit", "AssocGrpSubmitJobsLimit"])
def test_what_slurm_has_no_room_for_follows_by_a_job_that_comes_back_until_nothing_is_left(
    place: Workplace, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.limit(4, words)
    plan = place.plan(*SLURM, "seed=0,1,2", "cluster.parallelism=4")
    said = submit(plan, report=closing.print_report)
    assert said.startswith("submitted 3 of 6 cells to Slurm: job 102; the rest follow by job 101 when there is room\n")
    assert "the report" not in said
    assert slurm.option(102, "array") == "0-2%2"
    assert slurm.option(101, "begin") == "now+300"
    assert sorted(place.statuses().values()) == ["planned"] * 3 + ["queued"] * 3
    rest = its_rest(plan, 101)
    assert "JAX_PLATFORMS" not in slurm.scripts()[0]  # else the cells that it submits would inherit it

    put_back: list[str] = []
    monkeypatch.setattr(running_slurm, "current_job", lambda: "101")
    monkeypatch.setattr(repeat, "put_back", lambda job, seconds: not put_back.append(job))
    with pytest.raises(SystemExit):  # the queue is as full as before
        follow.go_on(rest)
    assert (put_back, len(slurm.scripts())) == (["101"], 2)

    slurm.empty()
    finished = [cell for cell in plan.cells if read_state(plan.directory(cell)).state == "queued"]
    for cell in finished[:2]:
        write_state(plan.directory(cell), RunState(state="finished", attempt=1))
    failed = RunState(state="failed", attempt=1, failure=Failure("preempted", "again and again"))
    write_state(plan.directory(finished[2]), failed)
    slurm.limit(2, words)
    with pytest.raises(SystemExit):
        follow.go_on(rest)
    assert "submitted 2 of 3 cells" in capsys.readouterr().out
    slurm.limit(4, words)
    follow.go_on(rest)
    assert put_back == ["101", "101"]
    assert sorted(place.statuses().values()) == ["failed", "finished", "finished", "queued", "queued", "queued"]
    assert slurm.option(105, "dependency") == "afterany:103:104"  # the report


def test_cells_that_were_cancelled_before_there_was_room_are_left_alone(place: Workplace, slurm: FakeSlurm) -> None:
    slurm.limit(3, "QOSMaxSubmitJobPerUserLimit")
    plan = place.plan(*SLURM)
    submit(plan)
    slurm.empty()
    for cell in plan.cells:
        withhold(plan.directory(cell))
    before = len(slurm.scripts())
    follow.go_on(its_rest(plan, 101))
    assert len(slurm.scripts()) == before


def test_where_there_is_no_room_for_the_job_that_follows_nothing_is_made(place: Workplace, slurm: FakeSlurm) -> None:
    slurm.limit(0, "QOSMaxSubmitJobPerUserLimit")
    with pytest.raises(ConfigError, match="QOSMaxSubmitJobPerUserLimit; your limit of queued jobs may be reached"):
        launch(place.plan(*SLURM), Console(file=io.StringIO()), again="again")
    assert place.runs() == []
    assert not (place.folder / "studies" / "little.json").exists()
    assert list((place.folder / "runs" / ".submitit").iterdir()) == []


@pytest.mark.parametrize(("room", "now"), [(1, 0), (2, 1), (3, 2)])
def test_however_little_room_there_is_the_job_that_follows_has_its_place(
    place: Workplace, slurm: FakeSlurm, room: int, now: int
) -> None:
    slurm.limit(room, "QOSMaxSubmitJobPerUserLimit")
    plan = place.plan(*SLURM)
    said = submit(plan).splitlines()[0]
    assert said.startswith(f"submitted {now} of 4 cells to Slurm")
    assert said.endswith("; the rest follow by job 101 when there is room")
    slurm.empty()
    slurm.limit(9, "")
    follow.go_on(its_rest(plan, 101))
    assert set(place.statuses().values()) == {"queued"}, "each is submitted once"
    assert len({read_state(run).job for run in place.runs()}) == 4


def test_a_silent_controller_is_asked_again_and_then_told_of(
    place: Workplace, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "PAUSES", (0.0, 0.0))
    silent = "Batch job submission failed: Unable to contact slurm controller (connect failure)"
    slurm.refuse("echo >> tries && [ $(wc -l < tries) -lt 3 ]", silent)
    assert "submitted 4 cells" in submit(place.plan(*SLURM))
    slurm.refuse("true", silent)
    with pytest.raises(ConfigError, match=r"controller does not answer \(Unable to contact .*\); asked 3 times"):
        submit(place.plan(*SLURM, "seed=5"))
    assert len(place.runs()) == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["cluster.partition=lnog"],
            "cluster.partition=lnog: no such partition; did you mean long.; there are long, main",
        ),
        (["cluster.cpus=9"], "cluster.cpus=9: no node of partition main has more than 8 cores"),
        (["cluster.memory_gb=16"], "cluster.memory_gb=16: no node of partition main has more than 15 GB of memory"),
        (["cluster.nodes=3"], "cluster.nodes=3: partition main has 2 with these resources"),
        (["cluster.partition=long", "cluster.timeout_minutes=2881"], "partition long ends jobs after 2880 minutes"),
        (["cluster.gpus=5", "trainer.mesh.data=5", "trainer.batch_rows=20"], "cluster.gpus=5: .* more than 4 GPUs"),
    ],
)
def test_what_no_node_has_is_said_before_anything_is_made(
    place: Workplace, slurm: FakeSlurm, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        submit(place.plan(*SLURM, *overrides))
    assert not (place.folder / "runs").exists()
    assert not slurm.scripts()


def test_a_type_of_gpu_reaches_sbatch_and_an_option_that_a_knob_sets_is_refused_before_anything_is_made(
    place: Workplace, slurm: FakeSlurm
) -> None:
    with pytest.raises(ConfigError, match=r"cpus-per-task=9: .*use cluster\.cpus"):
        submit(place.plan("cluster=slurm", "cluster.sbatch={cpus-per-task: 9}"))
    assert not (place.folder / "runs").exists()
    submit(place.plan("cluster=slurm", "cluster.sbatch={gpus-per-node: 'a100:1', exclusive: false}"))
    assert slurm.option(101, "gpus-per-node") == "a100:1"
    assert "exclusive" not in slurm.scripts()[0]


def test_an_unknown_account_is_told_with_those_there_are(place: Workplace, slurm: FakeSlurm) -> None:
    words = "Batch job submission failed: Invalid account or account/partition combination specified"
    slurm.refuse("true", words)
    with pytest.raises(
        ConfigError, match=r"cluster.account=lba: Slurm refused: Invalid account .*; you may charge lab"
    ):
        submit(place.plan(*SLURM, "cluster.account=lba"))
    assert place.runs() == []
    assert list((place.folder / "studies").iterdir()) == []
    assert list((place.folder / "runs" / ".submitit").iterdir()) == []


def test_without_slurm_and_inside_a_cell_nothing_is_submitted(
    place: Workplace, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = {"FLANSCALE_SNAPSHOT": "0123", "SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7"}
    with monkeypatch.context() as patch:
        for key, value in inside.items():
            patch.setenv(key, value)
        with pytest.raises(ConfigError, match="this is Slurm job 7, a cell of a study"):
            submit(place.plan(*SLURM))
    monkeypatch.setenv("PATH", str(place.folder))
    with pytest.raises(ConfigError, match="no sbatch on this host"):
        submit(place.plan(*SLURM))
    assert not (place.folder / "runs").exists()


def test_the_report_is_a_small_job_after_all_others(place: Workplace, slurm: FakeSlurm) -> None:
    said = submit(
        with_parents(
            place.plan(*SLURM, "cluster.cpus=8", "cluster.sbatch={exclusive: true, qos: long}"), [[], [], [0], [0]]
        ),
        report=closing.print_report,
    )
    assert "the report is drawn by job 103, when these have ended" in said
    assert slurm.option(103, "dependency") == "afterany:101:102"
    assert (slurm.option(103, "cpus-per-task"), slurm.option(103, "qos")) == ("1", "long")
    assert "exclusive" not in slurm.scripts()[2]


def test_cells_that_left_the_study_and_run_on_are_told_with_how_to_cancel_them(
    place: Workplace, slurm: FakeSlurm
) -> None:
    submit(place.plan(*SLURM))
    said = submit(place.plan(*SLURM, "seed=0"))
    assert said.startswith(
        "2 cells of an earlier launch left the study and run on: flanscale cancel little --removed\n"
    )
