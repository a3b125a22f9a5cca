"""Cost before launching: by runs of the same size where there are some, else by an assumption that is printed."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from little_study import Workplace, open_workplace
from rich.console import Console

from flanscale.config.compose import Composer, save
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.cost import Pace, cost_of, devices, estimate, finished_runs, pace_of, size_of
from flanscale.orchestration.planning.plan import Cell
from flanscale.orchestration.planning.preview import Preview, check_budget, print_cell, print_plan
from flanscale.run_directory import CONFIG_FILE, RunState, write_state
from flanscale.schema import RunConfig

H100 = ("cluster.chip=h100", "cluster.mfu=0.5")
PEAK = 989.4e12


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def finish(directory: Path, made: RunConfig, *, seconds: float, per_step: float) -> None:
    """A run directory as a finished run leaves it: a quarter of its rows was padding."""
    directory.mkdir(parents=True)
    save(made, directory)
    write_state(directory, RunState(state="finished", attempt=1, seconds=seconds))
    slots = made.trainer.batch_rows * (made.trainer.input_tokens + made.trainer.target_tokens)
    row = {"step": 10, "train/tokens_per_second": slots * 0.75 / per_step, "train/pad_fraction": 0.25}
    (directory / "metrics.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"step": 20, "eval/x": 1.0}) + "\n")


def finish_cell(place: Workplace, cell: Cell, **measured: float) -> None:
    finish(place.folder / "runs" / cell.run, cell.config, **measured)


def said(place: Workplace, *overrides: str) -> str:
    console = Console(file=StringIO(), width=200)
    print_plan(place.plan(*overrides), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- seconds ------------------------------------------------------------------------------------------------------


def test_a_cell_takes_its_steps_at_the_logged_throughput_and_what_is_around_them(place: Workplace) -> None:
    plan = place.plan()
    finish_cell(place, plan.cells[0], seconds=25.0, per_step=1.0)  # 20 steps
    guesses = Preview.of(plan).estimates
    assert set(guesses) == {cell.id for cell in plan.cells[1:]}
    for guess in guesses.values():
        assert guess is not None
        assert (guess.seconds, guess.basis) == (pytest.approx(25.0), "measured")


def test_runs_of_other_studies_count_if_they_are_of_the_same_size(place: Workplace) -> None:
    (longer,) = place.plan("mixture.count=282", "seed=5", "trainer.steps=40").cells
    finish_cell(place, longer, seconds=90.0, per_step=2.0)
    (guess, *_) = Preview.of(place.plan()).estimates.values()
    assert guess is not None
    assert (guess.seconds, guess.basis) == (pytest.approx(20 * 2.0 + 10.0), "measured")


@pytest.mark.parametrize("other", ["trainer.batch_rows=64", "model.d_ff=128", "trainer.precision=bfloat16"])
def test_runs_of_another_size_do_not_count(place: Workplace, other: str) -> None:
    (cell,) = place.plan("mixture.count=282", "seed=5", other).cells
    finish_cell(place, cell, seconds=90.0, per_step=2.0)
    assert not any(Preview.of(place.plan()).estimates.values())


def test_a_damaged_run_directory_is_passed_by(place: Workplace) -> None:
    plan = place.plan()
    broken = place.folder / "runs" / "0000000000-procedural-nano-9-direct-s9"
    broken.mkdir(parents=True)
    (broken / CONFIG_FILE).write_text("model: [")
    assert list(finished_runs(plan.runs, plan.cells[0].config)) == []


def test_a_run_that_has_trained_nothing_has_no_pace() -> None:
    assert pace_of([]) is None
    assert Pace(2.0, 5.0, 1).seconds(0) == 5.0


def test_without_a_measurement_the_chips_peak_and_the_assumed_share_of_it_decide() -> None:
    cell = Composer().compose(["model=t5_xl", "trainer=paper_t5", *H100, "trainer.mesh.fsdp=8"])
    cost = cost_of(cell)
    guess = estimate(cell, cost, None, 1.0)
    assert guess is not None
    assert guess.seconds == pytest.approx(cost.flops / (8 * PEAK * 0.5))
    assert guess.device_hours == pytest.approx(cost.flops / (PEAK * 0.5) / 3600)
    assert (guess.basis, guess.devices, devices(cell)) == ("mfu", 8, 8)


def test_the_papers_largest_finetuning_takes_the_papers_37_hours() -> None:
    """arXiv:2210.11416, §2.2 and Table 22: 21k steps of 32 rows on 512 TPU v4, 0.2 % of the pretraining's compute."""
    lengths = ["trainer.steps=21000", "trainer.batch_rows=32", "trainer.input_tokens=2048", "trainer.target_tokens=512"]
    cell = Composer().compose(["model=palm_540b", "cluster.chip=tpu_v4", *lengths])
    cost = cost_of(cell)
    assert cost.flops == pytest.approx(5.6e21, rel=0.05)
    guess = estimate(cell, cost, None, None)
    assert guess is not None
    assert guess.device_hours / 512 == pytest.approx(37, rel=0.1)


