"""The rendered Flan 2022 collection: folders too large for memory, read once, sorted into tasks."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from niv2_folder import niv2_folder, niv2_record
from rendered_folder import collection_names, flan_names, rendered_folder

from flanscale.config.compose import Composer
from flanscale.errors import DataError
from flanscale.identity import resolve
from flanscale.schema import MixtureConfig
from flanscale.tasks.catalog import COUNTS, catalogued
from flanscale.tasks.flan_names import NEVER_RENDERED
from flanscale.tasks.mixture import build_mixture
from flanscale.tasks.registry import open_training
from flanscale.tasks.rendered import Rendered
from flanscale.tasks.rendered_index import ABANDONED_AFTER
from flanscale.tasks.selection import select_tasks
from flanscale.tasks.settling import settle_data
from flanscale.tasks.task import Skips


def row(number: int, source: str = "P3", name: str = "sciq_Direct_Question", kind: str = "zs_opt") -> dict[str, Any]:
    facts = {"_task_source": source, "_task_name": name, "_template_type": kind, "_template_idx": 3}
    return {"inputs": f"question {number} é?", "targets": f"answer {number}"} | facts


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows).encode()
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def opened(tmp_path: Path, limit: int = 100, skips: Skips | None = None) -> Rendered:
    return Rendered(tmp_path / "data", limit, skips or Skips(), tmp_path / "cache")


@pytest.mark.parametrize("file", ["a.jsonl", "a.jsonl.gz", "flan_zsopt_data/part.0.parquet"])
def test_every_form_gives_the_same_examples_and_fingerprints(tmp_path: Path, file: str) -> None:
    rows = [row(i, name=["sciq_Direct_Question", "quarel_logic_test"][i % 3 == 0]) for i in range(3000)]
    write(tmp_path / "data" / file, rows)
    write(tmp_path / "plain" / "data" / "x.jsonl", rows)
    rendered, plain = opened(tmp_path, 5000), opened(tmp_path / "plain", 5000)

    task = rendered.task("sciq_Direct_Question")

    assert [example.input for example in task.examples] == [f"question {i} é?" for i in range(3000) if i % 3]
    assert task.examples[0].target == "answer 1"
    assert task.examples[0].fields == {"_template_type": "zs_opt"}
    assert list(task.examples) == list(plain.task("sciq_Direct_Question").examples)
    assert rendered.fingerprint(task.name) == plain.fingerprint(task.name)
    assert rendered.fingerprint(task.name) != rendered.fingerprint("quarel_logic_test")


@pytest.mark.parametrize(
    ("inputs", "targets", "prefix"),
    [
        ("inputs", "targets", "_"),  # Open-Orca/FLAN
        ("inputs", "targets", ""),  # DataProvenanceInitiative/*_submix_original
        ("source", "target", ""),  # chiayewken/flan-v2
        ("prompt", "completion", ""),  # itay1itzhak/flan_2022_350k
    ],
)
def test_the_hub_s_column_names_are_known(tmp_path: Path, inputs: str, targets: str, prefix: str) -> None:
    facts = {f"{prefix}task_source": "CoT", f"{prefix}task_name": "cot_gsm8k", f"{prefix}template_type": "fs_opt"}
    write(tmp_path / "data" / "a.jsonl", [{inputs: "q", targets: "a", **facts}])

    (example,) = opened(tmp_path).task("cot_gsm8k").examples

    assert (example.input, example.target, example.fields) == ("q", "a", {"_template_type": "fs_opt"})


# --- names -----------------------------------------------------------------------------------------------------------


def test_every_real_name_means_its_task_of_the_catalogue_or_none(tmp_path: Path) -> None:
    names = flan_names()
    write(tmp_path / "data" / "a.jsonl", [row(i, n["source"], n["name"]) for i, n in enumerate(names)])

    rendered = opened(tmp_path)

    meant = {(entry["source"], name): task for task, entry in rendered.index.tasks.items() for name in entry["names"]}
    known = {name: task for name, task in meant.items() if task not in rendered.uncatalogued}
    assert known == {(n["source"], n["name"]): n["task"] for n in names if n["task"]}
    assert len(names) > 300
    assert len(rendered.uncatalogued) == sum(not n["task"] for n in names) > 20
    assert rendered.groups["cot"] == list(catalogued("cot"))
    assert set(catalogued("muffin")) - set(rendered.groups["muffin"]) == set(NEVER_RENDERED)


def test_a_task_turned_round_is_rows_of_its_task(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1, "CoT", "cot_creak_ii"), row(2, "CoT", "cot_creak")])

    (task,) = opened(tmp_path).groups["cot"]

    assert task == "stream_creak"
    assert [example.target for example in opened(tmp_path).task(task).examples] == ["answer 1", "answer 2"]


def test_a_name_outside_the_catalogue_never_takes_a_task_s_name(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1, "Flan2021", "sciq_Direct_Question"), row(2), row(3, "NIv2", "cola")])
    rendered = opened(tmp_path)

    assert rendered.groups == {"t0sf": ["sciq_Direct_Question"]}
    assert [example.target for example in rendered.task("sciq_Direct_Question").examples] == ["answer 2"]
    assert list(rendered.uncatalogued) == ["sciq_Direct_Question_muffin", "cola_niv2"]
    assert rendered.uncatalogued["cola_niv2"] == "no task of the paper's catalogue; rows of NIv2, named cola"


# --- the paper's stages ----------------------------------------------------------------------------------------------

COT = ["gsm8k", "strategyqa", "creak", "qasc", "esnli", "ecqa", "sensemaking"]
COT_NAMES = [*(f"cot_{name}" for name in COT), "stream_aqua", "stream_qed"]
OTHERS = [("Flan2021", "wsc273:1.0.0"), ("CoT", "cot_drop"), ("P3", "glue_mrpc_same_thing")]


def collection_of(tmp_path: Path, file: str, names: list[tuple[str, str]]) -> Rendered:
    write(tmp_path / "data" / file, [row(i, source, name) for i, (source, name) in enumerate(names)])
    return opened(tmp_path)


def everything() -> list[tuple[str, str]]:
    names = [(n["source"], n["name"]) for n in flan_names() if n["source"] in ("Flan2021", "Dialog")]
    return [*OTHERS, *names, ("P3", "sciq_Direct_Question"), *(("CoT", name) for name in COT_NAMES)]


@pytest.mark.parametrize("file", ["a.jsonl", "part.0.parquet"])
def test_the_paper_s_first_stages_are_its_own_tasks(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    rendered = collection_of(tmp_path, file, everything())

    nine = select_tasks(rendered, MixtureConfig(count=9), cot=True)
    stage = select_tasks(rendered, MixtureConfig(count=89, allow_missing=True), cot=True)

    assert nine == list(catalogued("cot"))
    assert stage == [*nine, *(name for name in catalogued("muffin") if name not in NEVER_RENDERED)]
    assert "no such tasks: 4 rows, names: 3 (cot_drop, glue_mrpc_same_thing, wsc273_1.0.0)" in caplog.text
    with pytest.raises(
        DataError, match=r"count=89, but rendered has 81 .*; 8 have no data: 6 \(dmcc_python, .*, …\): FLAN"
    ):
        select_tasks(rendered, MixtureConfig(count=89), cot=True)
    mixture, tasks, _ = build_mixture(rendered, MixtureConfig(count=9), cot=True)
    assert mixture.names == tuple(nine)
    assert [task.examples[0].target for task in tasks][-1].startswith("answer ")


def test_a_stage_lacks_what_is_not_here_and_takes_nothing_in_its_stead(tmp_path: Path) -> None:
    lacking = {("CoT", "cot_ecqa"), ("CoT", "cot_qasc")}
    rendered = collection_of(tmp_path, "a.jsonl", [name for name in everything() if name not in lacking])

    with pytest.raises(
        DataError, match=r"has 7 training tasks .*; 2 have no data \(stream_ecqa, stream_qasc\): no row"
    ):
        select_tasks(rendered, MixtureConfig(count=9), cot=True)
    allowed = MixtureConfig(count=9, allow_missing=True)
    assert select_tasks(rendered, allowed, cot=True) == rendered.groups["cot"]
    assert len(rendered.groups["cot"]) == 7
    for order in ("paper", "random"):
        chosen = select_tasks(rendered, MixtureConfig(1836, order, allow_missing=True), cot=True)
        assert set(chosen).isdisjoint(rendered.uncatalogued)
        assert len(chosen) == 7 + 72 + 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data.root with all that the collection has of the catalogue, other names, and the test tasks of NIV2."""
    root = tmp_path_factory.mktemp("whole")
    others = [(name["source"], name["name"]) for name in flan_names() if not name["task"]]
    rendered_folder(root / "rendered", [*collection_names().values(), *others], rows=2)
    niv2_folder(root / "niv2", dict.fromkeys(TEST[:2], niv2_record()), test=TEST)
    return root


