"""One real cell, top to bottom: it learns, it tells everything, and no interruption changes a bit of what it tells."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little_study import PATIENCE

from flanscale import identity, run
from flanscale.config.compose import Composer, load, save
from flanscale.run_directory import (
    METRICS_FILE,
    evaluations,
    read_records,
    read_result,
    read_rows,
    read_state,
    recorded,
)
from flanscale.tracking.keys import evaluation_row
from flanscale.tracking.tracker import Tracker

CELL = [
    "model=nano", "mixture.count=9", "cot=true", "tracker=disabled", "evaluation.items=2",
    "trainer.steps=60", "trainer.log_every=5", "trainer.checkpoint_every=10", "optimizer.warmup_steps=5",
]  # fmt: skip


CACHE = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).parent  # programs are compiled once for all tests


def make_cell(folder: Path, *overrides: str) -> Path:
    resolved = identity.resolve(Composer().compose([*CELL, f"paths.cache={CACHE}", *overrides]))
    directory = folder / identity.run_name(resolved)
    directory.mkdir(parents=True)
    save(resolved, directory)
    return directory


def execute(directory: Path, *, attempt: int = 1, should_stop: Callable[[], bool] = lambda: False) -> None:
    run.run(load(directory), directory, attempt=attempt, should_stop=should_stop)


def told(directory: Path) -> list[dict[str, Any]]:
    """The logged rows without what depends on the clock or on the attempt."""
    clock = {"time", "attempt", "train/tokens_per_second", "train/data_wait_fraction", "train/mfu"}
    rows = read_rows(directory)
    return [{key: value for key, value in row.items() if key not in clock} for row in rows]


def answered(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Line → the records of its items, of an evaluation that is over."""
    (suite,) = evaluations(directory)
    assert read_result(suite) is not None
    return {line: read_records(suite, line)[0] for line in recorded(suite)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_cell(tmp_path_factory.mktemp("finished"))
    execute(directory)
    return directory


def test_a_cell_learns_and_tells_its_mixture_its_loss_and_its_scores(finished: Path) -> None:
    rows = told(finished)
    mixture = rows[0]
    assert mixture["mixture/tasks"] == mixture["mixture/tasks_requested"] == 9
    assert (mixture["mixture/examples"], mixture["mixture/share/first"]) == (8100, 1.0)
    assert 0 < mixture["mixture/max_epochs"] < 1
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 12
    assert losses[0] > 3.0  # log of the vocabulary: 4.6
    assert losses[-1] < 2.5
    assert rows[-1]["step"] == 60
    assert rows[-1]["eval/normalized_average_members"] == ["procedural/direct", "procedural/cot"]
    assert rows[-1]["eval/procedural/cot/n"] == 96
    assert len(json.loads((finished / "mixture.json").read_text())["tasks"]) == 9


def test_every_item_that_was_asked_is_kept(finished: Path) -> None:
    rows = answered(finished)
    assert {line: len(records) for line, records in rows.items()} == {"procedural/direct": 96, "procedural/cot": 96}
    for line, records in rows.items():
        score = sum(record["scores"]["exact_match"] for record in records) / 96
        assert score == pytest.approx(told(finished)[-1][f"eval/{line}/score"])


def test_the_records_of_a_suite_and_its_result_are_those_that_are_logged(finished: Path) -> None:
    (suite,) = evaluations(finished)
    result = read_result(suite)
    assert result is not None
    logged = told(finished)[-1]
    assert evaluation_row(result) == {key: value for key, value in logged.items() if key != "step"}
    assert [line["name"] for line in result["lines"]] == ["procedural/direct", "procedural/cot"]
    assert (result["source"], result["precision"]) == (f"step 60 of {finished.name}", "float32")


@pytest.mark.parametrize("stops", [(7, 8, 31, 62, 65)])  # the last two before the first and before the second line
def test_a_cell_stopped_in_training_and_evaluation_tells_the_same(
    finished: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    from flanscale.errors import Preempted

    directory, done = make_cell(tmp_path), 0
    for attempt, stop in enumerate(stops, start=1):
        polls = iter(range(done + 1, 1000))
        with pytest.raises(Preempted):
            execute(directory, attempt=attempt, should_stop=lambda polls=polls, stop=stop: next(polls) >= stop)
        done = stop
    (suite,) = evaluations(directory)
    assert list(recorded(suite)) == ["procedural/direct"]
    execute(directory, attempt=len(stops) + 1)
    assert told(directory) == told(finished)
    assert answered(directory) == answered(finished)


def start_job(directory: Path) -> subprocess.Popen[bytes]:
    code = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1])"
    return subprocess.Popen([sys.executable, "-c", code, str(directory)])


