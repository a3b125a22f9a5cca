"""`flanscale tasks` keeps what is catalogued apart from what is on disk, and shows examples as the model sees them."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from niv2_folder import niv2_folder, niv2_record
from told import Command

from flanscale.tasks.catalog import COUNTS, catalogued


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with two tasks of NIV2, of which the second is an official test task, and nothing else."""
    train, test = list(catalogued("niv2"))[:2]
    niv2_folder(tmp_path / "niv2", {train: niv2_record(), test: niv2_record()}, test=[test])
    return tmp_path


@pytest.fixture
def tasks(flanscale: Command) -> Command:
    """`flanscale tasks …`, typed in this process."""
    return partial(flanscale, "tasks")


def totals(output: str) -> dict[str, list[str]]:
    """The table of numbers at the end: collection → its numbers."""
    return {line.split()[0]: line.split()[1:] for line in output.rsplit("\n\n", 1)[-1].splitlines()}


# --- list ------------------------------------------------------------------------------------------------------------


def test_without_data_it_lists_the_catalogue_alone(tasks: Any) -> None:
    code, out, _ = tasks("list")
    assert code == 0
    assert out.count("\n") == 1 + 1836 + 1 + 6
    assert totals(out) == {
        "collection": ["catalogued"],
        **{name: [f"{count:,}"] for name, count in COUNTS.items()},
        "all": ["1,836"],
    }


def test_with_data_catalogued_and_on_disk_are_two_numbers(tasks: Any, root: Path) -> None:
    _, out, _ = tasks("list", f"data.root={root}")
    numbers = totals(out)
    assert numbers["niv2"] == ["1,554", "2", "1", "1,552"]
    assert numbers["cot"] == ["9", "0", "0", "9"]
    assert numbers["all"] == ["1,836", "2", "1", "1,834"]
    first, second, third = list(catalogued("niv2"))[:3]
    for task, state in ((first, "on disk"), (second, "held out"), (third, "missing")):
        (line,) = [line for line in out.splitlines() if f" {task} " in line]
        assert state in line


def test_filters_narrow_rows_and_totals_alike(tasks: Any) -> None:
    _, out, _ = tasks("list", "--collection", "muffin", "--category", "SUMMAR")
    lines = out.splitlines()[1 : out.splitlines().index("")]
    assert all(line.startswith("muffin") and "Summarization" in line for line in lines)
    assert totals(out) == {"collection": ["catalogued"], "muffin": [str(len(lines))], "all": [str(len(lines))]}


def test_missing_says_of_each_task_what_to_do(tasks: Any, root: Path) -> None:
    _, out, _ = tasks("list", "--missing", "--collection", "niv2", f"data.root={root}")
    lines = out.splitlines()[: out.splitlines().index("")]
    assert len(lines) == 1552
    assert all("`flanscale tasks fetch niv2 --to " in line for line in lines)
    assert totals(out)["niv2"] == ["1,554", "2", "1", "1,552"]  # the totals stay those of the collection


def test_json_is_for_programs(tasks: Any, root: Path) -> None:
    _, out, _ = tasks("list", "--json", "--collection", "niv2", f"data.niv2={root / 'niv2'}")
    rows = json.loads(out)
    assert [row["data"] for row in rows[:3]] == ["on disk", "held out", "missing"]
    assert len(rows) == 1554
    _, out, _ = tasks("list", "--json", "--collection", "cot")
    assert {row["data"] for row in json.loads(out)} == {None}  # nothing was looked for