TEST = list(catalogued("niv2"))[5:1500:498]


@pytest.mark.parametrize(
    ("count", "cot"),
    [*((count, True) for count in (0, 9, 89, 282, 1836)), *((count, False) for count in (0, 80, 273, 1827))],
)
def test_every_stage_of_the_paper_is_the_catalogue_s_own(
    whole: Path, count: int, cot: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cell = ["model=nano", "collection=rendered", "tokenizer=bytes", "mixture=paper_a", "evaluation=niv2"]
    cell += [f"data.root={whole}", f"paths.cache={whole / 'cache'}", f"mixture.count={count}", f"cot={cot}"]
    config = resolve(Composer().compose([*cell, "mixture.allow_missing=true"]))

    chosen = select_tasks(open_training(config), config.mixture, cot=config.cot)

    places = [name for group in COUNTS if cot or group != "cot" for name in catalogued(group)][:count]
    assert chosen == [name for name in places if name not in NEVER_RENDERED and name not in TEST]
    assert len(chosen) == count - (8 if count > 9 else 0) - (len(TEST) if count > 1800 else 0)
    assert "leaves out the group cot" not in caplog.text


def test_what_a_stage_lacks_is_named_before_what_nobody_has(whole: Path, tmp_path: Path) -> None:
    names = collection_names()
    lacking = [task for task in catalogued("t0sf") if task.startswith(("duorc", "quoref", "ropes"))]
    rendered_folder(tmp_path / "data", [of for task, of in names.items() if task not in lacking])
    complete = Rendered(whole / "rendered", 9, cache=whole / "cache")

    wanted = select_tasks(complete, MixtureConfig(282, allow_missing=True), cot=True)
    less = select_tasks(opened(tmp_path), MixtureConfig(282, allow_missing=True), cot=True)

    assert less == [task for task in wanted if task not in lacking]
    assert len(lacking) > 30
    told = rf"{len(lacking) + 8} have no data: {len(lacking)} \(duorc.*, …\): no rows of it in .*; 6 \(dmcc_python, .*"
    with pytest.raises(DataError, match=rf"{told}; 2 for other reasons; `flanscale tasks list --missing`"):
        select_tasks(opened(tmp_path), MixtureConfig(282), cot=True)


@pytest.mark.parametrize("without_cot", ["answers", "leave_out"])
def test_rationales_cannot_be_taken_off_so_their_tasks_are_out_without_chain_of_thought(
    tmp_path: Path, without_cot: str, caplog: pytest.LogCaptureFixture
) -> None:
    rendered = collection_of(tmp_path, "a.jsonl", everything())
    config = MixtureConfig(count=80, allow_missing=True, without_cot=without_cot)

    chosen = select_tasks(rendered, config, cot=False)

    assert chosen == rendered.groups["muffin"]
    assert ("cot=false leaves out the group cot of rendered" in caplog.text) == (without_cot == "answers")
    caplog.clear()
    assert select_tasks(rendered, MixtureConfig(count=0), cot=False) == []
    assert not caplog.text


def test_a_cell_that_niv2_asks_learns_the_same_stages(tmp_path: Path) -> None:
    asked, learned = list(catalogued("niv2"))[:2]
    niv2_folder(tmp_path / "data" / "niv2", {asked: niv2_record(), learned: niv2_record()}, test=[asked])
    names = [*everything(), ("NIv2", asked), ("NIv2", learned)]
    write(tmp_path / "data" / "rendered" / "a.jsonl", [row(i, *name) for i, name in enumerate(names)])
    shared = [
        "model=nano",
        "collection=rendered",
        "tokenizer=bytes",
        "evaluation=niv2",
        f"data.root={tmp_path / 'data'}",
    ]

    def stage(count: int, *overrides: str, cot: bool = True) -> list[str]:
        cell = [*shared, f"paths.cache={tmp_path / 'cache'}", f"mixture.count={count}", f"cot={cot}", *overrides]
        config = Composer().compose(cell)
        settle_data(config)
        return select_tasks(open_training(config), config.mixture, cot=config.cot)

    assert stage(9) == list(catalogued("cot"))
    assert len(stage(89, "mixture.allow_missing=true")) == 81
    everywhere = stage(1836, "mixture.allow_missing=true", cot=False)
    assert everywhere[-2:] == ["sciq_Direct_Question", learned]
    assert len(everywhere) == 72 + 2
    with pytest.raises(DataError, match=r"\(its 9 chain-of-thought tasks are out at cot=false\); .* names here.*: 3, "):
        stage(1836, cot=False)


def test_groups_are_the_paper_s_in_its_order_with_catalogue_names(tmp_path: Path) -> None:
    named = [
        ("NIv2", "task002_quoref_answer_generation"),
        ("Dialog", "wiki_dialog"),
        ("Flan2021", "glue/cola:2.0.0"),
        ("Flan2021", "wmt16_translate/de-en:1.0.0"),
        ("Flan2021", "ai2_arc/ARC-Challenge:1.0.0"),
        ("Flan2021", "some/thing new:1.0.0"),
        ("P3", "sciq_Direct_Question"),
        ("CoT", "stream_qed_ii"),
        ("CoT", "cot_gsm8k"),
    ]
    write(tmp_path / "data" / "a.jsonl", [row(i, source, name) for i, (source, name) in enumerate(named)])
    rendered = opened(tmp_path)

    assert rendered.groups == {
        "cot": ["cot_gsm8k", "stream_qed"],
        "muffin": ["arc_challenge", "cola", "wiki_dialog", "wmt16_translate_deen"],
        "t0sf": ["sciq_Direct_Question"],
        "niv2": ["task002_quoref_answer_generation"],
    }
    assert list(rendered.groups) == list(COUNTS)
    assert rendered.category("cola") == "Grammatical Acceptability"
    assert rendered.category("some_thing_new_1.0.0") == "Flan2021"
    assert len(rendered.missing) == sum(COUNTS.values()) - 8
    assert rendered.held_out == []


def test_copies_of_mmlu_never_become_tasks(tmp_path: Path) -> None:
    copy = "task685_mmmlu_answer_generation_clinical_knowledge"
    write(tmp_path / "data" / "a.jsonl", [row(1, "NIv2", copy), row(2)])

    assert opened(tmp_path).groups == {"t0sf": ["sciq_Direct_Question"]}


@pytest.mark.parametrize("name", ["../../../etc/passwd", "a/../../b", ".hidden", "x y\0z"])
def test_a_task_name_from_the_data_is_safe_in_paths(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1, "Flan2021", name)])

    (task,) = opened(tmp_path).uncatalogued

    assert (tmp_path / task).resolve().parent == tmp_path.resolve()
    assert len(opened(tmp_path).task(task).examples) == 1