def test_a_cell_killed_at_random_moments_tells_the_same(tmp_path: Path) -> None:
    undisturbed, directory = make_cell(tmp_path / "undisturbed"), make_cell(tmp_path)
    assert start_job(undisturbed).wait(timeout=240) == 0
    rng = random.Random(0)
    for _ in range(2):  # twenty in test_training_kills.py
        job, rows = start_job(directory), len(told(directory))
        while job.poll() is None and len(told(directory)) <= rows:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        job.kill()
        job.wait(timeout=PATIENCE)
    assert read_state(directory).state != "finished"
    assert start_job(directory).wait(timeout=240) == 0
    assert told(directory) == told(undisturbed)
    assert answered(directory) == answered(undisturbed)
    assert len((directory / METRICS_FILE).read_text().splitlines()) == len(told(undisturbed))


def test_without_tasks_nothing_is_trained_and_the_start_is_evaluated(tmp_path: Path) -> None:
    directory = make_cell(tmp_path, "mixture.count=0", "cot=false")
    execute(directory)
    rows = told(directory)
    assert [row["step"] for row in rows] == [0, 0]
    assert rows[-1]["eval/procedural/direct/score"] < 5.0
    assert not (directory / "checkpoints").exists()


@pytest.mark.data
def test_a_t5_learns_from_real_tasks(shared_data: Path, tmp_path: Path) -> None:
    directory = make_cell(
        tmp_path, "collection=niv2", f"data.niv2={shared_data / 'niv2'}", "tokenizer=t5", "model=t5_micro",
        "model.d_model=16", "model.n_layers=1", "cot=false", "evaluation=niv2", "evaluation.items=1",
        "evaluation.direct_tokens=4", "optimizer=adafactor", "optimizer.learning_rate=0.03", "trainer.steps=30",
        "trainer.batch_rows=4", "trainer.input_tokens=256", "evaluation.context=2048",
    )  # fmt: skip
    execute(directory)
    rows = told(directory)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses[-1] < losses[0] - 1.0
    name = "niv2_100_of_119"  # of the official test tasks
    assert {f"eval/{name}/direct/score", "eval/niv2_exact_match_100_of_119/direct/score"} <= rows[-1].keys()
    assert rows[-1]["eval/normalized_average_members"] == [f"{name}/direct"]


# --- what the training is given ----------------------------------------------------------------------------------


class Enough(Exception):
    """The training has been given what is to be looked at."""


def given_to_training(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """The first batch of a cell, and its validation rows."""
    given: dict[str, Any] = {}

    def train(model: Any, optimizer: Any, trainer: Any, batches: Any, **rest: Any) -> None:
        given.update(batch=next(batches), held_in=list(rest["validation"]()))
        raise Enough

    monkeypatch.setattr("flanscale.training.loop.train", train)
    with pytest.raises(Enough):
        execute(directory)
    return given["batch"], given["held_in"]


def test_the_tracker_hears_how_the_cell_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, close = [], Tracker.close

    def listening(tracker: Tracker, *, exit_code: int) -> None:
        heard.append(exit_code)
        close(tracker, exit_code=exit_code)

    monkeypatch.setattr(Tracker, "close", listening)
    execute(make_cell(tmp_path, "mixture.count=0", "cot=false"))
    given_to_training(monkeypatch, make_cell(tmp_path, "mixture.validation_examples=2"))
    assert heard == [0, 1]


@pytest.mark.parametrize("bos_id", [7, None])
def test_the_models_start_token_and_prefix_shape_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bos_id: int | None
) -> None:
    start = "null" if bos_id is None else bos_id
    directory = make_cell(tmp_path, f"model.bos_id={start}", "model.prefix_lm=true", "mixture.validation_examples=2")
    batch, held_in = given_to_training(monkeypatch, directory)
    for rows in (batch, *held_in):
        first = rows["decoder_input_tokens"][(rows["decoder_positions"] == 0) & (rows["decoder_segment_ids"] > 0)]
        assert (set(first.tolist()) == {7}) == (bos_id == 7)
        assert 0 < rows["decoder_prefix"].sum() < (rows["decoder_segment_ids"] > 0).sum()


