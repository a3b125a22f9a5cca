"""A small fault campaign, and the proof that its checks see what they are there for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy_cells
import pytest
from machines import Machines

from flanscale.config.compose import Composer
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.run_directory import METRICS_FILE, RunState, write_state

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
import fault_campaign  # noqa: E402

pytestmark = pytest.mark.slurm


@pytest.mark.slow
@pytest.mark.parametrize("shared", [(), ("--cells-per-job", "4", "--cells-at-once", "2")], ids=["alone", "shared"])
def test_a_study_under_random_faults_ends_as_if_there_had_been_none(
    tmp_path: Path, machines: Machines, shared: tuple[str, ...]
) -> None:
    given = fault_campaign.parsed(["--cells", "24", "--minutes", "15", *shared])
    assert fault_campaign.campaign(given, tmp_path / "campaign", machines) == 0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished cell."""
    cell = Composer().compose(
        ["model=nano", "mixture.count=9", "tracker=disabled", "trainer.steps=6", f"paths.runs={tmp_path / 'runs'}"]
    )
    run = create_run_dir(cell)
    numpy_cells.run(cell, run, attempt=1, should_stop=lambda: False, step_seconds=0.0)
    write_state(run, RunState(state="finished", attempt=1))
    return run


def wrong(run: Path, tmp_path: Path, cells: int = 1) -> set[str]:
    found = fault_campaign.wrongs([run], cells, tmp_path / "undisturbed", real=False)
    return {name for name, names in found.items() if names}


def test_nothing_is_wrong_with_a_cell_that_ran_to_its_end(run: Path, tmp_path: Path) -> None:
    assert wrong(run, tmp_path) == set()


def test_a_row_that_is_there_twice_is_seen(run: Path, tmp_path: Path) -> None:
    rows = (run / METRICS_FILE).read_text()
    (run / METRICS_FILE).write_text(rows + rows.splitlines(keepends=True)[2])
    assert wrong(run, tmp_path) == {"rows logged twice"}


def test_a_parameter_that_differs_in_its_last_bit_is_seen(run: Path, tmp_path: Path) -> None:
    step, weights, momentum = numpy_cells.restore(run)
    weights.view("int64")[0] ^= 1
    numpy_cells.save(run, step, weights, momentum)
    assert wrong(run, tmp_path) == {"other parameters"}


def test_a_cell_that_is_missing_or_unfinished_is_seen(run: Path, tmp_path: Path) -> None:
    assert wrong(run, tmp_path, cells=2) == {"lost"}
    write_state(run, RunState(state="preempted", attempt=1))
    assert wrong(run, tmp_path / "again") == {"lost"}