def test_a_task_name_from_the_data_is_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["\x1b[2Jnew\ntask \u202e", "new  task", "other"]
    write(tmp_path / "data" / "a.jsonl", [row(i, "Flan2021", name) for i, name in enumerate(names)])

    told = opened(tmp_path).uncatalogued

    assert all(text.isprintable() for text in told.values())
    assert told["_2Jnew_task_"].endswith("named [2Jnew task")
    assert "no such tasks: 3 rows, names: 3 (" in caplog.text


def test_the_limit_keeps_rows_from_everywhere_and_copies_few(tmp_path: Path) -> None:
    rows = [row(i, kind=["fs_noopt", "fs_opt", "zs_noopt", "zs_opt"][i // 2350]) for i in range(9400)]
    write(tmp_path / "data" / "a.jsonl.gz", rows[:5000])
    write(tmp_path / "data" / "b.jsonl.gz", rows[5000:])

    examples = opened(tmp_path, 300).task("sciq_Direct_Question").examples

    assert len(examples) == 300
    kinds = [example.fields["_template_type"] for example in examples]
    assert len(set(kinds)) == 4
    assert all(70 <= kinds.count(kind) <= 80 for kind in kinds)
    assert len({example.input for example in examples}) == 300
    (copies,) = (tmp_path / "cache").rglob("rows.jsonl")
    assert len(copies.read_bytes().splitlines()) < 2500


def test_the_folder_is_read_once_until_a_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "data" / "a.jsonl", [row(1)])
    before = opened(tmp_path).fingerprint("sciq_Direct_Question")
    (index,) = (tmp_path / "cache" / "rendered").iterdir()
    built = index.stat().st_mtime_ns

    assert opened(tmp_path).groups == {"t0sf": ["sciq_Direct_Question"]}
    assert [path.stat().st_mtime_ns for path in (tmp_path / "cache" / "rendered").iterdir()] == [built]

    write(path, [row(1), row(2, name="quarel_logic_test")])
    changed = opened(tmp_path)
    assert changed.groups == {"t0sf": ["quarel_logic_test", "sciq_Direct_Question"]}
    assert changed.fingerprint("sciq_Direct_Question") == before


def test_a_file_that_changes_under_a_running_job_is_an_error_not_other_text(tmp_path: Path) -> None:
    path = write(tmp_path / "data" / "a.jsonl", [row(i) for i in range(9)])
    examples = opened(tmp_path).task("sciq_Direct_Question").examples
    path.write_text(path.read_text(encoding="utf-8")[:200], encoding="utf-8")

    with pytest.raises(DataError, match=r"a\.jsonl: changed since it was indexed"):
        examples[8]
    write(path, [row(i + 1) for i in range(9)])  # as long, other text
    with pytest.raises(DataError, match=r"a\.jsonl: changed since it was indexed"):
        examples[0]
    with pytest.raises(IndexError):
        examples[9]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "not JSON"),
        (row(1) | {"targets": " "}, "no output"),
        (row(1) | {"inputs": None}, "no text inputs_pretokenized or inputs"),
        (row(1) | {"_task_name": ""}, "no text '_task_name'"),
        (row(1) | {"_task_source": "Alpaca"}, "unknown task source 'Alpaca'"),
        (row(1) | {"inputs": "x" * 1_000_001}, "more than 1,000,000 characters"),
    ],
)
def test_a_bad_row_is_named_or_left_out_and_counted_every_time(tmp_path: Path, bad: Any, why: str) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1), bad, row(3)])

    for _ in range(2):  # built, then from the cache
        skips = Skips(allowed=True)
        assert len(opened(tmp_path, skips=skips).task("sciq_Direct_Question").examples) == 2
        assert skips.total == 1
        assert str(skips.first).count("a.jsonl:2") == 1
    with pytest.raises(DataError, match=rf"a\.jsonl:2: .*{why}"):
        _ = opened(tmp_path).groups
    assert not list((tmp_path / "cache" / "rendered").glob("building-*"))


