"""Whether a finding holds again, what a study can see beforehand, and whether a curve rises at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_study import AXES, write_study

from analysis import contrasts, joint, panels, power, replication, report, sources, trend, two_steps
from analysis.contrasts import Contrast
from analysis.noise import SeedNoise
from analysis.panels import Panel
from analysis.runs import AnalysisError
from analysis.summary import LOSS, Curve, Replicate
from analysis.surface import Points, additive

DESIGN = AXES | {"model": ["nano"], "seed": [0, 1, 2]}


def rising(axes: Mapping[str, Any], setting: str) -> float:
    return 20.0 + 5 * np.log10(max(axes["mixture.count"], 1)) + 10 * axes["cot"]


def falling(axes: Mapping[str, Any], setting: str) -> float:
    return 50.0 - 5 * np.log10(max(axes["mixture.count"], 1)) - 10 * axes["cot"]


def flat(axes: Mapping[str, Any], setting: str) -> float:
    return 30.0


def study(root: Path, **world: Any) -> tuple[Panel, list[Contrast]]:
    read = sources.read(write_study(root, axes=DESIGN, records=False, **world))
    analysed = panels.analyse(read)
    return analysed[-1], contrasts.ask(read, analysed)[0][-1]


def test_what_holds_again_what_does_not_and_what_is_not_told(tmp_path: Path) -> None:
    first = study(tmp_path / "a", truth=rising, seed_spread=0.5)
    verdicts = {}
    for name, truth, spread in (
        ("same", rising, 0.5),
        ("opposite", falling, 0.5),
        ("none", flat, 0.3),
        ("noisy", flat, 15.0),
    ):
        second = study(tmp_path / name, truth=truth, seed_spread=spread, seed=1, items=100)
        found = {each.first.question.kind: each.verdict for each in replication.replication(first[1], second[1])}
        verdicts[name] = found["volume"]
    assert verdicts == {
        "same": "replicated",
        "opposite": "not replicated",
        "none": "not replicated",
        "noisy": "inconclusive",
    }


def test_nothing_is_known_of_how_small_a_difference_of_losses_does_not_matter(tmp_path: Path) -> None:
    first, second = (
        study(tmp_path / name, truth=truth, seed_spread=0.3)[1] for name, truth in (("a", rising), ("b", flat))
    )
    losses = [[replace(each, falls=True) for each in found] for found in (first, second)]
    assert "not replicated" in {each.verdict for each in replication.replication(first, second)}
    pairs = replication.replication(*losses)
    assert {each.verdict for each in pairs} == {"inconclusive"}
    told = replication.Again("the first", "", pairs, replication.Heights(4, -0.0124, 0.5, 1.0, 1.0, LOSS)).sentences
    assert all(re.search(r": [+-]\d+\.\d{3} \[.* in the first, [+-]\d+\.\d{3} \[.* here$", line) for line in told[:-1])
    assert "-0.012 of loss from there" in told[-1]


def test_heights_are_compared_over_the_matched_cells(tmp_path: Path) -> None:
    first = study(tmp_path / "a", truth=rising)[0]
    same, opposite = (
        replication.heights(first, study(tmp_path / name, truth=truth, seed=1)[0])
        for name, truth in (("same", rising), ("opposite", falling))
    )
    assert same is not None
    assert opposite is not None
    assert same.cells == opposite.cells == 10
    assert same.order > 0.7 > 0 > opposite.order
    assert same.inside > 0.8 > opposite.inside
    assert abs(same.difference) < 3


def test_more_runs_see_smaller_effects_and_one_run_sees_none(tmp_path: Path) -> None:
    read = sources.read(write_study(tmp_path / "three", axes=DESIGN, states=dict.fromkeys(range(30), "missing")))
    noise = SeedNoise(0.15, 1.0, 20)
    found = {each.question.kind: each for each in power.seen(read, noise, 1200)}
    by_runs = found["volume"].by_runs
    assert by_runs[1] is None
    assert by_runs[2] > by_runs[3] > by_runs[5] > by_runs[8] > 0  # type: ignore[operator]
    assert found["volume"].smallest == pytest.approx(by_runs[3])
    once = sources.read(write_study(tmp_path / "one", axes=DESIGN | {"seed": [0]}, states={0: "missing"}))
    assert all(each.smallest is None for each in power.seen(once, noise, 1200))


def test_an_effect_of_the_smallest_size_is_seen_in_four_studies_of_five(tmp_path: Path) -> None:
    """By simulation of the report's test, with the error and degrees of freedom foreseen."""
    read = sources.read(write_study(tmp_path, axes=DESIGN, states=dict.fromkeys(range(30), "missing")))
    seen = power.seen(read, SeedNoise(0.15, 1.0, 20), 1200)
    [cot] = [each for each in seen if each.question.kind == "cot"]
    assert cot.smallest is not None
    asked = len([each for each in seen if each.question.family == cot.question.family])
    rng, df = np.random.default_rng(0), 2 * (8 + 4)
    error = cot.standard_error * np.sqrt(rng.chisquare(df, 20000) / df)
    value = cot.smallest + cot.standard_error * rng.normal(size=20000)
    from scipy import stats

    assert np.mean(np.abs(value / error) > stats.t.ppf(1 - 0.025 / asked, df)) == pytest.approx(0.8, abs=0.03)


