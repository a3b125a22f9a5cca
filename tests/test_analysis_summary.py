"""What means, their errors and the contrasts between arms promise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_study import AXES, truth, write_study

from analysis import contrasts, noise, panels, runs, summary
from analysis.summary import Curve, Replicate

CURVE = Curve("nano", "nano", None)


def replicate(score: float, count: int = 9, cell: str = "x", curve: Curve = CURVE, stderr: float = 1.0) -> Replicate:
    return Replicate(curve, count, score, stderr, 2 * stderr, 600, 0.0, score, (cell,))


def table(root: Path, **study: object) -> pd.DataFrame:
    return runs.table(runs.from_directories(write_study(root, predictions=False, **study)))  # type: ignore[arg-type]


def test_pooled_dispersion_is_that_of_the_simulation_and_its_degrees_of_freedom_are_honest() -> None:
    """Over many simulated studies φ̂/φ has mean 1 and the variance 2/df of a χ²/df variable."""
    rng = np.random.default_rng(0)
    means, n, dispersion = np.array([2.0, 10, 30, 50, 70, 90]), 600, 0.004
    sd = np.array([math.sqrt(dispersion * noise.spread(mean, n)) for mean in means])
    found = [
        noise.pool([(mean + s * rng.normal(size=2), n) for mean, s in zip(means, sd, strict=True)]) for _ in range(3000)
    ]
    ratio = np.array([each.dispersion for each in found]) / dispersion
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    assert ratio.var() == pytest.approx(2 / np.mean([each.df for each in found]), rel=0.15)


def test_cells_at_the_floor_do_not_make_the_others_look_exact() -> None:
    middle = [([40.0, 50.0], 600), ([55.0, 61.0], 600)]
    floor = [([0.0, 0.0], 600)] * 10
    alone, mixed = noise.pool(middle), noise.pool(middle + floor)
    assert mixed.dispersion == pytest.approx(alone.dispersion, rel=0.05)
    assert mixed.df == pytest.approx(alone.df, rel=0.1)
    assert 0 < mixed.variance(0.0, 600) < mixed.variance(50.0, 600) / 50


def test_without_repeated_seeds_the_error_is_that_of_the_items_and_the_interval_normal() -> None:
    seeds = summary.seed_noise([replicate(30.0)])
    assert (seeds.dispersion, seeds.df) == (0.0, 0.0)
    [mean] = summary.means([replicate(30.0)], seeds)
    assert mean.estimate.se == 1.0
    assert mean.estimate.half_width == pytest.approx(1.96, abs=0.001)


def test_the_standard_error_adds_seeds_and_items_and_only_the_seeds_shrink_with_more_runs() -> None:
    few, many = ([replicate(score, cell=str(i)) for i, score in enumerate([28.0, 32.0] * k)] for k in (1, 8))
    seeds = noise.SeedNoise(0.002, 10.0)
    for group, k in ((few, 2), (many, 16)):
        [mean] = summary.means(group, seeds)
        seed_variance = seeds.variance(30.0, 600) / k
        assert mean.estimate.se == pytest.approx(math.sqrt(seed_variance + 1.0))
        assert mean.se_tasks == pytest.approx(math.sqrt(seed_variance + 4.0))


def test_intervals_are_students_with_the_seeds_degrees_of_freedom() -> None:
    estimate = summary.combine(30.0, 4.0, 5.0, 0.0)
    assert estimate.df == 5
    assert estimate.half_width == pytest.approx(2 * stats.t.ppf(0.975, 5))
    assert summary.combine(30.0, 4.0, 5.0, 4.0).df == pytest.approx(20)  # Welch–Satterthwaite


def test_intervals_of_means_cover_the_truth(tmp_path: Path) -> None:
    """Means over two seeds, against the expectation over seeds for the very same items."""
    hits, cells = 0, 0
    for seed in range(8):
        frame = table(tmp_path / str(seed), seed=seed, seed_spread=6.0)
        for setting in ("direct", "cot"):
            replicates = summary.replicates(frame, "procedural", setting)
            for mean in summary.means(replicates, summary.seed_noise(replicates)):
                if mean.count > 0:
                    axes = {"mixture.count": mean.count, "model": mean.curve.model, "cot": mean.curve.cot}
                    low, high = mean.estimate.interval
                    hits += low < truth(axes, setting) < high
                    cells += 1
    assert 0.92 < hits / cells <= 1.0


def test_normalised_errors_are_scaled_by_the_lower_bound(tmp_path: Path) -> None:
    plain, raised = (
        summary.replicates(table(tmp_path / str(bound), lower_bound=bound), "procedural", "cot")
        for bound in (0.0, 20.0)
    )
    for one, other in zip(plain, raised, strict=True):
        assert other.normalized == pytest.approx((one.score - 20) / 0.8)
    one, other = (summary.means(each, summary.seed_noise(each))[-1] for each in (plain, raised))
    assert other.value == pytest.approx((one.value - 20) / 0.8)
    assert other.estimate.se == pytest.approx(one.estimate.se / 0.8)
    assert other.estimate.df == pytest.approx(one.estimate.df)


def test_a_baseline_that_serves_both_arms_counts_once_in_the_pool(tmp_path: Path) -> None:
    replicates = summary.replicates(table(tmp_path), "procedural", "cot")
    without = [run for run in replicates if run.count > 0 or not run.curve.cot]
    assert summary.seed_noise(replicates) == summary.seed_noise(without)


def test_missing_seeds_are_counted(tmp_path: Path) -> None:
    replicates = summary.replicates(table(tmp_path, states={5: "failed"}), "procedural", "direct")
    means = {(mean.curve.label, mean.count): mean for mean in summary.means(replicates, summary.seed_noise(replicates))}
    assert (means["nano, without CoT", 9].replicates, means["nano, without CoT", 9].planned) == (1, 2)
    assert (means["nano, with CoT", 9].replicates, means["nano, with CoT", 9].planned) == (2, 2)


def test_draws_of_tasks_are_the_replicates_where_they_differ(tmp_path: Path) -> None:
    axes = {"mixture.count": [8, 64], "mixture.order_seed": [0, 1, 2], "seed": [0, 1]}
    replicates = summary.replicates(table(tmp_path, axes=axes), "procedural", "direct")
    assert len(replicates) == 2 * 3
    assert all(len(run.cells) == 2 for run in replicates)


def test_other_axes_make_curves_of_their_own(tmp_path: Path) -> None:
    axes = {"mixture.count": [8, 64], "optimizer.learning_rate": [0.1, 0.2], "seed": [0, 1]}
    frame = table(tmp_path, axes=axes)
    curves = {run.curve for run in summary.replicates(frame, "procedural", "direct")}
    assert {curve.label for curve in curves} == {f"nano · optimizer.learning_rate {rate}" for rate in (0.1, 0.2)}


def test_an_average_of_one_member_is_not_shown_twice(tmp_path: Path) -> None:
    settings = {"niv2_rouge_l": ["direct"], "niv2_exact_match": ["direct"]}
    axes = {"mixture.count": [8, 64], "seed": [0]}
    one = table(tmp_path / "1", axes=axes, settings=settings, averaged=["niv2_rouge_l"])
    both = table(tmp_path / "2", axes=axes, settings=settings, averaged=list(settings))
    members = [("niv2_rouge_l", "direct"), ("niv2_exact_match", "direct")]
    assert summary.panels(one) == members
    assert summary.panels(both) == [*members, runs.AVERAGE]


def asked(root: Path, **study: object) -> tuple[dict[tuple[str, str, str], contrasts.Contrast], list[panels.Panel]]:
    """Contrasts by setting, question and size."""
    read = runs.from_directories(write_study(root, **study))  # type: ignore[arg-type]
    analysed = panels.analyse(read)
    found = {
        (panel.setting, each.question, each.size): each
        for panel in analysed
        for each in contrasts.contrasts(panel, contrasts.read_items(read, panel))
    }
    return found, analysed


def test_contrasts_are_the_differences_of_the_means(tmp_path: Path) -> None:
    found, analysed = asked(tmp_path)
    panel = analysed[1]
    value = {(mean.curve.label, mean.count): mean.value for mean in panel.means}
    delta = value["micro, with CoT", 1836] - value["micro, without CoT", 1836]
    assert found["cot", "Δ CoT at 1,836 tasks", "micro"].estimate.value == pytest.approx(delta)
    volume = [value[f"{size}, with CoT", 1836] - value[f"{size}, with CoT", 9] for size in ("nano", "micro")]
    contrast = found["cot", "Δ volume, 9 → 1,836 tasks with CoT", contrasts.ALL_SIZES]
    assert contrast.estimate.value == pytest.approx(np.mean(volume))


def test_direct_and_cot_prompting_are_kept_apart(tmp_path: Path) -> None:
    found, _ = asked(tmp_path)
    question = ("Δ CoT, mean over task counts", contrasts.ALL_SIZES)
    direct, cot = (found[setting, *question].estimate for setting in ("direct", "cot"))
    assert direct.interval[1] < 3 < 20 < cot.interval[0]


def test_pairing_on_items_makes_differences_surer(tmp_path: Path) -> None:
    found, analysed = asked(tmp_path)
    unpaired = {each.question: each for each in contrasts.contrasts(analysed[1], None) if each.size == "nano"}
    question = "Δ CoT, mean over task counts"
    paired = found["cot", question, "nano"]
    assert paired.paired
    assert not unpaired[question].paired
    assert unpaired[question].estimate.value == pytest.approx(paired.estimate.value)
    assert unpaired[question].estimate.se > paired.estimate.se


def test_intervals_of_contrasts_cover_the_truth(tmp_path: Path) -> None:
    hits = []
    for seed in range(12):
        found, _ = asked(tmp_path / str(seed), seed=seed, seed_spread=6.0, axes=AXES | {"model": ["nano"]})
        for setting in ("direct", "cot"):
            for count in (9, 1836):
                with_, without = (
                    truth({"mixture.count": count, "model": "nano", "cot": cot}, setting) for cot in (True, False)
                )
                low, high = found[setting, f"Δ CoT at {count:,} tasks", "nano"].estimate.interval
                hits.append(low < with_ - without < high)
    assert np.mean(hits) > 0.87  # 48 intervals, nominal 0.95


def test_the_stratified_variance_is_that_of_the_evaluation() -> None:
    """Item scores with their own mean give back the `stderr` that a run logs for it."""
    rng = np.random.default_rng(0)
    scores_TxI = 100.0 * (rng.random((6, 10)) < 0.4)
    index = pd.MultiIndex.from_product([range(6), range(10)])
    expected = (scores_TxI.var(axis=1, ddof=1) / 10).sum() / 6**2
    assert contrasts.stratified_variance(pd.Series(scores_TxI.ravel(), index=index)) == pytest.approx(expected)


def test_items_that_differ_between_cells_are_not_paired(tmp_path: Path) -> None:
    study = runs.from_directories(write_study(tmp_path / "a", axes=AXES | {"model": ["nano"]}))
    panel = panels.analyse(study)[0]
    assert contrasts.read_items(study, panel) is not None
    write_study(tmp_path / "b", axes=AXES | {"model": ["nano"]}, items=20)
    run = study.points[9].run
    (tmp_path / "b" / "runs" / run).rename(tmp_path / "moved")
    target = study.folder / run / "predictions" / "procedural.jsonl.gz"
    (tmp_path / "moved" / "predictions" / "procedural.jsonl.gz").replace(target)
    assert contrasts.read_items(study, panel) is None
    target.unlink()
    assert contrasts.read_items(study, panel) is None


def test_a_study_without_arms_is_only_asked_for_volume(tmp_path: Path) -> None:
    found, _ = asked(
        tmp_path, axes={"mixture.count": [8, 64, 512], "seed": [0, 1, 2]}, settings={"procedural": ["direct"]}
    )
    assert {(question, size) for _, question, size in found} == {("Δ volume, 8 → 512 tasks", "nano")}


def test_a_dip_beyond_its_error_is_reported_and_not_dropped() -> None:
    steady = [replicate(score, count, f"{count}-{score}") for count in (9, 89, 282) for score in (20.0, 21.0)]
    falling = [replace(run, score=5.0, normalized=5.0) if run.count == 89 else run for run in steady]
    assert panels.panel("b", "s", steady, ["nano"]).warnings == ()
    panel = panels.panel("b", "s", falling, ["nano"])
    assert [warning for warning in panel.warnings if "lower at 89 tasks than at 9" in warning]
    assert len(panel.means) == 3