@pytest.fixture
def rendered(tmp_path: Path) -> list[str]:
    """Overrides that open a rendered folder with two CoT tasks, one of them also turned round, and two odd names."""
    names = [("CoT", "cot_gsm8k"), ("CoT", "cot_creak"), ("CoT", "cot_creak_ii"), ("Flan2021", "wsc273:1.0.0")]
    names += [("P3", "glue_mrpc_same_thing"), ("Flan2021", "glue/mnli:2.0.0")]
    rows = [
        {"inputs": f"in {i}", "targets": "out", "_task_source": s, "_task_name": n} for i, (s, n) in enumerate(names)
    ]
    (tmp_path / "rendered").mkdir()
    (tmp_path / "rendered" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ["collection=rendered", f"data.rendered={tmp_path / 'rendered'}", f"paths.cache={tmp_path / 'cache'}"]


def test_the_rendered_collection_is_listed_as_it_is(tasks: Any, rendered: list[str]) -> None:
    _, out, _ = tasks("list", *rendered)
    lines = [line.split() for line in out.splitlines()]
    assert ["cot", "on", "disk", "2", "documented", "stream_creak"] in [line[:6] for line in lines]
    assert ["muffin", "uncatalogued", "1", "wsc273_1.0.0", "Flan2021", "wsc273:1.0.0"] in lines
    assert ["t0sf", "uncatalogued", "1", "glue_mrpc_same_thing", "P3", "glue_mrpc_same_thing"] in lines
    heads = "collection catalogued on disk of these held out missing uncatalogued rows"
    assert totals(out) == {
        "collection": heads.split()[1:],
        "cot": ["9", "2", "0", "7", "0", "3"],
        "muffin": ["80", "1", "0", "79", "1", "2"],
        "t0sf": ["193", "0", "0", "193", "1", "1"],
        "niv2": ["1,554", "0", "0", "1,554", "0", "0"],
        "all": ["1,836", "3", "0", "1,833", "2", "6"],
    }
    _, out, _ = tasks("list", "--missing", "--collection", "cot", *rendered)
    assert len(out[: out.index("\n\n")].splitlines()) == 7
    _, out, _ = tasks("list", "--json", "--collection", "muffin", *rendered)
    (known, odd) = [row for row in json.loads(out) if row["data"] != "missing"]
    assert (known["task"], known["data"], known["rows"]) == ("mnli_matched", "on disk", 1)
    assert (odd["task"], odd["data"], odd["rows"], odd["membership"]) == ("wsc273_1.0.0", "uncatalogued", 1, "")
    assert odd["why"] == "no task of the paper's catalogue; rows of Flan2021, named wsc273:1.0.0"


def test_rows_under_a_name_outside_the_catalogue_can_be_seen(tasks: Any, rendered: list[str]) -> None:
    code, out, _ = tasks("show", "wsc273_1.0.0", *rendered)
    assert code == 0
    assert "in 3" in out
    assert "uncatalogued: no task of the paper's catalogue; rows of Flan2021, named wsc273:1.0.0" in out


def test_a_collection_of_ones_own_is_listed_as_it_is(tasks: Any, tmp_path: Path) -> None:
    for name in ("sums", "tales"):
        (tmp_path / f"{name}.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    _, out, _ = tasks("list", "collection=jsonl", f"data.jsonl={tmp_path}")
    assert [" sums " in f"{line} " or " tales " in f"{line} " for line in out.splitlines()[1:3]] == [True, True]
    assert totals(out)["all"] == ["0", "2", "0", "0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "collection=rendered", "data.rendered=/nowhere"], "data.rendered=/nowhere: no such file or folder"),
        (["list", "--missing"], "--missing compares with a data folder: give data.root="),
        (["list", "--collection", "t0_sf"], "--collection t0_sf: the catalogue has cot, muffin, t0sf, niv2; did you"),
        (["list", "data.niv=x"], "unknown key 'data.niv'; did you mean data.niv2"),
        (["list", "data.root=/nowhere"], "data.root=/nowhere: no such folder"),
        (["show", "cot_gsm8"], "no task 'cot_gsm8' in the catalogue or of procedural; did you mean cot_gsm8k?"),
    ],
)
def test_a_mistake_is_one_line(tasks: Any, arguments: list[str], message: str) -> None:
    code, out, err = tasks(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"flanscale: {message}")
    assert err.count("\n") == 1


# --- show ------------------------------------------------------------------------------------------------------------


def test_without_data_a_task_shows_its_facts(tasks: Any) -> None:
    code, out, _ = tasks("show", "qrecc")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["category"] == "Conversational Question Answering"
    assert facts["membership"] == "reading"
    assert "the paper's 80 of 88" in facts["note"]
    assert facts["data"].startswith("no folder given; data.root=")


def test_with_data_it_shows_examples_a_wrong_answer_and_tokens(tasks: Any, root: Path) -> None:
    name = next(iter(catalogued("niv2")))
    _, out, _ = tasks("show", name, f"data.root={root}", "--examples", "2", "tokenizer=bytes", "mixture.exemplars=1")
    assert "examples        5\n" in out
    assert "references      2 to 2 an example\n" in out
    assert "── example 1 of 5: x-0, input" in out
    assert "── example 3 of 5: x-2, input" in out
    assert "Copy it." in out
    assert "in 2" in out
    assert "── target\nout 2\n" in out
    assert "z is not b" in out
    (line,) = [line for line in out.splitlines() if line.startswith("target ")]
    assert line.split() == ["target", "5", "5", "5", "0"]  # bytes of "out 0"


def test_a_task_without_data_says_why(tasks: Any, root: Path) -> None:
    name = list(catalogued("niv2"))[2]
    code, out, _ = tasks("show", name, f"data.root={root}")
    assert code == 0
    assert f"data            missing: no file {root}/niv2/tasks/{name}.json" in out


def test_a_task_of_ones_own_collection_is_shown(tasks: Any, tmp_path: Path) -> None:
    niv2_folder(tmp_path, {"own": niv2_record()}, train=["own"])
    code, out, _ = tasks("show", "own", "collection=niv2", f"data.niv2={tmp_path}", "--examples", "0")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if line and not line.startswith("─"))
    assert (facts["collection"], facts["category"], facts["dataset"]) == ("niv2", "Tiny", "tiny")
    code, _, err = tasks("show", "owl", "collection=niv2", f"data.niv2={tmp_path}")
    assert (code, err) == (2, "flanscale: no task 'owl' of niv2; did you mean own?\n")