def test_a_byte_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "data" / "a.jsonl", [row(1)])
    path.write_bytes(path.read_bytes() + b'{"inputs": "\xff"}\n')

    with pytest.raises(DataError, match=r"a\.jsonl:2: not UTF-8 \(byte 0xff\)"):
        _ = opened(tmp_path).groups


def test_folders_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.rendered=.*no such folder"):
        _ = opened(tmp_path).groups
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("x")
    with pytest.raises(DataError, match=r"no \.parquet, \.jsonl, \.jsonl\.gz file"):
        _ = opened(tmp_path).groups
    (tmp_path / "data" / "a.jsonl").touch()
    with pytest.raises(DataError, match=r"a\.jsonl: no rows in it; mixture\.skip_bad=true leaves"):
        _ = opened(tmp_path).groups
    write(tmp_path / "data" / "a.jsonl", [row(1)])
    with pytest.raises(DataError, match=r"no task 'sciq_Direct' in .*did you mean sciq_Direct_Question"):
        opened(tmp_path).task("sciq_Direct")


def test_a_damaged_index_says_what_to_delete(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1)])
    _ = opened(tmp_path).groups
    (index,) = (tmp_path / "cache" / "rendered").iterdir()
    (index / "index.json").write_text("{")

    with pytest.raises(DataError, match=rf"{index.name}: damaged index .*delete this folder"):
        _ = opened(tmp_path).groups


