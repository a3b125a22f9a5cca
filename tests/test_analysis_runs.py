"""What the tidy table promises, wherever a study's runs are read from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from synthetic_study import AXES, write_study

from analysis import runs, sources
from analysis.runs import AnalysisError
from analysis.scores import AVERAGE
from flanscale.run_directory import read_rows


def test_the_table_has_a_row_per_point_and_measured_setting(tmp_path: Path) -> None:
    table = runs.table(sources.from_directories(write_study(tmp_path, records=False)))
    points = math.prod(len(values) for values in AXES.values())
    assert len(table) == points * 3  # direct, cot, and the normalized average
    row = table.query("model == 'micro' and count == 89 and cot and seed == 1 and setting == 'cot'").iloc[0]
    assert row["benchmark"] == "procedural"
    assert row["state"] == "finished"
    assert row["tasks"] == 89
    assert row["score"] == pytest.approx(row["normalized"])
    assert row["score"] > 20


@pytest.mark.parametrize("state", ["missing", "failed", "running", "queued"])
def test_a_run_without_a_score_stays_in_the_table_and_says_why(tmp_path: Path, state: str) -> None:
    study = sources.from_directories(write_study(tmp_path, records=False, states={7: state}))
    table = runs.table(study)
    rows = table[table["cell"] == study.points[7].cell]
    assert len(rows) == 3
    assert rows["normalized"].isna().all()
    assert set(rows["state"]) == {state}
    [(point, record)] = study.incomplete()
    assert (point, record.state) == (study.points[7], state)
    assert (record.failure is not None) == (state == "failed")


def test_a_study_without_any_score_still_lists_its_points(tmp_path: Path) -> None:
    table = runs.table(
        sources.from_directories(write_study(tmp_path, records=False, states=dict.fromkeys(range(40), "planned")))
    )
    assert len(table) == 40
    assert table["score"].isna().all()


def test_a_damaged_run_is_listed_as_damaged_and_costs_the_others_nothing(tmp_path: Path) -> None:
    index = write_study(tmp_path, records=False)
    point = json.loads(index.read_text())["points"][9]
    metrics = tmp_path / "runs" / point["run"] / "metrics.jsonl"
    metrics.write_text("not json\n" + metrics.read_text())
    [(_, record)] = sources.from_directories(index).incomplete()
    assert record.state == "damaged"
    assert "metrics.jsonl:1" in (record.failure or "")


def test_one_cell_may_serve_several_points(tmp_path: Path) -> None:
    study = sources.from_directories(write_study(tmp_path, records=False))
    baseline = [point for point in study.points if point.axes["mixture.count"] == 0 and point.axes["seed"] == 0]
    assert len({point.cell for point in baseline if point.axes["model"] == "nano"}) == 1
    assert len(study.records) == 36 < len(study.points) == 40


def test_an_axis_that_the_study_does_not_vary_is_read_from_the_config(tmp_path: Path) -> None:
    axes = {"mixture.count": [8, 64], "seed": [0, 1], "optimizer.learning_rate": [0.1, 0.2]}
    table = runs.table(sources.from_directories(write_study(tmp_path, records=False, axes=axes)))
    assert set(table["model"]) == {"nano"}
    assert not table["cot"].any()
    assert set(table["optimizer.learning_rate"]) == {0.1, 0.2}


def test_what_the_study_does_not_vary_is_one_value_for_all_cells(tmp_path: Path) -> None:
    """Neither a run that is missing nor the untouched checkpoint, resolved to cot=False, starts a curve of its own."""
    index = write_study(tmp_path, axes={"mixture.count": [0, 9, 89], "seed": [0]}, states={1: "missing"}, records=False)
    for config in (tmp_path / "runs").glob("*-89-*/config.yaml"):
        config.write_text(config.read_text().replace("cot: false", "cot: true"))
    table = runs.table(sources.from_directories(index))
    assert set(table["model"]) == {"nano"}
    assert table["cot"].all()


def test_cells_that_got_fewer_tasks_than_asked_for_are_told(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes={"mixture.count": [9, 89], "seed": [0]}, records=False)
    [metrics] = (tmp_path / "runs").glob("*-89-*/metrics.jsonl")
    metrics.write_text(metrics.read_text().replace('"mixture/tasks": 89', '"mixture/tasks": 80'))
    [point] = sources.from_directories(index).short()
    assert point.axes["mixture.count"] == 89


def test_sizes_are_ordered_by_their_parameters_not_by_the_axis(tmp_path: Path) -> None:
    study = sources.from_directories(write_study(tmp_path, records=False, axes=AXES | {"model": ["micro", "nano"]}))
    assert list(study.models) == ["nano", "micro"]
    assert list(replace(study, parameters={}).models) == ["micro", "nano"]


def test_the_average_carries_the_raw_mean_of_its_members(tmp_path: Path) -> None:
    study = sources.from_directories(write_study(tmp_path, records=False, lower_bound=10.0))
    found = study.scored[study.points[-1].cell].found
    direct, cot = found["procedural", "direct"], found["procedural", "cot"]
    assert found[AVERAGE]["score"] == pytest.approx((direct["score"] + cot["score"]) / 2)
    assert found[AVERAGE]["normalized"] == pytest.approx((direct["normalized"] + cot["normalized"]) / 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no study index at"),
        ("{", "line 1: not JSON"),
        ('{"format": 2}', "not a study index of format 1"),
        ('{"format": 1, "study": "empty", "points": []}', "study empty has no points"),
        ('{"format": 1, "study": "s", "runs": "../runs", "points": [{}]}', "is damaged: no 'axes' in it"),
    ],
)
def test_a_bad_index_is_one_clear_line(tmp_path: Path, text: str | None, message: str) -> None:
    index = tmp_path / "study.json"
    if text is not None:
        index.write_text(text)
    with pytest.raises(AnalysisError, match=message) as error:
        sources.from_directories(index)
    assert "\n" not in str(error.value)


def as_api_run(study: runs.Study, cell: str) -> SimpleNamespace:
    """A run as `wandb.Api` returns it: underscored step and times, rows by step, a history that is asked for."""
    record = study.records[cell]
    run = next(point.run for point in study.points if point.cell == cell)
    rows = sources.merged(read_rows(study.folder / run))
    history = [{"_step": row.pop("step"), "_timestamp": 1.0, "_runtime": 2} | row for row in rows]
    return SimpleNamespace(id=cell, state="finished", config=dict(record.config), scan_history=lambda: iter(history))


def test_the_api_gives_the_same_study_and_a_query_that_misses_runs_shows_as_missing_cells(tmp_path: Path) -> None:
    index = write_study(tmp_path, records=False)
    local = sources.from_directories(index)
    asked = {}

    def query(project: str, filters: dict[str, str]) -> list[SimpleNamespace]:
        asked.update(project=project, filters=filters)
        return [as_api_run(local, cell) for cell in list(local.records)[1:]]

    online = sources.from_wandb_api(index, "team/flanscale", SimpleNamespace(runs=query))
    assert asked == {"project": "team/flanscale", "filters": {"name": {"$in": list(local.records)}}}
    lost, *rest = local.records
    assert online.records[lost] == runs.missing(lost)
    assert all(online.records[cell] == local.records[cell] for cell in rest)


def test_a_run_that_crashed_on_the_server_is_failed(tmp_path: Path) -> None:
    index = write_study(tmp_path, records=False)
    run = as_api_run(sources.from_directories(index), sources.from_directories(index).points[0].cell)
    run.state = "crashed"
    online = sources.from_wandb_api(index, "p", SimpleNamespace(runs=lambda *_, **__: [run]))
    assert online.records[run.id].state == "failed"
    assert online.records[run.id].failure == "W&B state crashed"


def test_averages_of_other_suites_and_chosen_checkpoints_are_panels_of_their_own(tmp_path: Path) -> None:
    index = write_study(tmp_path, records=False, axes=AXES | {"model": ["nano"]})
    for metrics in (tmp_path / "runs").glob("*/metrics.jsonl"):
        *rows, last = [json.loads(line) for line in metrics.read_text().splitlines()]
        chosen = {key.replace("/direct/", "/direct@best_checkpoint/"): last[key] for key in last if "/direct/" in key}
        name = "eval/normalized_average@best_checkpoint"
        chosen |= {name: 12.5, f"{name}_stderr": 0.5, f"{name}_members": ["procedural/direct"]}
        chosen[f"{name}_prompts"] = "00"
        metrics.write_text("".join(json.dumps(row) + "\n" for row in [*rows, last | chosen]))
    table = runs.table(sources.from_directories(index))
    assert set(table.query("benchmark == 'normalized_average'")["setting"]) == {"all", "best_checkpoint"}
    assert set(table.query("setting == 'best_checkpoint'")["normalized"]) == {12.5}
