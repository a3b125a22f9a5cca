"""The union of the paper's collections: every task of the catalogue is trained on, held out or missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from niv2_folder import niv2_folder, niv2_record

from flanscale.errors import DataError
from flanscale.schema import CollectionConfig, DataConfig
from flanscale.tasks.catalog import COUNTS, catalogued, read_catalog
from flanscale.tasks.flan import Flan
from flanscale.tasks.niv2 import Niv2
from flanscale.tasks.registry import data_folder, open_benchmarks, open_collection, open_wordings
from flanscale.tasks.task import Ordinary, Task


@dataclass
class Tiny(Ordinary):
    """A collection with the first task of its part of the catalogue, the rest missing."""

    name: str
    held_out: list[str] = field(default_factory=list)

    @property
    def groups(self) -> dict[str, list[str]]:
        return {self.name: list(catalogued(self.name))[:1]}

    @property
    def missing(self) -> dict[str, str]:
        return dict.fromkeys(list(catalogued(self.name))[1:], "no file of it")

    def category(self, name: str) -> str:
        return f"category of {name}"

    def fingerprint(self, name: str) -> str:
        return f"{name:.16}"

    def task(self, name: str) -> Task:
        return Task(name, self.name, self.category(name), "", [])


def niv2(folder: Path) -> tuple[Niv2, str, str]:
    """(a collection with one training and one test task, their names)."""
    train, test = list(catalogued("niv2"))[:2]
    niv2_folder(folder, {train: niv2_record(), test: niv2_record()}, test=[test])
    return Niv2(folder, "flan", 100), train, test


def everywhere(flan: Flan) -> Iterator[str]:
    yield from (task for tasks in flan.groups.values() for task in tasks)
    yield from flan.reserved
    yield from flan.missing


def test_groups_come_in_the_papers_order_whatever_the_members_order(tmp_path: Path) -> None:
    flan = Flan([niv2(tmp_path)[0], Tiny("t0sf"), Tiny("cot"), Tiny("muffin")])
    assert list(flan.groups) == ["cot", "muffin", "t0sf", "niv2"]


def test_every_catalogued_task_is_trained_on_or_held_out_or_missing(tmp_path: Path) -> None:
    for members in ([Tiny("cot")], [niv2(tmp_path / "a")[0], Tiny("muffin")], [niv2(tmp_path / "b")[0]]):
        told = list(everywhere(Flan(members)))
        assert sorted(told) == sorted(row.task for row in read_catalog())


def test_official_test_tasks_leave_the_training_groups_and_say_so(tmp_path: Path) -> None:
    collection, train, test = niv2(tmp_path)
    flan = Flan([Tiny("cot"), collection])
    assert flan.groups["niv2"] == [train]
    assert flan.held_out == [test]
    assert flan.reserved == {test: "held out for evaluation: it is in the official default test split"}
    assert test not in flan.missing


def test_a_collection_without_a_folder_is_missing_with_what_to_give() -> None:
    missing = Flan([Tiny("cot")]).missing
    assert sum(task in missing for task in catalogued("t0sf")) == 193
    assert missing[next(iter(catalogued("t0sf")))] == (
        "no data of t0sf: give data.t0=<folder>, or data.root=<folder that holds t0/>;"
        " `flanscale tasks fetch t0sf --to data` brings it"
    )


def test_a_task_is_its_members(tmp_path: Path) -> None:
    collection, train, _ = niv2(tmp_path)
    flan = Flan([Tiny("muffin"), collection])
    assert flan.task(train) == collection.task(train)
    assert flan.fingerprint(train) == collection.fingerprint(train)
    assert flan.category("aeslc") == "category of aeslc"


def test_a_caller_cannot_spoil_the_groups() -> None:
    flan = Flan([Tiny("cot")])
    flan.groups.pop("cot")
    assert list(flan.groups) == ["cot"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("samsum", "samsum of flan has no data here: no data of muffin"), ("cot_gsm8", "did you mean cot_gsm8k")],
)
def test_a_task_that_is_not_here_is_explained(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Flan([Tiny("cot")]).task(name)


@pytest.mark.parametrize("members", [[], [Tiny("cot"), Tiny("cot")], [Tiny("jsonl")]])
def test_only_the_papers_collections_each_once_make_it(members: list[Tiny]) -> None:
    with pytest.raises(DataError, match="expected some of cot, muffin, t0sf, niv2"):
        Flan(members)


# --- the registry ----------------------------------------------------------------------------------------------------


def test_a_folder_is_the_one_given_else_the_one_under_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "niv2").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    root = str(tmp_path / "root")
    assert data_folder(DataConfig(root=root), "niv2") == tmp_path / "root" / "niv2"
    assert data_folder(DataConfig(root=root, niv2=str(tmp_path / "own")), "niv2") == tmp_path / "own"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            DataConfig(),
            r"give data\.t0=<folder>, or data\.root=<folder that holds t0/>; `flanscale tasks fetch t0sf --to data` ",
        ),
        (
            DataConfig(root="."),
            r"give data\.t0=<folder>, or data\.root=.*, but \. has none; `flanscale tasks fetch t0sf --to \.` ",
        ),
        (DataConfig(root="nowhere"), r"data\.root=nowhere: no such folder"),
        (DataConfig(t0="nowhere"), r"data\.t0=nowhere: no such file or folder"),
    ],
)
def test_no_folder_is_one_line_that_names_both_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: DataConfig, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        data_folder(data, "t0")
    if data.root != ".":
        with pytest.raises(DataError):
            open_collection(CollectionConfig(name="t0sf"), data)


def test_flan_without_any_data_says_what_to_give() -> None:
    with pytest.raises(DataError, match=r"data\.root=.*data\.cot, data\.muffin, data\.t0 and data\.niv2"):
        open_collection(CollectionConfig(name="flan"), DataConfig())


def test_flan_is_made_of_what_is_there_and_shares_one_count_of_bad_records(tmp_path: Path) -> None:
    niv2(tmp_path / "niv2")
    flan = open_collection(CollectionConfig(name="flan"), DataConfig(root=str(tmp_path)), skip_bad=True)
    assert isinstance(flan, Flan)
    assert [member.name for member in flan.members] == ["niv2"]
    assert flan.members[0].skips is flan.skips
    assert flan.skips.allowed


@pytest.mark.parametrize("name", ["cot", "muffin", "t0sf", "niv2", "rendered", "jsonl"])
def test_every_collection_of_files_opens_by_its_name(tmp_path: Path, name: str) -> None:
    for key in ("cot", "muffin", "t0", "niv2", "rendered", "jsonl"):
        (tmp_path / key).mkdir()
    collection = open_collection(CollectionConfig(name=name), DataConfig(root=str(tmp_path)))
    assert collection.name == name


@pytest.mark.data
def test_wordings_and_benchmarks_are_found_under_root_too(shared_data: Path) -> None:
    root = DataConfig(root=str(shared_data))
    flan = open_wordings("flan", root)
    assert flan == open_wordings("flan", DataConfig(flan=str(shared_data / "flan" / "templates.json.gz")))
    assert flan.fingerprint != open_wordings("own", DataConfig()).fingerprint
    with pytest.raises(DataError, match=r"give data\.flan="):
        open_wordings("flan", DataConfig())
    assert {"mmlu", "bbh", "mgsm", "tydiqa"} <= {text.benchmark for text in open_benchmarks(root)}
    with pytest.raises(DataError, match=r"give data\.benchmarks="):
        open_benchmarks(DataConfig())


@pytest.mark.data
def test_the_real_data_accounts_for_the_whole_catalogue(shared_data: Path) -> None:
    flan = open_collection(CollectionConfig(name="flan"), DataConfig(root=str(shared_data)))
    assert isinstance(flan, Flan)
    assert sorted(everywhere(flan)) == sorted(row.task for row in read_catalog())
    here = {name: len(tasks) for name, tasks in flan.groups.items()}
    missing = {name: sum(task in flan.missing for task in catalogued(name)) for name in COUNTS}
    assert here == {"cot": 9, "muffin": 14, "t0sf": 148, "niv2": 1236}
    assert missing == {"cot": 0, "muffin": 66, "t0sf": 45, "niv2": 199}
    assert len(flan.reserved) == 119
    assert len(flan.held_out) == 100


@pytest.mark.data
def test_every_real_task_of_the_union_loads(shared_data: Path) -> None:
    flan = open_collection(CollectionConfig(name="flan", examples_per_task=5), DataConfig(root=str(shared_data)))
    for name in [name for tasks in flan.groups.values() for name in tasks][::5]:
        task = flan.task(name)
        assert 0 < len(task.examples) <= 5
        assert task.category == flan.category(name)