def test_one_index_serves_those_that_may_skip_bad_rows_and_those_that_may_not(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1), row(2)])
    for allowed in (True, False):
        assert opened(tmp_path, skips=Skips(allowed)).groups == {"t0sf": ["sciq_Direct_Question"]}
    assert len(list((tmp_path / "cache" / "rendered").iterdir())) == 1

    write(tmp_path / "data" / "a.jsonl", [row(1), "[]", row(2), "{"])
    assert opened(tmp_path, skips=Skips(True)).groups == {"t0sf": ["sciq_Direct_Question"]}
    with pytest.raises(DataError, match=r"a\.jsonl:2: a JSON list, expected an object; mixture\.skip_bad=true"):
        _ = opened(tmp_path).groups
    assert len(list((tmp_path / "cache" / "rendered").iterdir())) == 2


@pytest.mark.parametrize("twin", ["b.jsonl", "b.jsonl.gz", "b/part.0.parquet"])
def test_two_files_with_the_same_rows_are_refused(tmp_path: Path, twin: str) -> None:
    rows = [row(1), row(2, name="quarel_logic_test")]
    write(tmp_path / "data" / "a.jsonl", rows)
    write(tmp_path / "data" / twin, rows)

    with pytest.raises(DataError, match=rf"{twin}: the same rows as .*a\.jsonl, which would count twice"):
        _ = opened(tmp_path, skips=Skips(allowed=True)).groups

    write(tmp_path / "data" / twin, [*rows, row(3)])
    assert len(opened(tmp_path).task("sciq_Direct_Question").examples) == 3


