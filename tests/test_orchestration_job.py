"""A job is one attempt of a run: claimed, recorded from beginning to end, and stopped only after a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from little_study import PATH_OF_PROCESSES, PATIENCE, Workplace, attempts, begun, kill, open_workplace, wait_until

from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.running.liveness import look
from flanscale.run_directory import read_state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def make_run(place: Workplace, *overrides: str) -> Path:
    """The run directory of one cell, ready to be started."""
    return create_run_dir(place.plan("mixture.count=9", "seed=0", *overrides).cells[0].config)


def start(run: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A job, as an executor starts it."""
    payload = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1], 'fake_cells')"
    return subprocess.Popen(
        [sys.executable, "-c", payload, str(run)], env=os.environ | {"PYTHONPATH": PATH_OF_PROCESSES} | environment
    )


def test_a_finished_attempt_is_recorded_and_its_words_are_in_the_log(place: Workplace) -> None:
    run = make_run(place)
    assert start(run).wait() == 0
    state = read_state(run)
    assert (state.state, state.attempt, state.failure) == ("finished", 1, None)
    assert state.seconds > 0.4
    log = (run / "log.txt").read_text()
    assert "attempt 1 finished" in log
    assert "a library prints" in log


def test_a_finished_run_is_not_run_again(place: Workplace) -> None:
    run = make_run(place, "trainer.steps=2")
    start(run).wait()
    before = read_state(run)
    assert start(run).wait() == 0
    assert read_state(run) == before
    assert len(attempts(run)) == 1


def test_a_second_process_leaves_a_running_run_alone_and_exits_quietly(place: Workplace) -> None:
    run = make_run(place, "trainer.steps=100000")  # longer than any machine takes for the second one
    first = start(run)
    wait_until(lambda: begun(run))
    assert start(run).wait() == 0
    assert len(attempts(run)) == 1
    assert look(run).status == "running"
    first.terminate()
    assert first.wait() == 75
    assert read_state(run).state == "preempted"


@pytest.mark.parametrize(
    ("seed", "kind", "message"),
    [
        (90, "nonfinite_loss", "6 steps in a row had a non-finite gradient"),
        (91, "data", "task0001: no instances"),
        (92, "out_of_memory", "RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes"),
        (93, "unknown", "RuntimeError: something else"),
        (94, "unknown", "SystemExit: a library gave up"),
    ],
)
def test_a_failure_is_recorded_with_its_class_step_and_traceback(
    place: Workplace, seed: int, kind: str, message: str
) -> None:
    run = make_run(place, f"seed={seed}", "trainer.steps=4")
    assert start(run).wait() == 1
    failure = read_state(run).failure
    assert failure is not None
    assert (read_state(run).state, failure.kind, failure.message, failure.step) == ("failed", kind, message, 2)
    assert "fake_cells.py" in (failure.traceback or "")
    assert "fake_cells.py" in (run / "log.txt").read_text()


def test_a_damaged_configuration_is_a_failure_of_class_config(place: Workplace) -> None:
    run = make_run(place)
    (run / "config.yaml").write_text("model: [")
    assert start(run).wait() == 1
    failure = read_state(run).failure
    assert failure is not None
    assert failure.kind == "config"
    assert "config.yaml" in failure.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_stop_signal_lets_the_run_save_a_checkpoint_and_a_new_attempt_goes_on_from_it(
    place: Workplace, number: signal.Signals
) -> None:
    run = make_run(place, "trainer.steps=50")
    job = start(run)
    wait_until(lambda: (run / "checkpoint").exists())
    job.send_signal(number)
    assert job.wait() == 75
    state = read_state(run)
    assert state.failure is not None
    assert (state.state, state.failure.kind) == ("preempted", "preempted")
    stopped_at = state.failure.step
    assert start(run).wait() == 0
    first, second = attempts(run)
    assert 0 < second.first_step == first.last_step == stopped_at
    assert (read_state(run).state, read_state(run).attempt) == ("finished", 2)


