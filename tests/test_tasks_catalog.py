"""The catalogue names the paper's 1,836 tasks, marks what is a reading, and can be built again from its sources."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from flanscale.errors import DataError, nearest
from flanscale.tasks import make_catalog
from flanscale.tasks.catalog import CATALOG_FILE, COUNTS, catalogued, read_catalog


def test_it_has_1836_tasks_in_the_papers_order() -> None:
    rows = read_catalog()
    assert len(rows) == 1836
    assert COUNTS == {"cot": 9, "muffin": 80, "t0sf": 193, "niv2": 1554}
    assert [row.collection for row in rows] == [name for name, count in COUNTS.items() for _ in range(count)]
    assert len({row.task for row in rows}) == 1836  # a name alone says which task is meant


def test_every_task_has_its_facts_and_every_reading_its_reason() -> None:
    for row in read_catalog():
        assert row.dataset
        assert row.category
        assert row.task_type
        assert row.membership in ("documented", "reading")
        assert row.note or row.membership == "documented"


def test_what_rests_on_a_reading_is_few() -> None:
    readings = {name: sum(row.membership == "reading" for row in catalogued(name).values()) for name in COUNTS}
    assert readings == {"cot": 0, "muffin": 9, "t0sf": 0, "niv2": 2}


def test_no_copy_of_mmlu_and_no_inversion_is_in_it() -> None:
    assert not [row.task for row in read_catalog() if "mmmlu" in row.task or row.task.endswith("_input_inversion")]


def test_the_t0_tasks_have_22_real_datasets() -> None:
    assert len({row.dataset for row in catalogued("t0sf").values()}) == 22


def test_a_caller_cannot_spoil_it_for_others() -> None:
    read_catalog().clear()
    assert len(read_catalog()) == 1836


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("cot_gsm8", "; did you mean cot_gsm8k?"), ("GSM8K", "; did you mean cot_gsm8k?"), ("qqqqqqqq", "")],
)
def test_a_wrong_name_is_answered_with_the_nearest(name: str, suggestion: str) -> None:
    assert nearest(name, [row.task for row in read_catalog()]) == suggestion


def test_a_missing_source_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flanscale.tasks.make_catalog", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"make_catalog: {tmp_path}/flan/flan_collection_info.csv: No such file")
    assert done.stderr.count("\n") == 1


@pytest.mark.data
def test_building_it_again_gives_the_shipped_file(shared_data: Path, tmp_path: Path) -> None:
    make_catalog.write(make_catalog.build(shared_data), tmp_path / "catalog.csv")
    assert (tmp_path / "catalog.csv").read_bytes() == CATALOG_FILE.read_bytes()


@pytest.mark.data
def test_rules_that_no_longer_give_the_papers_counts_are_refused(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "niv2").symlink_to(shared_data / "niv2")
    (tmp_path / "flan").mkdir()
    for file in (shared_data / "flan").iterdir():
        (tmp_path / "flan" / file.name).symlink_to(file)
    table = tmp_path / "flan" / "flan_collection_info.csv"
    text = table.read_text(encoding="utf-8")
    table.unlink()
    table.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("FLAN/T0,sst2,")))
    with pytest.raises(DataError, match=r"'muffin': 79.*the paper has"):
        make_catalog.build(tmp_path)


@pytest.mark.data
def test_its_names_are_those_that_were_counted_elsewhere_less_two_twins(shared_data: Path) -> None:
    with (shared_data / "task_catalog.csv").open(encoding="utf-8", newline="") as file:
        other = {
            (row["collection"].replace("_", ""), row["task_name"], row["category"])
            for row in csv.DictReader(file)
            if row["counted"] == "yes"
        }
    mine = {(row.collection, row.task, row.category) for row in read_catalog()}
    assert mine < other
    assert {name.split("_")[0] for _, name, _ in other - mine} == {"task128", "task129"}
