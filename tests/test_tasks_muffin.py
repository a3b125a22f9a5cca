"""Muffin's datasets: joined texts come apart into the fields that templates name."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from flanscale.errors import DataError
from flanscale.tasks.catalog import COUNTS
from flanscale.tasks.muffin import FORMS, Muffin
from flanscale.tasks.task import Skips, Task

RTE = {"sentence": "sentence 1: It rains.\nsentence 2: It is wet.", "label": "entailment"}


def rte(tmp_path: Path, records: Any, labels: Any = ("contradiction", "entailment")) -> Path:
    (tmp_path / "rte").mkdir(exist_ok=True)
    (tmp_path / "rte" / "train.json.gz").write_bytes(gzip.compress(json.dumps(records).encode()))
    (tmp_path / "rte" / "labels.json").write_text(json.dumps(labels))
    return tmp_path


def test_a_joined_text_becomes_fields_input_and_options(tmp_path: Path) -> None:
    task = Muffin(rte(tmp_path, [RTE]), 10).task("rte")
    (example,) = task.examples

    assert example.fields == {"premise": "It rains.", "hypothesis": "It is wet.", "answer": "entailment"}
    assert example.input == "Premise: It rains.\nHypothesis: It is wet."
    assert (example.target, example.options) == ("entailment", ("contradiction", "entailment"))
    assert task.style == "classification"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (RTE | {"label": "-"}, "label '-' is not in labels.json"),
        (RTE | {"sentence": "It rains."}, "does not have this dataset's parts"),
        (RTE | {"sentence": "sentence 1: \nsentence 2: x"}, "empty premise"),
        ({"sentence": RTE["sentence"]}, "no text 'label'"),
        ("text", "a JSON str, expected an object"),
    ],
)
def test_a_bad_record_is_named_or_left_out_and_counted(tmp_path: Path, record: Any, why: str) -> None:
    folder, skips = rte(tmp_path, [RTE, record, RTE]), Skips(allowed=True)

    assert [example.id for example in Muffin(folder, 10, skips).task("rte").examples] == ["1", "3"]
    assert skips.total == 1
    with pytest.raises(DataError, match=rf"train\.json\.gz:record 2: .*{why}"):
        Muffin(folder, 10).task("rte")


def test_answers_that_are_letters_of_alternatives_become_their_texts(tmp_path: Path) -> None:
    text = 'Which sentence is the effect of "It rained."? Choose one between A and B.\nA: Wet.\nB: Dry.'
    (tmp_path / "copa").mkdir()
    (tmp_path / "copa" / "labels.json").write_text('["A", "B", "C"]')
    records = [{"sentence": text, "label": label} for label in ("A", "C")]
    (tmp_path / "copa" / "train.json").write_text(json.dumps(records))
    skips = Skips(allowed=True)

    (example,) = Muffin(tmp_path, 10, skips).task("copa").examples

    assert (example.target, example.options) == ("Wet.", ("Wet.", "Dry."))
    assert example.fields == {"premise": "It rained.", "question": "effect", "answer": "Wet."}
    assert skips.counts == {"label 'C' names none of A, B": 1}


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.json\.gz: a JSON dict, expected a list"):
        Muffin(rte(tmp_path, {}), 10).task("rte")
    with pytest.raises(DataError, match=r"train\.json\.gz: no examples"):
        Muffin(rte(tmp_path, []), 10).task("rte")
    with pytest.raises(DataError, match=r"labels\.json: expected a list of label words"):
        Muffin(rte(tmp_path, [RTE], {"0": "no"}), 10).task("rte")
    (tmp_path / "rte" / "labels.json").unlink()
    with pytest.raises(DataError, match=r"labels\.json: No such file"):
        Muffin(tmp_path, 10).task("rte")


def test_labels_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    before = Muffin(rte(tmp_path, [RTE]), 10).fingerprint("rte")

    assert Muffin(rte(tmp_path, [RTE], ["no", "entailment"]), 10).fingerprint("rte") != before


def test_tab_separated_acceptability_has_four_columns(tmp_path: Path) -> None:
    (tmp_path / "cola").mkdir()
    (tmp_path / "cola" / "in_domain_train.tsv").write_text("gj04\t1\t\tIt rains.\ngj04\t0\t*\tRains it.\ngj04\t1\n")
    skips = Skips(allowed=True)

    examples = Muffin(tmp_path, 10, skips).task("cola").examples

    assert [(example.input, example.target) for example in examples] == [
        ("It rains.", "acceptable"),
        ("Rains it.", "unacceptable"),
    ]
    with pytest.raises(DataError, match=r"in_domain_train\.tsv:3: 2 tab-separated columns"):
        Muffin(tmp_path, 10).task("cola")


def test_a_training_set_is_preferred_and_a_dev_set_says_that_it_stands_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "e2e_nlg").mkdir()
    (tmp_path / "e2e_nlg" / "devset.csv").write_text("mr,ref\nname[The Eagle],It is The Eagle.\n")

    (example,) = Muffin(tmp_path, 10).task("e2e_nlg").examples
    before = Muffin(tmp_path, 10).fingerprint("e2e_nlg")

    assert example.fields["meaning_representation"] == "name = The Eagle"
    assert "devset.csv stands in for the training set" in caplog.text
    caplog.clear()
    (tmp_path / "e2e_nlg" / "trainset.csv").write_text("mr,ref\nname[The Eagle],It is The Eagle.\n")
    Muffin(tmp_path, 10).task("e2e_nlg")
    assert not caplog.records
    assert Muffin(tmp_path, 10).fingerprint("e2e_nlg") != before  # same rows, but no longer a stand-in


def test_absent_datasets_are_missing_with_what_to_do(tmp_path: Path) -> None:
    muffin = Muffin(rte(tmp_path, [RTE]), 10)

    assert muffin.groups == {"muffin": ["rte"]}
    assert len(muffin.missing) == COUNTS["muffin"] - 1
    assert muffin.missing["cb"].startswith("no train.json in")
    assert "nor in collection=rendered (FLAN could not release it" in muffin.missing["dmcc_python"]
    assert (
        f"`flanscale tasks fetch muffin --to {tmp_path.parent} --accept-licence` brings it" in muffin.missing["aeslc"]
    )
    assert "collection=rendered" in muffin.missing["story_cloze"]
    with pytest.raises(DataError, match=r"no task '\.\./rte' in muffin"):
        muffin.task("../rte")


@pytest.fixture
def real(shared_data: Path) -> dict[str, Task]:
    muffin = Muffin(shared_data / "muffin", 10**6)
    assert len(muffin.missing) == COUNTS["muffin"] - len(FORMS)
    return {name: muffin.task(name) for name in muffin.groups["muffin"]}


@pytest.mark.data
def test_the_real_datasets_are_read_without_a_bad_record(real: dict[str, Task]) -> None:
    sizes = {name: len(task.examples) for name, task in real.items()}

    assert set(sizes) == set(FORMS)
    assert sizes | {"cola": 8551, "cb": 250, "copa": 400} == sizes
    assert sum(sizes.values()) == 14_701
    for task in real.values():
        assert all(bool(example.options) == (task.style == "classification") for example in task.examples)
        assert all(not example.options or example.target in example.options for example in task.examples)


@pytest.mark.data
def test_every_field_that_flan_s_templates_name_is_there(real: dict[str, Task], shared_data: Path) -> None:
    patterns = json.loads(gzip.decompress((shared_data / "flan" / "templates.json.gz").read_bytes()))["PATTERNS"]
    made_by_the_wording = {"options_"}

    for name, task in real.items():
        named = set(re.findall(r"{(\w+)}", json.dumps(patterns["mnli" if name == "mnli_matched" else name])))
        for example in task.examples:
            assert named - made_by_the_wording <= example.fields.keys(), name
