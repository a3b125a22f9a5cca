"""On a real Slurm: one array that is submitted once, with nothing of an enclosing job in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from little_study import Workplace, attempts, open_workplace

from flanscale.run_directory import read_state

pytestmark = pytest.mark.slurm
SMALL = ("cluster=slurm", "cluster.cpus=1", "cluster.gpus=0", "cluster.timeout_minutes=60")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def test_a_study_is_one_array_that_is_submitted_once(place: Workplace) -> None:
    first = place.launched("little", *SMALL, "seed=0,93")
    assert first.returncode == 0, first.stderr
    assert "submitted 4 cells to Slurm" in first.stdout
    assert "watch with: flanscale status little --watch" in first.stdout
    again = place.launched("--wait", "little", *SMALL, "seed=0,93")
    assert "submitted" not in again.stdout
    assert again.returncode == 1
    assert sorted(place.statuses().values()) == ["failed", "failed", "finished", "finished"]
    jobs = [read_state(run).job or "" for run in place.runs()]
    assert len({job.split("_")[0] for job in jobs}) == 1
    assert all(len(attempts(run)) == 1 for run in place.runs())


def test_what_an_enclosing_job_left_in_the_environment_does_not_leak(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")  # overrides the script's own options, were it passed on
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPU_BIND", "map_cpu:0")
    result = place.launched("--wait", "little", *SMALL, "mixture.count=9", "seed=0", "trainer.steps=1")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_with_accounting_sacct_knows_what_has_run(tmp_path: Path) -> None:
    script = Path(__file__).with_name("cluster.sh")
    own = {"SLURM_TEST_ACCT": "1", "SLURM_TEST_PORT": "27817", "SLURM_TEST_DIR": str(tmp_path / "slurm")}
    ask = f'eval "$({script} env)" && sbatch -W -o /dev/null --wrap true && sleep 3 && sacct -nXPo State'
    command = [str(script), "with", "bash", "-c", ask]
    told = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "COMPLETED"