@pytest.mark.data
def test_the_real_data_is_told_apart_from_the_catalogue(tasks: Any, shared_data: Path) -> None:
    _, out, _ = tasks("list", f"data.root={shared_data}")
    assert totals(out) == {
        "collection": ["catalogued", "on", "disk", "of", "these", "held", "out", "missing"],
        "cot": ["9", "9", "0", "0"],
        "muffin": ["80", "14", "0", "66"],
        "t0sf": ["193", "148", "0", "45"],
        "niv2": ["1,554", "1,336", "100", "218"],
        "all": ["1,836", "1,507", "100", "329"],
    }


@pytest.mark.data
@pytest.mark.parametrize("task", ["cot_gsm8k", "rte", "adversarial_qa_dbert_based_on", "task1390_wscfixed_coreference"])
def test_a_real_task_of_every_collection_is_shown(tasks: Any, shared_data: Path, task: str) -> None:
    code, out, _ = tasks("show", task, f"data.root={shared_data}", "cot=true", "--examples", "1")
    assert code == 0
    assert "── target" in out


def test_a_held_out_task_is_shown_as_it_is_asked(tasks: Any, tmp_path: Path) -> None:
    lines = [f'{{"input": "q{n}", "output": "a{n}"}}' for n in range(6)]
    (tmp_path / "asked.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "learned.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "held_out.txt").write_text("asked\n")
    own = ("collection=jsonl", f"data.jsonl={tmp_path}", "mixture.exemplars=3")
    shown = tasks("show", "asked", *own).stdout
    for number, place in enumerate((3, 4, 5), start=1):
        question = shown.split(f"── question {number} of 3: asked/", 1)[1].split("── target\n")
        assert [f"a{n}" in question[0] for n in range(6)] == [n < 3 for n in range(6)]  # the first ones are the shots
        assert f"q{place}" in question[0]
        assert question[1].startswith(f"a{place}\n")
    learned = tasks("show", "learned", *own).stdout.split("input\n")[1:]
    assert len(learned) == 3
    assert all(re.search(r"a\d", each.split("── target")[0]) for each in learned)