@pytest.mark.parametrize("file", ["b.jsonl", "b.jsonl.gz", "b.parquet"])
def test_a_file_without_rows_is_a_bad_one(tmp_path: Path, file: str) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1)])
    if file.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"inputs": pyarrow.array([], pyarrow.string())}), tmp_path / "data" / file)
    else:
        (tmp_path / "data" / file).touch()

    with pytest.raises(DataError, match=rf"{file}: no rows in it; mixture\.skip_bad=true"):
        _ = opened(tmp_path).groups
    skips = Skips(allowed=True)
    assert opened(tmp_path, skips=skips).groups == {"t0sf": ["sciq_Direct_Question"]}
    assert dict(skips.counts) == {"no rows in it": 1}


def test_what_a_killed_process_left_of_an_index_goes_a_day_later(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1)])
    cache = tmp_path / "cache" / "rendered"
    for name in ("building-old", "building-new"):
        (cache / name).mkdir(parents=True)
        (cache / name / "rows.jsonl").write_text("half")
    long_ago = time.time() - ABANDONED_AFTER - 60
    for path in (cache / "building-old" / "rows.jsonl", cache / "building-old"):
        os.utime(path, (long_ago, long_ago))

    _ = opened(tmp_path).groups

    assert [path.name for path in cache.glob("building-*")] == ["building-new"]


def test_a_long_reading_is_told_of_before_it_begins_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1)])
    monkeypatch.setattr("flanscale.tasks.rendered_index.TOLD_BYTES", 0)
    for _ in range(2):
        _ = opened(tmp_path).groups
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'data'}: indexing 1 files, 0.0 GB; once, until one changes"
    ]


def test_processes_that_index_at_the_same_moment_agree(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl.gz", [row(i) for i in range(20_000)])
    code = (
        "import sys; from pathlib import Path; from flanscale.tasks.rendered import Rendered\n"
        "from flanscale.tasks.reading import Skips\n"
        f"r = Rendered(Path({str(tmp_path / 'data')!r}), 100, Skips(), Path({str(tmp_path / 'cache')!r}))\n"
        "print(r.fingerprint('sciq_Direct_Question'), len(r.task('sciq_Direct_Question').examples))"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]

    said = {job.communicate()[0] for job in jobs}

    assert [job.returncode for job in jobs] == [0, 0, 0]
    assert len(said) == 1
    assert len(list((tmp_path / "cache" / "rendered").iterdir())) == 1


def test_tasks_travel_to_other_processes(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", [row(1)])

    task = pickle.loads(pickle.dumps(opened(tmp_path).task("sciq_Direct_Question")))

    assert task.examples[0].input == "question 1 é?"


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    text = "x" * 100_000
    path = tmp_path / "data" / "a.jsonl.gz"
    path.parent.mkdir()
    with gzip.open(path, "wt", compresslevel=1) as file:
        for i in range(1200):  # 120 MB
            file.write(json.dumps(row(i) | {"inputs": text}) + "\n")
    code = (
        "import resource; from pathlib import Path; from flanscale.tasks.rendered import Rendered\n"
        "from flanscale.tasks.reading import Skips\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"_ = Rendered(Path({str(tmp_path / 'data')!r}), 10, Skips(), Path({str(tmp_path / 'cache')!r})).groups\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )

    grown_kib = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert grown_kib < 50_000