def start_with(run: Path, **constants: float) -> subprocess.Popen[str]:
    """A job with other constants of the module `job`, whose standard error can be read."""
    setting = "".join(f"job.{name} = {value}; " for name, value in constants.items())
    payload = (
        f"import sys; from flanscale.orchestration.running import job; {setting}job.start(sys.argv[1], 'fake_cells')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", payload, str(run)],
        env=os.environ | {"PYTHONPATH": PATH_OF_PROCESSES},
        stderr=subprocess.PIPE,
        text=True,
    )


def take_over(run: Path) -> None:
    """As a process on another host that took the run's owner for dead."""
    (lease,) = (run / ".lease").glob("run.*")
    lease.with_name(f"run.{int(lease.suffix[1:]) + 1}").write_text(lease.read_text().replace('"nonce"', '"Nonce"'))


@pytest.mark.parametrize("heartbeat", [0.1, 60.0])
def test_an_attempt_that_was_taken_for_dead_leaves_and_writes_nothing(place: Workplace, heartbeat: float) -> None:
    run = make_run(place, "trainer.steps=50")
    job = start_with(run, HEARTBEAT_SECONDS=heartbeat)
    wait_until(lambda: (run / "checkpoint").exists())
    take_over(run)
    record = (run / "state.json").read_text()
    _, words = job.communicate(timeout=PATIENCE)
    assert job.returncode == 76
    assert words == f"flanscale: {run}: another process has taken this run over: left without writing\n"
    assert (run / "state.json").read_text() == record
    left_at_a_heartbeat = attempts(run)[0].ended is None
    assert left_at_a_heartbeat == (heartbeat < 1), "else it is found out before the end is recorded"


def test_a_killed_attempt_shows_as_interrupted_and_a_new_one_goes_on(place: Workplace) -> None:
    run = make_run(place, "trainer.steps=30")
    job = start(run)
    wait_until(lambda: (run / "checkpoint").exists())
    kill(job.pid)
    job.wait()
    assert look(run).status == "interrupted"
    assert start(run).wait() == 0
    assert read_state(run).attempt == 2
    assert attempts(run)[1].first_step > 0


def test_attempts_that_are_stopped_again_and_again_before_they_get_further_end_as_failed(place: Workplace) -> None:
    run = make_run(place, "cluster.retries=1", "trainer.steps=50")
    (place.folder / "eager.py").write_text(
        "from flanscale.errors import Preempted\ndef run(*_, **__):\n    raise Preempted('stopped at step 0')\n"
    )
    payload = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1], 'eager')"
    command = [sys.executable, "-c", payload, str(run)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place.folder), PATH_OF_PROCESSES])}
    codes = [subprocess.run(command, env=environment, check=False).returncode for _ in range(2)]
    assert codes == [75, 1]
    state = read_state(run)
    assert (state.state, state.stalled, state.failure and state.failure.kind) == ("failed", 2, "preempted")


def test_the_environment_of_the_cluster_is_set_before_the_runner_is_imported(place: Workplace) -> None:
    (place.folder / "nosy.py").write_text(
        "import os\n"
        "SEEN = os.environ.get('XLA_FLAGS')\n"
        "def run(config, run_dir, **_):\n"
        "    (run_dir / 'seen').write_text(str(SEEN))\n"
    )
    run = make_run(place, "cluster.environment.XLA_FLAGS='--some_flag'")
    payload = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1], 'nosy')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place.folder), PATH_OF_PROCESSES])}
    subprocess.run([sys.executable, "-c", payload, str(run)], env=environment, check=True)
    assert (run / "seen").read_text() == "--some_flag"


def test_provenance_tells_what_ran_for_every_attempt_and_no_secrets(place: Workplace) -> None:
    run = make_run(place, "seed=93", "trainer.steps=2")
    for _ in range(2):
        start(run, WANDB_API_KEY="secret-of-the-user").wait()
    text = (run / "provenance.json").read_text()
    record = json.loads(text)
    assert [attempt["attempt"] for attempt in record["attempts"]] == [1, 2]
    assert {"jax", "numpy", "submitit"} <= set(record["attempts"][0]["packages"])
    assert record["attempts"][0]["host"]
    assert "secret-of-the-user" not in text