@pytest.mark.parametrize("model", ["nano", "t5_micro"])
def test_a_mixture_of_denoisers_has_held_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    directory = make_cell(
        tmp_path, f"model={model}", "objective=ul2r", "tokenizer=bytes", "mixture.validation_examples=2",
        "trainer.input_tokens=128", "trainer.target_tokens=128",
    )  # fmt: skip
    _, held_in = given_to_training(monkeypatch, directory)
    assert sum(rows["decoder_loss_weights"].sum() for rows in held_in) > 0


# --- as a program ------------------------------------------------------------------------------------------------


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flanscale.run", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_cell_is_plain_hydra_and_tells_how_it_goes(tmp_path: Path) -> None:
    done = program(tmp_path, *CELL, "mixture.count=0", "cot=false", f"paths.cache={CACHE}")
    assert done.returncode == 0, done.stderr
    assert "attempt 1 finished" in done.stdout + done.stderr
    (directory,) = (tmp_path / "runs").glob("*-procedural-nano-0-direct-s0")
    assert read_state(directory).state == "finished"
    assert "seed: 0" in program(tmp_path, "--cfg", "job").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=nano"], "unknown key 'modle'; did you mean model"),
        (["trainer.steps=many"], "trainer.steps=many: "),
        (["seed=0,1"], "'seed=0,1' lists several values"),
        (["+sweep=quickstart"], "add --multirun"),
        (["--multirun", "+sweep=quickstrat"], "no study 'quickstrat'; did you mean quickstart?"),
        (["--multirun", "model=nanno", "seed=0,1"], "model=nanno: no such choice"),
        (["mixture.count=5000"], "mixture.count=5000, but procedural has 1836 training tasks"),
        (["model.logit_cap=0"], "model.logit_cap=0.0: must be more than 0"),
        (["collection=jsonl", "data.jsonl=nowhere", "tokenizer=bytes"], "nowhere"),
        (["init.hf=nowhere"], "init.hf=nowhere: no such"),
        (["seed=${oc.env:FLANSCALE_NO_SUCH}"], "Environment variable 'FLANSCALE_NO_SUCH' not found"),
        (["cluster.tasks_per_node=2"], "cluster=local runs a cell as one process"),
        (["paths.runs=/proc/runs"], "cannot write to /proc/runs"),
        (["model@trainer=nano"], "leave out @trainer"),
        (["seed"], "'seed' is not an override"),
        (["hydra/launcher=none"], "Could not find 'hydra/launcher/none'"),
        (["hydra/launcher=joblib"], "cluster.parallelism=N runs N at once here"),
        (["hydra.searchpath=[mine]"], "--config-dir DIR adds config groups"),
        (["hydra.jobs=1"], "Could not override 'hydra.jobs'"),
        (["--config-dir", "mine"], "--config-dir mine: no such folder"),
        (["--config-name", "mine"], "composed from conf/run.yaml"),
        (["--multirun", "--cfg", "job"], "only one at a time"),
        (["--multirum"], "unrecognized arguments: --multirum"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("--multirun", "+sweep=quickstart", "seed=zero"), ("mixture.count=5000",)])
def test_a_mistake_ends_the_program_so_too(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = program(tmp_path, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "content", "arguments", "message"),
    [
        ("tasks/ask.jsonl", "{", ["collection=jsonl", "data.jsonl=tasks", "tokenizer=bytes"], "ask.jsonl:1: not JSON"),
        ("weights/config.json", "{", ["init.hf=weights"], "weights/config.json"),
        ("weights.gguf", "junk", ["init.hf=weights.gguf"], "no GGUF file"),
    ],
)
def test_data_and_weights_that_are_no_good_leave_nothing_either(
    tmp_path: Path, file: str, content: str, arguments: list[str], message: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    done = program(tmp_path, *arguments, "mixture.count=1", "evaluation=none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [file.split("/")[0]]


def test_the_cell_that_is_shown_is_the_cell_that_would_run(tmp_path: Path) -> None:
    asked = ["mixture=paper_a", "tracker.project=1.10", "mixture.proportions={cot: 0.5}"]
    shown = [program(tmp_path, "--cfg", "job", *asked, "--package", part).stdout for part in ("mixture", "tracker")]
    assert "proportions:\n  cot: 0.5\nmax_per_task" in shown[0]
    assert "project: '1.10'\n" in shown[1]
