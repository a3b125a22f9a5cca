"""The points of a study: the product of its axes, less exclusions, as the user's overrides change it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from flanscale.config.overrides import as_override, parse_override
from flanscale.config.places import available
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.grid import parse_sweep, points
from flanscale.orchestration.planning.study import Study, parse_study, point_overrides, with_overrides

STUDY = Study("s", {"mixture.count": (0, 9), "cot": (False, True), "seed": (0, 1)}, base=("model=nano",))


def test_points_are_the_product_with_the_last_axis_fastest() -> None:
    grid = points({"seed": (0, 1), "cot": (False, True)}, ())
    assert grid == [
        {"seed": 0, "cot": False},
        {"seed": 0, "cot": True},
        {"seed": 1, "cot": False},
        {"seed": 1, "cot": True},
    ]


def test_a_point_is_left_out_when_it_matches_all_keys_of_an_exclusion() -> None:
    grid = points(STUDY.axes, [{"mixture.count": (0,), "cot": (True,)}, {"seed": (1,), "mixture.count": (9, 89)}])
    assert grid == [
        {"mixture.count": 0, "cot": False, "seed": 0},
        {"mixture.count": 0, "cot": False, "seed": 1},
        {"mixture.count": 9, "cot": False, "seed": 0},
        {"mixture.count": 9, "cot": True, "seed": 0},
    ]


def test_excluding_true_does_not_exclude_one() -> None:
    assert points({"seed": (0, 1)}, [{"seed": (True,)}]) == [{"seed": 0}, {"seed": 1}]


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("seed=5", (5,)),
        ("seed=0,1,2", (0, 1, 2)),
        ("seed=range(0,4)", (0, 1, 2, 3)),
        ("seed=choice(3,1)", (3, 1)),
        ("++seed=7,8", (7, 8)),
    ],
)
def test_an_override_of_an_axis_replaces_its_values(override: str, values: tuple[int, ...]) -> None:
    asked = with_overrides(STUDY, [override])
    assert asked.axes["seed"] == values
    assert list(asked.axes) == list(STUDY.axes)
    assert asked.base == STUDY.base


def test_any_other_override_holds_for_every_cell_and_comes_after_the_studys_own() -> None:
    asked = with_overrides(STUDY, ["trainer.steps=5", "model=micro"])
    assert point_overrides(asked, {"seed": 1}) == ["model=nano", "trainer.steps=5", "model=micro", "seed=1"]
    assert asked.axes == STUDY.axes


def test_a_sweep_over_another_key_becomes_an_axis() -> None:
    assert with_overrides(STUDY, ["model=nano,micro"]).axes["model"] == ("nano", "micro")


def test_a_glob_chooses_among_the_files_of_a_group() -> None:
    assert parse_sweep("model=glob(t5*)") == ("model", tuple(name for name in available("model") if name[:2] == "t5"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "not an override"),
        ("seed=0,,1", "not an override"),
        ("sead=0,1", "unknown key 'sead'; did you mean seed"),
        ("model=nano,mikro", "model=mikro: no such choice"),
        ("model=glob(zzz*)", "no values"),
        ("seed=interval(0,1)", "an interval has no end of values; list some"),
        ("seed=1,1", "seed=1,1: 1 is listed twice"),
        ("cot=false,0", "listed twice"),
        ("hydra/launcher=joblib", "cluster.parallelism=N"),
        ("hydra/launcher=submitit_slurm", "cluster=slurm submits them"),
        ("hydra/sweeper=optuna", "list the values"),
        ("hydra/launcher=basic", "settings of Hydra itself"),
        ("~seed", "cannot be deleted"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        with_overrides(STUDY, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("seed", value) for value in (0, 3)),
        *(("optimizer.learning_rate", value) for value in (1.5, 1e-7)),
        *(("cot", value) for value in (True, False)),
        *(
            ("tracker.entity", value)
            for value in (None, "nano", "a b", "it's", "a,b", "null", "True", "12", "1.10", "")
        ),
        ("tracker.entity", "x=y"),
        ("tracker.tags", ["1", "a b"]),
        ("mixture.proportions", {"cot": 0.5, "muffin": 1.0}),
    ],
)
def test_a_value_survives_the_way_through_hydras_grammar(key: str, value: Any) -> None:
    assert parse_override(as_override(key, value)) == (key, value)


@given(some.text(alphabet="ab1é \\'\"{}[]():,=.$#%~@", max_size=6).filter(lambda text: "${" not in text))
def test_a_text_survives_whatever_is_in_it(written: str) -> None:
    assert parse_override(as_override("tracker.notes", written)) == ("tracker.notes", written)


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("cot=no,yes", (False, True)),
        ("cot=0,1", (False, True)),
        ("seed='8','9'", (8, 9)),
        ("optimizer.learning_rate=1,1e-4,'1e-3'", (1.0, 1e-4, 1e-3)),
        ("tracker.project=1.10,2024_117,83e2010835,true", ("1.10", "2024_117", "83e2010835", "true")),
    ],
)
def test_the_values_of_a_sweep_are_typed_by_the_schema(override: str, values: tuple[Any, ...]) -> None:
    found = parse_sweep(override)[1]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize("written", ["cot=0,1", "cot=no,yes", "cot='false','true'"])
def test_an_exclusion_holds_for_a_value_however_it_is_written(written: str) -> None:
    study = parse_study("s", {"axes": {"cot": [False, True], "seed": [0, 1]}, "exclude": [{"cot": "yes", "seed": "1"}]})
    asked = with_overrides(study, [written])
    assert len(points(asked.axes, asked.exclude)) == 3