def test_exponents_are_known_better_from_more_runs(tmp_path: Path) -> None:
    axes = AXES | {"mixture.count": [9, 30, 89, 282, 700, 1836]}
    factors = []
    for seeds in ([0, 1], [0, 1, 2, 3, 4, 5]):
        index = write_study(
            tmp_path / str(len(seeds)), axes=axes | {"seed": seeds}, states=dict.fromkeys(range(200), "missing")
        )
        factors.append(power.exponent_factor(sources.read(index), SeedNoise(0.1, 1.0, 20), 1200))
    assert factors[0] > factors[1] > 1


def test_a_curve_that_never_falls_is_no_dip_and_one_that_does_is() -> None:
    se = np.full(5, 1.0)
    steady = trend.trend(np.array([10.0, 14, 20, 21, 25]), se)
    assert (steady.statistic, steady.p, steady.worst_dip) == (0, 1.0, 0.0)
    dip = trend.trend(np.array([10.0, 20, 8, 21, 25]), se)
    assert dip.p < 0.01
    assert dip.worst_dip == 12


def test_the_trend_test_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    p = [trend.trend(30 + rng.normal(size=5), np.ones(5), seed).p for seed in range(60)]
    assert np.mean(np.array(p) < 0.05) < 0.15


def test_loss_foretells_accuracy_of_larger_models() -> None:
    n = np.geomspace(1e7, 1e10, 12)
    x = np.stack([n, 20 * n], axis=1)
    loss = 0.6 + 60 * x[:, 0] ** -0.3 + 100 * x[:, 1] ** -0.3
    accuracy = 0.25 + 0.6 / (1 + np.exp(9 * (loss - 0.85)))
    small = slice(0, 9)
    fitted = two_steps.two_steps(additive("N", "D"), Points(x[small], loss[small]), accuracy[small], 0.25, 1.0)
    relative, absolute = fitted.errors(x[9:], loss[9:], accuracy[9:])
    assert relative < 0.01
    assert absolute < 0.03
    assert fitted.link.status == "ok"


def test_the_report_says_which_findings_hold_again(tmp_path: Path) -> None:
    one, other = (
        write_study(tmp_path / name, name=name, axes=DESIGN, records=False, truth=truth, seed_spread=0.5, seed=seed)
        for seed, (name, truth) in enumerate((("first", rising), ("again", rising)))
    )
    with pytest.raises(AnalysisError, match="share 27 cells: neither can confirm the other"):
        report.build(other, tmp_path / "out", first=one)
    document = json.loads(one.read_text())  # of another collection: other cells
    for point in document["points"]:
        point["cell"] = f"f{point['cell'][1:]}"
    one.write_text(json.dumps(document))
    built = report.build(other, tmp_path / "out", first=one)
    text = built.html.read_text()
    assert "Does it hold again?" in text
    assert "replicated: Δ volume, 9 → 1,836 tasks with CoT" in text
    assert "Over 10 matched cells" in text


def test_a_law_in_size_and_tasks_is_held_against_the_next_smaller_size(tmp_path: Path) -> None:
    """Four sizes of a multiplicative truth: the law predicts the largest, where the next smaller size is too low."""
    sizes = {"a": 10**6, "b": 10**7, "c": 10**8, "d": 10**9}

    def score(model: str, count: int) -> float:
        return 90.0 - 400.0 * sizes[model] ** -0.1 * count**-0.08

    rng = np.random.default_rng(0)
    runs = [
        Replicate(
            Curve(model),
            count,
            score(model, count) + 0.1 * rng.normal(),
            1.0,
            1.0,
            1e5,
            0.0,
            0.0,
            (f"{model}{count}{s}",),
        )
        for model in sizes
        for count in (9, 89, 282, 1836)
        for s in range(2)
    ]
    runs = [replace(run, normalized=run.score) for run in runs]
    [law] = joint.joint(panels.panel("b", "s", runs, sizes))
    errors = law.errors
    assert errors["multiplicative"] is not None
    assert errors["next smaller size"] is not None
    assert errors["multiplicative"] < 0.7 < 3 < errors["next smaller size"]
    assert law.multiplicative.parameters["alpha_N_N_n"] == pytest.approx(0.1, abs=0.02)
    assert joint.joint(panels.panel("b", "s", runs[:24], sizes)) == []