def test_the_size_is_that_of_a_step_and_not_of_a_run() -> None:
    plain = Composer().compose([])
    assert size_of(plain) == size_of(Composer().compose(["trainer.steps=3", "seed=4", "mixture.count=9", "cot=true"]))
    assert size_of(plain) != size_of(Composer().compose(["trainer.mesh.fsdp=2"]))


# --- what is said ---------------------------------------------------------------------------------------------------


def test_the_plan_sums_what_is_done_and_what_is_missing(place: Workplace) -> None:
    plan = place.plan()
    finish_cell(place, plan.cells[0], seconds=3600.0, per_step=1.0)
    text = said(place)
    assert "device-hours: 1 spent, 3 to start (measured on finished runs of the same size)" in text
    assert "4 points, 4 distinct cells, 1 done; to do: " in text


def test_nothing_measured_and_no_chip_says_nothing_about_hours(place: Workplace) -> None:
    assert "device-hours" not in said(place)


def test_an_assumption_is_printed(place: Workplace) -> None:
    assert "assuming an MFU of 50% (cluster.mfu)" in said(place, *H100)


def test_prices_become_a_bill(place: Workplace) -> None:
    plan = place.plan()
    finish_cell(place, plan.cells[0], seconds=3600.0, per_step=1.0)
    text = said(place, "cluster.dollars_per_hour=2.5", "cluster.watts=700")
    assert "still to pay: 7.50 dollars, 2.1 kWh" in text


def test_the_plan_says_how_long_so_many_at_once_take(place: Workplace) -> None:
    plan = place.plan()
    finish_cell(place, plan.cells[0], seconds=3600.0, per_step=1.0)
    assert "at once" not in said(place), "where nobody says how many"
    for most, long in ((1, "3 h 00 min"), (2, "1 h 30 min"), (9, "1 h 00 min")):
        told = f"about {long} with {most} cells at once (cluster.parallelism), without waiting in queues"
        assert told in said(place, f"cluster.parallelism={most}")


def test_the_plan_shows_the_memory_of_a_known_chip_and_what_would_fit(place: Workplace) -> None:
    assert "GiB" in said(place, *H100).splitlines()[1]
    big = ("model=t5_xl", "optimizer=adafactor", "trainer.batch_rows=64", "mixture.count=9", "seed=0")
    text = said(place, *big, "trainer.input_tokens=1024", "trainer.target_tokens=256", "cluster.chip=a100")
    assert "does not fit: " in text
    assert "would fit: " in text
    assert "trainer.mesh.fsdp=" in text


def test_a_single_cell_is_planned_without_data_or_study(place: Workplace) -> None:
    console = Console(file=StringIO(), width=200)
    given = ["model=palm_540b", "optimizer=adafactor", "trainer=upalm", "model.remat=full", "cluster.chip=tpu_v4"]
    print_cell(given, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "540 G parameters; 20,000 steps" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("tpu_v4")]
    assert rows[0][:3] == ["tpu_v4", "full", "256"]


# --- the budget -------------------------------------------------------------------------------------------------------


def test_a_budget_refuses_what_is_beyond_it_and_nothing_else(place: Workplace) -> None:
    plan = place.plan()
    finish_cell(place, plan.cells[0], seconds=3600.0, per_step=1.0)
    check_budget(plan, 3.01)
    with pytest.raises(ConfigError, match=r"--budget 2: the 3 cells to start need 3 device-hours \(measured\), 1 more"):
        check_budget(plan, 2)


def test_a_budget_refuses_what_nobody_can_tell(place: Workplace) -> None:
    with pytest.raises(ConfigError, match=r"--budget 5: nothing says how long these cells take; give cluster\.chip"):
        check_budget(place.plan(), 5)
