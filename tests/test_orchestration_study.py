"""Study files are read strictly: what they mean is certain, and what is wrong with them is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from flanscale.errors import ConfigError
from flanscale.orchestration.planning.study import available_studies, load_study

GOOD = """
title: Tasks
description: more of them
base: [model=nano, trainer.steps=20]
axes:
  mixture.count: [0, 9]
  cot: [false, true]
exclude:
  - {mixture.count: 0, cot: true}
"""


@pytest.fixture(autouse=True)
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "sweeps"
    folder.mkdir()
    return folder


def write(folder: Path, text: str, name: str = "mine") -> str:
    (folder / f"{name}.yaml").write_text(text)
    return name


def test_a_study_is_read_with_its_axes_in_the_order_of_the_file(sweeps: Path) -> None:
    study = load_study(write(sweeps, GOOD))
    assert (study.name, study.title, study.description) == ("mine", "Tasks", "more of them")
    assert study.base == ("model=nano", "trainer.steps=20")
    assert list(study.axes.items()) == [("mixture.count", (0, 9)), ("cot", (False, True))]


def test_a_study_is_found_by_the_path_of_its_file_too(sweeps: Path) -> None:
    write(sweeps, GOOD)
    assert load_study("sweeps/mine.yaml") == load_study("mine")


def test_a_study_in_the_working_directory_hides_the_shipped_one_of_the_same_name(sweeps: Path) -> None:
    assert load_study("quickstart").title != "Tasks"
    write(sweeps, GOOD, "quickstart")
    assert load_study("quickstart").title == "Tasks"


@pytest.mark.parametrize("name", sorted(available_studies()))
def test_every_shipped_study_is_valid(name: str) -> None:
    assert load_study(name).axes


def test_an_unknown_study_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no study 'quikstart'; did you mean quickstart\?"):
        load_study("quikstart")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no study file at there/none.yaml"):
        load_study("there/none.yaml")


def test_numbers_in_exponent_notation_are_numbers(sweeps: Path) -> None:
    study = load_study(write(sweeps, "axes: {optimizer.learning_rate: [1e-3, 3.0e-4, 2E3, -1e2]}"))
    assert study.axes["optimizer.learning_rate"] == (1e-3, 3e-4, 2e3, -100.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axis: {seed: [0]}", "expected a mapping with at least `axes"),
        ("[1, 2]", "expected a mapping"),
        ("", "expected a mapping"),
        ("axes: {seed: [0]}\nexlude: []", "unknown key 'exlude'; did you mean exclude"),
        ("axes: {sead: [0]}", "unknown key 'sead'; did you mean seed"),
        ("axes: {mixture.cuont: [0]}", "unknown key 'mixture.cuont'; did you mean mixture.count"),
        ("axes: {model: [nano, mikro]}", "model=mikro: no such choice; did you mean micro"),
        ("axes: {seed: []}", "axes.seed: the list of values is empty"),
        ("axes: {seed: 3}", r"axes.seed: expected a list of values, got 3; write \[3\]"),
        ("axes: {seed: [0, 1, 0]}", "axes.seed: 0 is listed twice"),
        ("axes: {seed: [{a: 1}]}", "axes.seed: a value is a number"),
        ("axes: {seed: [0]}\nbase: seed=1", "base: expected a list"),
        ("axes: {seed: [0]}\nbase: [seed=1]", "base: seed=1 sets seed, which is an axis"),
        ("axes: {seed: [0]}\nbase: [trainer.stepz=1]", "unknown key 'trainer.stepz'; did you mean trainer.steps"),
        ("axes: {seed: [0]}\nbase: [cot]", "'cot' is not an override"),
        ("axes: {seed: [0]}\ntitle: [a]", "title: expected text"),
        ("axes: {seed: [0]}\nexclude: [{cot: true}]", "exclude: 'cot' is no axis of this study; its axes are seed"),
        ("axes: {seed: [0]}\nexclude: [seed]", "exclude: expected {axis: value}, got 'seed'"),
        ("axes: {seed: [0, 1]}\nexclude: [{seed: [0, 1]}]", "exclude: leaves none of the 2 points"),
        ("axes: {seed: [0]}\naxes: {seed: [1]}", "line 2: 'axes' is given twice"),
        ("axes: {seed: [0, 1]}\nexclude: [{seed: 2}]", r"exclude: seed=2 matches no point; .* seed are \[0, 1\]"),
        ("axes: {seed: [0, 1]}\nexclude: {seed: 1}", "exclude: expected a list"),
        ("axes: {seed: [0]}\nset: [{when: {cot: true}, set: [trainer.steps=1]}]", "set.when: 'cot' is no axis"),
        ("axes: {seed: [0]}\nset: [{when: {seed: 1}, set: [trainer.steps=1]}]", "set.when: seed=1 matches no point"),
        (
            "axes: {seed: [0]}\nset: [{when: {seed: true}, set: [trainer.steps=1]}]",
            "set.when: seed=True: Value 'True' of type 'bool' could not be converted to Integer",
        ),
        ("axes: {seed: [0]}\nset: [{when: {seed: 0}, set: [seed=1]}]", "set: seed=1 sets seed, which is an axis"),
        ("axes: {seed: [0]}\nset: [{when: {seed: 0}, set: [trainer.stepz=1]}]", "unknown key 'trainer.stepz'"),
        ("axes: {seed: [0]}\nset: [{when: {seed: 0}, set: []}]", "set: expected {when: {axis: value}, set:"),
        ("axes: {seed: [0]}\nset: [{seed: 0}]", "set: expected {when: {axis: value}, set:"),
        (
            "axes: {seed: [0, 1], cot: [true, false]}\nexclude: [{seed: 1, cot: true}]\n"
            "set: [{when: {seed: 1, cot: true}, set: [trainer.steps=1]}]",
            "set: seed=1, cot=true matches no point: `exclude` leaves them all out",
        ),
        ("axes: {seed: [0]}\nparent: [model=nano]", "parent: expected {inherit: "),
        ("axes: {seed: [0]}\nparent: {inherits: [seed]}", "unknown key 'inherits'; did you mean inherit"),
        ("axes: {seed: [0]}\nparent: {inherit: seed}", "parent.inherit: expected a list of axes, got 'seed'"),
        ("axes: {seed: [0]}\nparent: {inherit: [model]}", "parent.inherit: 'model' is none of the axes seed"),
        ("axes: {seed: [0]}\nparent: {inherit: [seed], base: [seed=3]}", "parent.base: seed=3 sets seed, which is an"),
        (
            "axes: {seed: [0]}\nparent: {base: [cot=true], set: [{when: {seed: 0}, set: [cot=true]}]}",
            "parent.set.when: 'seed' is no axis",
        ),
        (
            "axes: {seed: [0]}\nparent: {base: [cot=true], parent: {inherit: [seed]}}",
            r"parent.parent.inherit: 'seed' is none of the axes \(there are none\)",
        ),
        (
            "axes: {tracker.project: [1.10]}",
            "tracker.project: 1.1 is a float and no text here; put what is",
        ),
        ("axes:\n  seed: [010]", "line 2: 010 is 8 in YAML; write 8, or '010' where text is meant"),
        ("axes:\n  seed: [5:00]", "line 2: 5:00 is 300 in YAML; write 300"),
        ("axes: {optimizer.learning_rate: [1e-4, '0.0001']}", "'0.0001' is listed twice"),
        ("axes: {seed: [1.8K]}", "axes: seed=1.8K: not a number; write 1800"),
        ("axes: {seed: [0}", "not valid YAML: line 1"),
        ("axes: !!python/object/apply:os.getcwd []", "not valid YAML: line 1"),
    ],
)
def test_a_mistake_in_a_study_file_is_one_line_with_the_file_and_the_key(sweeps: Path, text: str, message: str) -> None:
    name = write(sweeps, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(name)
    assert str(sweeps / "mine.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)
