"""A run is made again: what differs is named, the folder recreates it, and results are compared bit for bit."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flanscale.cli.main import app
from flanscale.config.compose import Composer, save
from flanscale.errors import ConfigError
from flanscale.identity import resolve, run_name
from flanscale.orchestration.keeping import replay, rerun
from flanscale.orchestration.keeping.devices import NoAnswer
from flanscale.orchestration.running.provenance import record_attempt
from flanscale.run_directory import CONFIG_FILE, PROVENANCE_FILE
from flanscale.run_directory.evaluations import close_records

CELL = resolve(Composer().compose(["model=nano", "tracker=online", "trainer.steps=4", "mixture.count=9"]))


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of fake cells, as an attempt on one CPU left it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rerun, "devices_here", lambda: ["cpu:0 cpu"])
    cell = copy.deepcopy(CELL)
    cell.cluster.environment = {"MY_TOKEN": "hunter2"}
    folder = tmp_path / "runs" / run_name(cell)
    folder.mkdir(parents=True)
    save(cell, folder)
    record_attempt(folder, 1)
    change(folder, devices=["cpu:0 cpu"])
    rows = [{"step": step, "attempt": 1, "time": 0.0, "train/loss": 1.0 / step} for step in range(1, 5)]
    scores = {"eval/normalized_average": 50.0, "eval/normalized_average_stderr": 1.0}
    rows.append({"step": 4, "attempt": 1, "time": 0.0, **scores})
    write_rows(folder, rows)
    return folder


def change(run_dir: Path, **values: Any) -> None:
    """Make the provenance say something else."""
    document = json.loads((run_dir / PROVENANCE_FILE).read_text())
    document["attempts"][-1] |= values
    (run_dir / PROVENANCE_FILE).write_text(json.dumps(document))


def write_rows(run_dir: Path, rows: list[dict[str, Any]]) -> None:
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def differing(run_dir: Path) -> dict[str, tuple[str, str]]:
    return {one.what: (one.then, one.now) for one in rerun.differences(run_dir, rerun.last_attempt(run_dir))}


def test_nothing_differs_where_it_was_made(run_dir: Path) -> None:
    assert differing(run_dir) == {}


def test_every_kind_of_difference_is_named(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = rerun.last_attempt(run_dir).packages
    change(
        run_dir,
        python="3.9.1",
        flanscale="0.0.1",
        packages=packages | {"numpy": "1.0", "Left_Pad": "2.0"},
        code={"commit": "c0ffee", "diff_sha256": "a" * 64},
        devices=["cuda:0 H100"],
        jax_environment=rerun.last_attempt(run_dir).jax_environment | {"XLA_FLAGS": "--x"},
    )
    text = (run_dir / CONFIG_FILE).read_text()
    fingerprint = CELL.fingerprints["wordings"]
    (run_dir / CONFIG_FILE).write_text(text.replace(fingerprint, "f" * 16))
    found = differing(run_dir)
    assert found["python"][0] == "3.9.1"
    assert found["flanscale"][0] == "0.0.1"
    assert found["numpy"] == ("1.0", packages["numpy"])
    assert found["Left_Pad"] == ("2.0", "not installed")
    assert found["commit"][0] == "c0ffee"
    assert found["uncommitted"][0] == "diff aaaaaaaaaaaa"
    assert found["devices"] == ("cuda:0 H100", "cpu:0 cpu")
    assert found["XLA_FLAGS"] == ("--x", "not set")
    assert found["fingerprint of wordings"] == ("f" * 16, fingerprint)
    assert "identity of the cell" not in found, "it is the same cell with the data as they are now"


def test_data_that_are_gone_and_a_jax_that_is_silent_are_said(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> list[str]:
        raise NoAnswer("JAX did not answer within 60 s")

    monkeypatch.setattr(rerun, "devices_here", silent)
    text = (run_dir / CONFIG_FILE).read_text()
    (run_dir / CONFIG_FILE).write_text(text.replace("  hf: null", "  hf: /gone"))
    found = differing(run_dir)
    assert "cannot be checked" in found["data and configuration"][1]
    assert "/gone" in found["data and configuration"][1]
    assert found["devices"][1] == "unknown: JAX did not answer within 60 s"


def test_the_folder_recreates_the_run(run_dir: Path, tmp_path: Path) -> None:
    change(run_dir, elsewhere={"numpy": "file:///wheels/numpy"})
    done = CliRunner().invoke(app, ["rerun", run_dir.name[:6], "--to", "again"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "again"
    lines = (folder / "requirements.txt").read_text().splitlines()
    versions = rerun.last_attempt(run_dir).packages
    assert f"jax=={versions['jax']}" in lines
    assert f"# numpy=={versions['numpy']} came from file:///wheels/numpy" in lines
    assert not [line for line in lines if "://" in line and not line.startswith("#")]
    assert not [line for line in lines if line.lower().startswith("flanscale")]
    assert "hunter2" not in (folder / CONFIG_FILE).read_text()
    assert "mode: disabled" in (folder / CONFIG_FILE).read_text()
    commit = rerun.last_attempt(run_dir).code.commit
    assert f"checkout --quiet {commit}" in (folder / "cell.sh").read_text()
    subprocess.run(["bash", "-n", str(folder / "cell.sh")], check=True)
    assert run_dir.name in (folder / "README.md").read_text()

    done = CliRunner().invoke(app, ["rerun", run_dir.name[:6], "--to", "again"])
    assert "again is not empty" in str(done.exception)


def test_check_writes_nothing_and_tells_by_its_code(run_dir: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["rerun", run_dir.name, "--check"]).exit_code == 0
    change(run_dir, python="3.9.1")
    done = CliRunner().invoke(app, ["rerun", run_dir.name, "--check"])
    assert done.exit_code == 1
    assert "3.9.1" in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_a_repeated_run_is_equal_or_its_deviations_are_measured(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    again = replay.run_again(run_dir, tmp_path / "again", runner="fake_cells")
    assert replay.deviations(run_dir, again) == []
    with pytest.raises(ConfigError, match="is there already"):
        replay.run_again(run_dir, tmp_path / "again", runner="fake_cells")

    rows = [json.loads(line) for line in (again / "metrics.jsonl").read_text().splitlines()]
    rows[2]["train/loss"] += 0.25
    rows[-1]["eval/extra"] = 1.0
    write_rows(again, [row | {"train/tokens_per_second": 5.0} for row in rows])
    found = {one.what: one for one in replay.deviations(run_dir, again)}
    assert found.keys() == {"train/loss", "eval/extra"}
    assert str(found["train/loss"]) == "train/loss: 1 of 4 differ, by at most 0.25, from step 3 on"
    assert str(found["eval/extra"]) == "eval/extra: 1 of 1 differ, from step 4 on"


def test_answers_are_compared_item_by_item(run_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for folder, answers in ((run_dir, "abc"), (other, "axc")):
        folder.mkdir(exist_ok=True)
        close_records(
            folder / "evaluations" / "flan-0", "mmlu/cot", [{"key": "1", "answer": answer} for answer in answers]
        )
    (other / "metrics.jsonl").write_bytes((run_dir / "metrics.jsonl").read_bytes())
    (one,) = replay.deviations(run_dir, other)
    assert str(one) == "evaluations/flan-0/mmlu/cot: 1 of 3 differ"


def test_a_run_that_fails_again_says_why(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    text = (run_dir / CONFIG_FILE).read_text()
    (run_dir / CONFIG_FILE).write_text(text.replace("seed: 0\ncot", "seed: 91\ncot"))
    with pytest.raises(ConfigError, match=r"is failed \(task0001: no instances\)"):
        replay.run_again(run_dir, tmp_path / "again", runner="fake_cells")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / PROVENANCE_FILE).unlink(), "has no provenance.json"),
        (lambda run: (run / PROVENANCE_FILE).write_text("{"), "cannot be read"),
        (lambda run: (run / PROVENANCE_FILE).write_text('{"format": 3, "attempts": []}'), "newer flanscale"),
        (lambda run: (run / CONFIG_FILE).unlink(), "not a run directory"),
    ],
)
def test_a_run_that_cannot_be_recreated_is_one_line(run_dir: Path, damage: Any, message: str) -> None:
    damage(run_dir)
    with pytest.raises(ConfigError, match=message):
        rerun.last_attempt(run_dir)


def test_code_that_is_gone_is_said_before_anything_is_written(run_dir: Path, tmp_path: Path) -> None:
    attempt = rerun.last_attempt(run_dir)
    attempt = replace(attempt, code=replace(attempt.code, diff="code.gone.diff.gz"))
    with pytest.raises(ConfigError, match=r"code.gone.diff.gz is gone"):
        rerun.write_folder(run_dir, attempt, [], tmp_path / "again")
    assert not (tmp_path / "again").exists()
