"""What was cut off goes on by itself as long as it gets further; where it does not, a few times, later and later."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from little_study import open_workplace, wait_until
from test_orchestration_job import make_run

from flanscale.orchestration.dispatch import launcher
from flanscale.orchestration.running import repeat, slurm
from flanscale.orchestration.running.repeat import ended, reached, stalled_before, too_early, wait_seconds
from flanscale.run_directory import Failure, RunState, read_state
from flanscale.schema import ClusterConfig

CLUSTER = ClusterConfig(retries=3, backoff_seconds=60.0)
RUNNING = RunState(state="running", attempt=1, reached=10, job="7_1")


def after(state: RunState, kind: str, step: int) -> RunState:
    return ended(state, Failure(kind, "stopped", "Traceback", step), reached=step, retries=3, spent=1.0)


@pytest.mark.parametrize("kind", ["preempted", "timeout", "node"])
def test_attempts_that_get_no_further_are_repeated_a_few_times_and_then_the_run_has_failed(kind: str) -> None:
    state, states, waits = RUNNING, [], []
    for _ in range(4):
        state = after(state, kind, 10)
        states.append(state.state)
        waits.append(wait_seconds(state, CLUSTER))
        state = replace(state, state="running")
    assert states == ["preempted"] * 3 + ["failed"]
    assert waits[:3] == [60.0, 120.0, 240.0]
    assert state.failure is not None
    assert state.failure.kind == kind
    assert "4 attempts in a row got no further than step 10" in state.failure.message
    assert ("raise cluster.timeout_minutes" in state.failure.message) == (kind == "timeout")


def test_progress_makes_preemptions_free() -> None:
    state = RUNNING
    for step in range(20, 220, 20):
        state = after(state, "preempted", step)
        assert (state.state, state.stalled, wait_seconds(state, CLUSTER)) == ("preempted", 0, 0.0)
        state = replace(state, state="running", reached=step)


def test_a_node_in_trouble_is_given_time_even_after_progress() -> None:
    assert wait_seconds(after(RUNNING, "node", 20), CLUSTER) == 60.0


def test_no_wait_is_longer_than_an_hour() -> None:
    assert wait_seconds(replace(after(RUNNING, "node", 10), stalled=30), CLUSTER) == 3600.0


@pytest.mark.parametrize("kind", ["config", "data", "out_of_memory", "nonfinite_loss", "unknown"])
def test_a_fault_of_the_cells_is_not_repeated(kind: str) -> None:
    assert after(RUNNING, kind, 20).state == "failed"


def test_an_attempt_without_a_last_word_counts_only_where_slurm_repeats_it_by_itself() -> None:
    assert stalled_before(RUNNING, job="7_1", reached=10) == 1
    assert stalled_before(replace(RUNNING, stalled=2), job="7_1", reached=11) == 0
    assert stalled_before(RUNNING, job="8_1", reached=10) == 0
    assert stalled_before(replace(RUNNING, job=None), job=None, reached=10) == 0
    assert stalled_before(replace(RUNNING, state="preempted", stalled=2), job="7_1", reached=10) == 2


def test_a_run_has_reached_what_it_has_logged_or_saved(tmp_path: Path) -> None:
    assert reached(tmp_path) == 0
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 7}) + "\n")
    assert reached(tmp_path) == 7
    for name in ("5", "12", "15.orbax-checkpoint-tmp", "damaged"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert reached(tmp_path) == 12


class Controller:
    """Slurm's, which may be away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers, self.said = list(answers), list[tuple[str, float]]()
        monkeypatch.setattr(repeat.slurm, "requeue", self.requeue)
        monkeypatch.setattr(repeat.slurm, "known_jobs", lambda: None if self.answers[0] == "away" else {})
        monkeypatch.setattr(repeat.slurm, "delay", lambda *said: not self.said.append(said))
        monkeypatch.setattr(repeat.time, "sleep", lambda _: self.answers.pop(0))

    def requeue(self, job: str) -> bool:
        return self.answers[0] == "requeued"


def test_a_controller_that_is_being_restarted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(monkeypatch, "away", "away", "requeued")
    assert repeat.put_back("7_1", 90.0)
    assert controller.said == [("7_1", 90.0)]


def test_a_job_that_somebody_cancelled_stays_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = Controller(monkeypatch, "cancelled")
    assert not repeat.put_back("7_1", 90.0)
    assert controller.said == []


def test_a_job_that_slurm_starts_too_early_is_to_wait_for_the_rest_of_its_time() -> None:
    cluster = ClusterConfig(name="slurm", backoff_seconds=60)
    cut_off = replace(RUNNING, state="preempted", stalled=2, updated=time.time() - 10)
    assert too_early(cut_off, "7_1", cluster) == pytest.approx(110, abs=1)
    assert too_early(cut_off, "8_1", cluster) == 0  # somebody has launched it again
    assert too_early(replace(cut_off, stalled=0), "7_1", cluster) == 0
    assert too_early(replace(cut_off, updated=time.time() - 120), "7_1", cluster) == 0
    assert too_early(replace(cut_off, updated=time.time() + 500), "7_1", cluster) == 0  # a clock has been set


DISK_FULL = """
import errno, time
def run(config, run_dir, *, attempt, should_stop):
    with (run_dir / "begun").open("a") as file:
        file.write(f"{time.time()}\\n")
    raise OSError(errno.ENOSPC, "No space left on device", "/scratch")
"""


@pytest.mark.slurm
@pytest.mark.slow
def test_slurm_repeats_an_attempt_later_and_later_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not slurm.available() or slurm.known_jobs() is None:
        pytest.skip("no Slurm answers here")
    (tmp_path / "disk_full.py").write_text(DISK_FULL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    place = open_workplace(tmp_path, monkeypatch)
    run = make_run(place, "cluster=slurm", "cluster.gpus=0", "cluster.retries=2", "cluster.backoff_seconds=10")
    cluster = place.plan("cluster=slurm", "cluster.gpus=0", "mixture.count=9", "seed=0").cells[0].config.cluster
    (job,) = launcher.submit_slurm([[run]], cluster, "disk_full", "surviving")
    wait_until(lambda: read_state(run).state == "failed", seconds=180)
    first, second, third = (float(line) for line in (run / "begun").read_text().split())
    assert second - first >= 10
    assert third - second >= 20
    state = read_state(run)
    assert (state.attempt, state.stalled, state.job_ids) == (3, 3, (job,))
    assert state.failure is not None
    assert state.failure.kind == "node"
    wait_until(lambda: (jobs := slurm.known_jobs()) is not None and job not in jobs)
    time.sleep(2)
    assert read_state(run) == state
