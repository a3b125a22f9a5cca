"""The same study from every source, read again only where something changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic_study import AXES, write_study

from analysis import csv_table, panels, report, sources
from analysis.runs import AnalysisError, Study, table

SMALL = AXES | {"model": ["nano"], "mixture.count": [0, 9, 89]}
NUMBERS = ["model", "count", "cot", "seed", "benchmark", "setting", "score", "stderr", "n", "lower_bound", "normalized"]


def same(one: Study, other: Study) -> bool:
    pd.testing.assert_frame_equal(table(one)[NUMBERS], table(other)[NUMBERS], check_dtype=False, rtol=1e-12)
    return True


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_study(tmp_path, axes=SMALL, records=False, states={5: "failed"}, lower_bound=10.0)


def test_a_table_file_gives_the_same_study_with_its_index_and_without(index: Path, tmp_path: Path) -> None:
    study = sources.read(index)
    file = tmp_path / "quickstart.csv"
    csv_table.write_csv(study, file)
    with_index = sources.read(index, f"csv:{file}")
    alone = csv_table.from_csv(file)
    assert same(study, with_index)
    assert same(study, alone)
    assert (with_index.title, alone.title) == (study.title, "quickstart")
    assert alone.models == study.models
    assert [record.state for _, record in alone.incomplete()] == ["failed"]


def test_the_report_of_a_table_file_has_the_same_tables(index: Path, tmp_path: Path) -> None:
    built = report.build(index, tmp_path / "one")
    again = report.build(index, tmp_path / "other", f"csv:{built.runs}")
    for name in ("figure_png", "csv"):
        assert getattr(built, name).read_bytes() == getattr(again, name).read_bytes(), name
    pd.testing.assert_frame_equal(pd.read_csv(built.runs), pd.read_csv(again.runs), rtol=1e-12)


def test_a_table_of_ones_own_needs_few_columns(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    rows = ["model,count,seed,benchmark,setting,score,lower_bound"]
    rows += [f"m,{count},{seed},mmlu,direct,{25 + count / 10 + seed},25" for count in (8, 64) for seed in (0, 1)]
    file.write_text("\n".join(rows))
    built = report.build(tmp_path / "no-index.json", tmp_path / "out", f"csv:{file}")
    assert "Δ volume, 8 → 64 tasks" in built.html.read_text()
    [first, *_] = table(csv_table.from_csv(file)).to_dict("records")
    assert first["normalized"] == pytest.approx(100 * 0.8 / 75)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("wndb", "one of directories, wandb, api:ENTITY/PROJECT, csv:FILE"),
        ("api:team", "one of directories"),
        ("csv:", "one of directories"),
        ("csv:nowhere.csv", "nowhere.csv cannot be read"),
    ],
)
def test_a_source_that_is_none_is_one_clear_line(index: Path, source: str, message: str) -> None:
    with pytest.raises(AnalysisError, match=message) as error:
        sources.read(index, source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "benchmark,setting,score\nx,y,1\n"])
def test_a_file_that_is_no_such_table_says_what_it_lacks(index: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(AnalysisError, match=r"no column .*lower_bound"):
        sources.read(index, f"csv:{file}")


def test_what_has_not_changed_is_not_read_again(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sources.read(index)
    read: list[Path] = []
    original = sources.read_directory

    def spy(run_dir: Path, cell: str) -> Any:
        read.append(run_dir)
        return original(run_dir, cell)

    monkeypatch.setattr(sources, "read_directory", spy)
    again = sources.read(index)
    assert read == []
    assert again.records == before.records
    point = before.points[3]
    with (before.folder / point.run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 900, "eval/procedural/cot/score": 1.0}) + "\n")
    changed = sources.read(index)
    assert [run_dir.name for run_dir in read] == [point.run]
    assert changed.records[point.cell].last["eval/procedural/cot/score"] == 1.0


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 0}', '{"format": 1, "runs": {}}', '{"format": 1}'])
def test_a_cache_that_is_damaged_is_made_again(index: Path, text: str) -> None:
    before = sources.read(index)
    cache = index.parent / ".cache" / index.name
    cache.write_text(text)
    assert sources.read(index).records == before.records
    assert json.loads(cache.read_text())["format"] == 1


def test_a_row_of_a_server_without_a_step_costs_one_cell(index: Path) -> None:
    from types import SimpleNamespace

    local = sources.read(index)

    def run(cell: str, *rows: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(id=cell, state="finished", config={}, scan_history=lambda: iter(rows))

    first, second, *_ = local.records
    found = [run(first, {"_step": 1, "train/loss": 2.0}), run(second, {"train/loss": 2.0})]
    online = sources.from_wandb_api(index, "team/p", SimpleNamespace(runs=lambda *_, **__: found))
    assert online.records[first].last == {"step": 1, "train/loss": 2.0}
    assert online.records[second].state == "damaged"
    assert second in (online.records[second].failure or "")


def test_a_server_that_does_not_answer_is_one_clear_line(index: Path) -> None:
    from types import SimpleNamespace

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    with pytest.raises(AnalysisError, match="W&B project team/p cannot be read: ConnectionError: no route") as error:
        sources.from_wandb_api(index, "team/p", SimpleNamespace(runs=refuse))
    assert "\n" not in str(error.value)


def test_rows_that_differ_in_nothing_are_runs_of_other_seeds_and_a_seed_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    rows = [f"m,{count},mmlu,direct,{score},25" for count, score in ((8, 30.0), (8, 34.0), (64, 50.0), (64, 52.0))]
    file.write_text("\n".join(["model,count,benchmark,setting,score,lower_bound", *rows]))
    assert sorted(table(csv_table.from_csv(file))["score"]) == [30, 34, 50, 52]
    seeded = [f"m,8,0,mmlu,direct,{score},25" for score in (30.0, 34.0)]
    file.write_text("\n".join(["model,count,seed,benchmark,setting,score,lower_bound", *seeded]))
    with pytest.raises(AnalysisError, match="is there twice"):
        csv_table.from_csv(file)


GOOD = "model,count,cot,seed,benchmark,setting,score,lower_bound"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,9,maybe,0,b,direct,50,0", "line 2: cot=maybe: neither true nor false"),
        ("a,many,true,0,b,direct,50,0", "line 2: count=many: not a number of tasks"),
        ("a,-9,true,0,b,direct,50,0", "line 2: count=-9: not a number of tasks"),
        ("a,9.5,true,0,b,direct,50,0", r"line 2: count=9.5: not a number of tasks"),
        ("a,9,true,0,b/c,direct,50,0", "line 2: benchmark=b/c: a name without /"),
    ],
)
def test_a_value_that_would_be_taken_for_another_is_refused(tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(f"{GOOD}\n{row}\n")
    with pytest.raises(AnalysisError, match=said):
        csv_table.from_csv(tmp_path / "t.csv")


@pytest.mark.parametrize(("yes", "no"), [("TRUE", "FALSE"), ("yes", "No"), ("1", "0"), ("True", "false")])
def test_truths_are_read_however_they_are_written(tmp_path: Path, yes: str, no: str) -> None:
    rows = [f"a,9,{cot},{seed},b,direct,{score},0" for cot, score in ((yes, 80), (no, 30)) for seed in (0, 1)]
    (tmp_path / "t.csv").write_text("\n".join([GOOD, *rows]))
    [panel] = panels.analyse(csv_table.from_csv(tmp_path / "t.csv"))
    assert {mean.curve.cot: mean.value for mean in panel.means} == {True: 80.0, False: 30.0}


def test_an_average_without_normalised_points_gets_them(tmp_path: Path) -> None:
    head = "model,count,seed,benchmark,setting,score,lower_bound,members"
    rows = ["a,9,0,b,direct,50,20,", "a,9,0,c,direct,60,20,", "a,9,0,normalized_average,all,55,20,b/direct;c/direct"]
    (tmp_path / "t.csv").write_text("\n".join([head, *rows]))
    assert panels.analyse(csv_table.from_csv(tmp_path / "t.csv"))[-1].means[0].value == pytest.approx(100 * 35 / 80)
