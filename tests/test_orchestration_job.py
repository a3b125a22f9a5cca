"""A job is one attempt of a run: claimed, recorded from beginning to end, and stopped only after a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from little_study import PATH_OF_PROCESSES, Workplace, attempts, begun, kill, open_workplace, wait_until

from flanscale.orchestration.failure import classify
from flanscale.orchestration.job import ending
from flanscale.orchestration.liveness import look
from flanscale.orchestration.reserve import create_run_dir
from flanscale.orchestration.state import Failure, RunState, read_state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def make_run(place: Workplace, *overrides: str) -> Path:
    """The run directory of one cell, ready to be started."""
    return create_run_dir(place.plan("mixture.count=9", "seed=0", *overrides).cells[0].config)


def start(run: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A job, as an executor starts it."""
    payload = "import sys; from flanscale.orchestration.job import start; start(sys.argv[1], 'fake_cells')"
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
    run = make_run(place, "trainer.steps=150")  # longer than the second one's patience
    first = start(run)
    wait_until(lambda: begun(run))
    assert start(run).wait() == 0
    assert len(attempts(run)) == 1
    assert look(run).status == "running"
    assert first.wait() == 0
    assert read_state(run).state == "finished"


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


@pytest.mark.parametrize(
    ("timed_out", "progressed", "state", "kind"),
    [
        (False, False, "preempted", "preempted"),
        (False, True, "preempted", "preempted"),
        (True, True, "preempted", "timeout"),
        (True, False, "failed", "timeout"),  # it would be started over and over
    ],
)
def test_a_stopped_attempt_goes_on_later_unless_its_time_limit_is_too_short_for_it(
    timed_out: bool, progressed: bool, state: str, kind: str
) -> None:
    stopped = Failure("preempted", "stopped at step 10", "Traceback", 10)
    ended = ending(RunState(state="running", attempt=2), stopped, timed_out=timed_out, progressed=progressed)
    assert ended.failure is not None
    assert (ended.state, ended.failure.kind, ended.failure.traceback) == (state, kind, None)


def test_the_environment_of_the_cluster_is_set_before_the_runner_is_imported(place: Workplace) -> None:
    (place.folder / "nosy.py").write_text(
        "import os\n"
        "SEEN = os.environ.get('XLA_FLAGS')\n"
        "def run(config, run_dir, **_):\n"
        "    (run_dir / 'seen').write_text(str(SEEN))\n"
    )
    run = make_run(place, "cluster.environment.XLA_FLAGS='--some_flag'")
    payload = "import sys; from flanscale.orchestration.job import start; start(sys.argv[1], 'nosy')"
    subprocess.run(
        [sys.executable, "-c", payload, str(run)], env=os.environ | {"PYTHONPATH": str(place.folder)}, check=True
    )
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


class ModuleError(MemoryError):
    """A subclass, as libraries like to define them."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out_of_memory"),
        (ModuleError(), "out_of_memory"),
        (OSError("disk full"), "unknown"),
        (KeyboardInterrupt(), "unknown"),
        (type("JaxRuntimeError", (RuntimeError,), {})("UNAVAILABLE: the coordination service is gone"), "node"),
        (type("JaxRuntimeError", (RuntimeError,), {})("INTERNAL: whatever"), "unknown"),
        (type("VocabularyError", (ValueError,), {})("no file"), "config"),
    ],
)
def test_exceptions_are_classified_by_name(error: BaseException, kind: str) -> None:
    assert classify(error) == kind
