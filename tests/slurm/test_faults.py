"""Seven cells run on Slurm, the controller is killed, and then each meets a fate of its own: what becomes of it?"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass

import pytest
from little_study import Attempt, attempts, open_workplace, wait_until
from machines import SAVED_SECONDS, Machines, state_of

from flanscale.orchestration.running import slurm
from flanscale.run_directory import RunState, read_state

pytestmark = pytest.mark.slurm
STEPS = 800
ALL = ("mixture.count=9", f"trainer.steps={STEPS}", "cluster=slurm", "cluster.cpus=1", "cluster.gpus=0")
ALL = (*ALL, "cluster.timeout_minutes=60", "cluster.backoff_seconds=0")
NOTICED, REQUEUED, CANCELLED, KILLED, PREEMPTED, NODE_LOST, LEFT_ALONE = SEEDS = range(7)
ON_THEIR_OWN = (NOTICED, REQUEUED, PREEMPTED, NODE_LOST, LEFT_ALONE)  # go on without a launch


@dataclass(frozen=True)
class Fates:
    """What was seen of each cell, by seed."""

    first: dict[int, RunState]  # while all ran, before anything happened
    settled: dict[int, RunState]  # when Slurm had nothing more to do
    relaunched: str  # what launching once more said
    lives: dict[int, list[Attempt]]
    last: dict[int, RunState]


@pytest.fixture(scope="module")
def fates(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Fates:
    with pytest.MonkeyPatch.context() as patch, machines.alone():
        place = open_workplace(tmp_path_factory.mktemp("fates"), patch)
        others = ",".join(str(seed) for seed in SEEDS if seed not in (PREEMPTED, NODE_LOST))
        at_once = [
            place.launch("--no-wait", "little", *ALL, *arguments)
            for arguments in (
                (f"seed={NODE_LOST}", "cluster.sbatch={nodelist: n2}"),
                (f"seed={PREEMPTED}", "cluster.sbatch={nodelist: n1, gres: 'gpu:4'}", "cluster.partition=low"),
                (f"seed={others}", "cluster.sbatch={nodelist: n1}"),
            )
        ]
        assert [launcher.wait(timeout=120) for launcher in at_once] == [0, 0, 0]
        runs = {seed: place.run(f"s{seed}") for seed in SEEDS}

        def states() -> dict[int, RunState]:
            return {seed: read_state(run) for seed, run in runs.items()}

        def ended(*seeds: int) -> bool:
            return all(read_state(runs[seed]).state == "finished" for seed in seeds)

        wait_until(lambda: all((run / "checkpoint").exists() for run in runs.values()))
        time.sleep(SAVED_SECONDS)
        machines.kill_controller()
        machines.start_controller()
        first = states()
        jobs = {seed: str(state.job) for seed, state in first.items()}
        subprocess.run(["scancel", "--signal=USR2", jobs[NOTICED]], check=True)
        subprocess.run(["scontrol", "requeue", jobs[REQUEUED]], check=True)
        subprocess.run(["scancel", jobs[CANCELLED]], check=True)
        os.kill(int(first[KILLED].pid or 0), signal.SIGKILL)
        urgent = ["sbatch", "--partition=high", "--nodelist=n1", "--gpus-per-node=4", "--output=/dev/null"]
        subprocess.run([*urgent, "--wrap=sleep 1"], check=True, capture_output=True)
        with machines.node_lost("n2"):
            wait_until(lambda: state_of(jobs[NODE_LOST]) == "PENDING")
        wait_until(lambda: not slurm.known_jobs(), seconds=150)
        settled = states()
        relaunched = place.launched("--no-wait", "little", *ALL, "seed=" + ",".join(map(str, SEEDS))).stdout
        wait_until(lambda: ended(*SEEDS))
        lives = {seed: attempts(run) for seed, run in runs.items()}
        return Fates(first, settled, relaunched, lives, states())


def goes_on(fates: Fates, seed: int) -> None:
    """In the same job, and from the step that it had reached."""
    before, after = fates.lives[seed]
    assert after.first_step == before.last_step
    assert 0 < after.first_step < after.last_step == STEPS
    assert fates.last[seed].job == fates.first[seed].job


def test_a_killed_controller_costs_nothing(fates: Fates) -> None:
    (life,) = fates.lives[LEFT_ALONE]
    assert (life.first_step, life.last_step) == (0, STEPS)
    assert fates.last[LEFT_ALONE].attempt == 1


def test_a_notice_of_the_time_limit_saves_requeues_and_goes_on(fates: Fates) -> None:
    goes_on(fates, NOTICED)


def test_a_job_that_somebody_requeues_goes_on(fates: Fates) -> None:
    goes_on(fates, REQUEUED)


def test_a_job_that_a_more_urgent_one_displaces_goes_on(fates: Fates) -> None:
    goes_on(fates, PREEMPTED)


def test_a_lost_node_costs_what_came_after_the_last_checkpoint(fates: Fates) -> None:
    before, after = fates.lives[NODE_LOST]
    assert 0 < after.first_step < after.last_step == STEPS
    assert before.last_step in (None, after.first_step)
    assert fates.last[NODE_LOST].job == fates.first[NODE_LOST].job


def test_a_cancelled_job_saves_and_stays_cancelled_until_the_next_launch(fates: Fates) -> None:
    assert fates.settled[CANCELLED].state == "preempted"
    before, after = fates.lives[CANCELLED]
    assert after.first_step == before.last_step < STEPS
    assert fates.last[CANCELLED].job != fates.first[CANCELLED].job


def test_a_killed_cell_waits_for_the_next_launch(fates: Fates) -> None:
    assert fates.settled[KILLED].state == "running"  # nobody was left to say otherwise
    before, after = fates.lives[KILLED]
    assert before.last_step is None
    assert 0 < after.first_step < STEPS


def test_the_next_launch_submits_what_was_left_and_nothing_else(fates: Fates) -> None:
    assert {seed for seed, state in fates.settled.items() if state.state == "finished"} == set(ON_THEIR_OWN)
    assert "submitted 2 cells" in fates.relaunched
    assert {seed for seed, state in fates.last.items() if len(state.job_ids) > 1} == {CANCELLED, KILLED}
