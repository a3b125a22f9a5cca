"""The doctor names what is there, what is not and what to do, and tells by its code whether studies can run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flanscale.orchestration.keeping import devices, doctor
from flanscale.orchestration.running import claim
from flanscale.schema import DataConfig, PathsConfig


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PathsConfig:
    """Folders of their own, and no program but those that a test puts on the path."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return PathsConfig(runs=str(tmp_path / "runs"), cache=str(tmp_path / "cache"))


def program(tmp_path: Path, name: str, prints: str, code: int = 0) -> None:
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{prints}'\nexit {code}\n")
    path.chmod(0o755)


def examined(places: PathsConfig, data: DataConfig | None = None) -> dict[str, doctor.Finding]:
    return {finding.item: finding for finding in doctor.examine(places, data or DataConfig())}


def test_a_plain_machine_lacks_nothing_necessary(places: PathsConfig) -> None:
    found = examined(places)
    assert not [finding for finding in found.values() if finding.state == doctor.MISSING]
    assert {"python", "jax", "gpu", "cores", "memory", "runs", "cache", "claims", "clock", "slurm"} <= found.keys()
    assert found["wandb login"].state == doctor.WARN
    assert not Path(places.runs).exists(), "it looks, and makes nothing"


def test_gpus_that_jax_cannot_use_are_said(places: PathsConfig, tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", "NVIDIA A100, 81920 MiB, 550.1\nNVIDIA A100, 81920 MiB, 550.1")
    gpu = examined(places)["gpu"]
    assert gpu.found == "2 × NVIDIA A100, 81920 MiB, 550.1"
    assert (gpu.state, "flanscale[cuda]" in gpu.advice) == (doctor.WARN, True)


def test_slurm_is_described(places: PathsConfig, tmp_path: Path) -> None:
    program(tmp_path, "sbatch", "slurm 23.11.4")
    program(tmp_path, "scontrol", "MaxArraySize            = 1001\nMaxJobCount             = 10000")
    program(tmp_path, "sinfo", "gpu* up 4 1-00:00:00\nold down 1 infinite")
    program(tmp_path, "sacct", "Slurm accounting storage is disabled", code=1)
    found = examined(places)
    assert found["slurm"].found == "slurm 23.11.4, MaxArraySize 1001, MaxJobCount 10000"
    assert found["partitions"].found == "gpu* (4 nodes, 1-00:00:00)"
    assert found["accounting"].state == doctor.WARN


def test_a_controller_that_does_not_answer_is_said(places: PathsConfig, tmp_path: Path) -> None:
    program(tmp_path, "sbatch", "slurm 23.11.4")
    program(tmp_path, "scontrol", "Unable to contact slurm controller", code=1)
    slurm = examined(places)["slurm"]
    assert (slurm.state, slurm.found) == (doctor.WARN, "slurm 23.11.4, but its controller does not answer")


def test_data_that_are_not_there_are_missing(places: PathsConfig, tmp_path: Path) -> None:
    (tmp_path / "cot").mkdir()
    found = examined(places, DataConfig(cot=str(tmp_path / "cot"), niv2=str(tmp_path / "niv2")))
    assert found["data.cot"].state == doctor.OK
    assert (found["data.niv2"].state, found["data.niv2"].necessary) == (doctor.MISSING, True)
    assert found["vocabulary"].state == doctor.WARN


def test_a_file_system_without_hard_links_cannot_hold_runs(
    places: PathsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(claim.os, "link", refuse)
    found = examined(places)["claims"]
    assert (found.state, found.necessary) == (doctor.MISSING, True)
    assert "Operation not supported" in found.advice


def test_a_clock_that_is_off_is_said(places: PathsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = doctor.file_clock
    monkeypatch.setattr(doctor, "file_clock", lambda folder: clock(folder) + 300)
    found = examined(places)["clock"]
    assert (found.state, found.found) == (doctor.WARN, "+300.0 s from the file system's")


def test_a_jax_that_hangs_or_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "QUESTION", "import time; time.sleep(60)")
    with pytest.raises(devices.NoAnswer, match=r"did not answer within 0 s"):
        devices.devices_here(patience=0.2)
    monkeypatch.setattr(devices, "QUESTION", "raise RuntimeError('no backend')")
    with pytest.raises(devices.NoAnswer, match=r"^RuntimeError: no backend$"):
        devices.devices_here()
    monkeypatch.setattr(devices, "QUESTION", "import json; print('noise'); print(json.dumps(['cpu:0 cpu']))")
    assert devices.devices_here() == ["cpu:0 cpu"]


def test_its_code_says_whether_something_necessary_is_missing(tmp_path: Path) -> None:
    def doctor_says(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flanscale.cli.main", "doctor", *arguments]
        environment = os.environ | {"WANDB_API_KEY": "hunter2"}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    well = doctor_says("--json")
    assert well.returncode == 0
    assert {"item": "wandb login", "state": "ok", "found": "from WANDB_API_KEY", "advice": "", "necessary": False} in (
        json.loads(well.stdout)
    )
    assert "hunter2" not in well.stdout
    ill = doctor_says("data.root=/gone")
    assert ill.returncode == 1
    assert any(line.startswith("✘ missing data.root") for line in ill.stdout.splitlines())
    wrong = doctor_says("trainer.steps=1")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
