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

from analysis import answers, contrasts, items, noise, panels, questions, runs, sources, summary
from analysis.scores import AVERAGE
from analysis.summary import Curve, Replicate

CURVE = Curve("nano")


def replicate(score: float, count: int = 9, cell: str = "x", curve: Curve = CURVE, stderr: float = 1.0) -> Replicate:
    return Replicate(curve, count, score, stderr, 2 * stderr, 600, 0.0, score, (cell,))


def table(root: Path, **study: object) -> pd.DataFrame:
    return runs.table(sources.from_directories(write_study(root, records=False, **study)))  # type: ignore[arg-type]


def test_the_pooled_deviation_is_that_of_the_simulation_and_its_degrees_of_freedom_are_honest() -> None:
    """Over many simulated curves the pooled variance over the true one has mean 1 and the variance 2/df of χ²/df."""
    rng = np.random.default_rng(0)
    odds, n, deviation = np.array([-3.0, -1.0, 0.0, 1.0, 3.0]), 100_000, 0.3

    def curve() -> list[tuple[list[float], float]]:
        return [(list(100 / (1 + np.exp(-(each + deviation * rng.normal(size=2))))), n) for each in odds]

    found = [noise.pool(curve()) for _ in range(3000)]
    ratio = np.array([each.variance(50.0, n) for each in found]) / ((25 * deviation) ** 2 + 2500 / n)
    assert {each.df for each in found} == {5}
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert ratio.var() == pytest.approx(2 / 5, rel=0.1)


@pytest.mark.parametrize("edge", [0.0, 0.5, 99.5, 100.0])
def test_cells_at_the_floor_or_ceiling_neither_hide_the_variance_nor_suffer_from_it(edge: float) -> None:
    middle = [([40.0, 50.0], 600), ([55.0, 61.0], 600)]
    alone, mixed = noise.pool(middle), noise.pool([*middle, *[([edge, edge], 600)] * 10])
    assert mixed == alone
    assert 0 < mixed.variance(edge, 600) < mixed.variance(50.0, 600) / 100


def test_a_curve_has_its_own_noise_and_borrows_the_panels_where_it_cannot_know() -> None:
    calm, wild, once = (Curve(name) for name in ("calm", "wild", "once"))
    runs = [
        replicate(score + shift, count, f"{curve.model}{count}{shift}", curve)
        for curve, width in ((calm, 1.0), (wild, 20.0))
        for count, score in ((9, 40.0), (30, 45.0), (89, 50.0), (282, 60.0))
        for shift in (-width, width)
    ]
    seeds = summary.seed_noise([*runs, replicate(30.0, 9, "once", once)])
    variance = {curve: found.variance(50.0, 600) for curve, found in seeds.items()}
    assert variance[wild] > 1.5 * variance[calm] > 0
    assert (seeds[calm].df, seeds[wild].df, seeds[once].df) == (6, 6, 4)  # two, and four, of the others'
    assert variance[calm] < variance[once] < variance[wild]


def test_untouched_checkpoints_say_nothing_about_training_seeds() -> None:
    trained = [replicate(score, count, f"{count}{score}") for count in (9, 89, 282) for score in (30.0, 34.0)]
    same = [replicate(25.0, 0, cell) for cell in "ab"]
    seeds = summary.seed_noise([*trained, *same])
    assert seeds == summary.seed_noise(trained)
    untouched = next(mean for mean in summary.means([*trained, *same], seeds) if mean.count == 0)
    assert untouched.seed_variance == 0


def test_without_repeated_seeds_the_error_is_that_of_the_items_and_there_is_no_interval() -> None:
    seeds = summary.seed_noise([replicate(30.0)])
    assert seeds == {CURVE: noise.UNKNOWN}
    [mean] = summary.means([replicate(30.0)], seeds)
    assert (mean.estimate.se, mean.estimate.interval, mean.estimate.p, mean.interval) == (1.0, None, None, None)


def test_noise_that_is_stated_gives_single_runs_an_interval() -> None:
    seeds = summary.seed_noise([replicate(50.0)], noise.stated(3.0))
    [mean] = summary.means([replicate(50.0)], seeds)
    assert mean.estimate.se == pytest.approx(math.hypot(3.0, math.sqrt(2500 / 600)), rel=0.01)
    assert mean.estimate.df == math.inf


def test_the_standard_error_is_that_between_seeds_and_shrinks_with_more_runs() -> None:
    """The scatter of runs holds the luck of their items: it is not counted twice."""
    few, many = ([replicate(score, cell=str(i)) for i, score in enumerate([28.0, 32.0] * k)] for k in (1, 8))
    seeds = noise.SeedNoise(0.1, 1.0, 10)
    for group, k in ((few, 2), (many, 16)):
        [mean] = summary.means(group, {CURVE: seeds})
        seed_variance = seeds.variance(30.0, 600) / k
        assert mean.estimate.se == pytest.approx(math.sqrt(seed_variance))
        assert mean.se_tasks == pytest.approx(math.sqrt(seed_variance + 4.0))


def test_a_score_of_zero_is_not_exact() -> None:
    zeros = [replicate(0.0, cell=cell, stderr=0.0) for cell in "ab"]
    [mean] = summary.means(zeros, summary.seed_noise(zeros))
    assert 100 / 600 / 2 < mean.estimate.se < 2 * 100 / 600


def test_intervals_are_students_with_the_seeds_degrees_of_freedom() -> None:
    estimate = summary.combine(30.0, [(4.0, 5)], 0.0)
    assert estimate.df == 5
    assert estimate.half_width == pytest.approx(2 * stats.t.ppf(0.975, 5))
    assert summary.combine(30.0, [(4.0, 5), (4.0, 5)], 0.0).df == pytest.approx(10)  # Welch–Satterthwaite
    assert summary.combine(30.0, [(4.0, 5), (math.nan, 0)], 9.0) == summary.Estimate(30.0, 3.0, 0)


@pytest.mark.parametrize("score", [0.0, 2.0, 50.0, 98.0, 100.0])
def test_intervals_end_between_all_wrong_and_all_right(score: float) -> None:
    [mean] = summary.means([replicate(score, stderr=0.0)], {CURVE: noise.SeedNoise(1.0, 1.0, 3)})
    low, high = mean.interval
    assert 0 <= low <= score <= high <= 100
    assert high - low > 0.2


def test_in_the_middle_the_interval_is_the_usual_one() -> None:
    [mean] = summary.means([replicate(50.0)], {CURVE: noise.SeedNoise(0.05, 1.0, 10)})
    assert mean.interval == pytest.approx(mean.estimate.interval, abs=0.03)


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
                    low, high = mean.interval
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


def test_missing_seeds_are_counted(tmp_path: Path) -> None:
    replicates = summary.replicates(table(tmp_path, states={5: "failed"}), "procedural", "direct")
    means = {(mean.curve.label, mean.count): mean for mean in summary.means(replicates, summary.seed_noise(replicates))}
    assert (len(means["nano, without CoT", 9].runs), means["nano, without CoT", 9].planned) == (1, 2)
    assert (len(means["nano, with CoT", 9].runs), means["nano, with CoT", 9].planned) == (2, 2)


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
    assert summary.panels(both) == [*members, AVERAGE]


def asked(root: Path, **study: object) -> tuple[dict[tuple[str, str, str], contrasts.Contrast], list[panels.Panel]]:
    """Contrasts by setting, question and size."""
    read = sources.from_directories(write_study(root, **study))  # type: ignore[arg-type]
    analysed = panels.analyse(read)
    found = {
        (panel.setting, each.question.text, each.question.size): each
        for panel, answers in zip(analysed, contrasts.ask(read, analysed)[0], strict=True)
        for each in answers
    }
    return found, analysed


def test_contrasts_are_the_differences_of_the_means(tmp_path: Path) -> None:
    found, analysed = asked(tmp_path)
    panel = analysed[1]
    value = {(mean.curve.label, mean.count): mean.value for mean in panel.means}
    delta = value["micro, with CoT", 1836] - value["micro, without CoT", 1836]
    assert found["cot", "Δ CoT at 1,836 tasks", "micro"].estimate.value == pytest.approx(delta)
    growth = delta - value["micro, with CoT", 9] + value["micro, without CoT", 9]
    assert found["cot", "change of Δ CoT, 9 → 1,836 tasks", "micro"].estimate.value == pytest.approx(growth)
    volume = [value[f"{size}, with CoT", 1836] - value[f"{size}, with CoT", 9] for size in ("nano", "micro")]
    contrast = found["cot", "Δ volume, 9 → 1,836 tasks with CoT", questions.ALL_SIZES]
    assert contrast.estimate.value == pytest.approx(np.mean(volume))


def test_direct_and_cot_prompting_are_kept_apart(tmp_path: Path) -> None:
    found, _ = asked(tmp_path)
    question = ("Δ CoT, mean over task counts", questions.ALL_SIZES)
    direct, cot = (found[setting, *question].estimate for setting in ("direct", "cot"))
    assert direct.interval[1] < 3 < 20 < cot.interval[0]


def test_pairing_on_items_makes_differences_surer(tmp_path: Path) -> None:
    found, analysed = asked(tmp_path, axes=AXES | {"seed": [0]})
    unpaired = {
        each.question.text: each for each in contrasts.contrasts(analysed[1], None) if each.question.size == "nano"
    }
    question = "Δ CoT, mean over task counts"
    paired = found["cot", question, "nano"]
    assert paired.paired
    assert not unpaired[question].paired
    assert unpaired[question].estimate.value == pytest.approx(paired.estimate.value)
    assert unpaired[question].estimate.se > paired.estimate.se


def test_intervals_of_contrasts_cover_the_truth(tmp_path: Path) -> None:
    hits = []
    axes = {"model": ["nano"], "mixture.count": [9, 1836], "cot": [False, True], "seed": [0, 1]}
    for seed in range(12):
        found, _ = asked(tmp_path / str(seed), seed=seed, seed_spread=6.0, axes=axes, items=15)
        for setting in ("direct", "cot"):
            for count in (9, 1836):
                with_, without = (
                    truth({"mixture.count": count, "model": "nano", "cot": cot}, setting) for cot in (True, False)
                )
                low, high = found[setting, f"Δ CoT at {count:,} tasks", "nano"].estimate.interval
                hits.append(low < with_ - without < high)
    assert np.mean(hits) > 0.87  # 48 intervals, nominal 0.95


def test_the_stratified_variance_is_that_of_the_evaluation() -> None:
    """One cell alone gives back the `stderr` that a run logs for it."""
    rng = np.random.default_rng(0)
    scores_TxI = 100.0 * (rng.random((6, 10)) < 0.4)
    found = items.Items({"x": 0}, np.repeat(np.arange(6), 10), scores_TxI.reshape(1, -1))
    assert found.variance({"x": 1.0}) == pytest.approx((scores_TxI.var(axis=1, ddof=1) / 10).sum() / 6**2)


def test_an_average_is_paired_over_its_members(tmp_path: Path) -> None:
    study = sources.from_directories(write_study(tmp_path, axes=AXES | {"model": ["nano"]}, lower_bound=20.0))
    cell = study.points[-1].cell
    found = items.items_of(study, items.read_answers(study)[0], *AVERAGE, [cell])
    assert found is not None
    measured = study.scored[cell].found[AVERAGE]
    scale = 100 / (100 - measured["lower_bound"])
    assert found.variance({cell: 1.0}) == pytest.approx((scale * measured["stderr"]) ** 2)


def test_cells_that_answered_different_items_are_not_paired(tmp_path: Path) -> None:
    axes = AXES | {"model": ["nano"], "seed": [0]}
    study = sources.from_directories(write_study(tmp_path / "a", axes=axes))
    analysed = panels.analyse(study)
    assert all(each.paired for answers in contrasts.ask(study, analysed)[0] for each in answers)
    write_study(tmp_path / "b", axes=axes, items=20)
    folder, other = (tmp_path / root / "runs" / study.points[5].run / "evaluations" / "suite-0" for root in "ab")
    for line in ("procedural.direct.jsonl.gz", "procedural.cot.jsonl.gz"):
        (other / line).replace(folder / line)
    assert not any(each.paired for answers in contrasts.ask(study, analysed)[0] for each in answers)
    for line in ("procedural.direct.jsonl.gz", "procedural.cot.jsonl.gz"):
        (folder / line).unlink()
    assert not any(each.paired for answers in contrasts.ask(study, analysed)[0] for each in answers)


def test_a_study_without_arms_is_only_asked_for_volume(tmp_path: Path) -> None:
    found, _ = asked(
        tmp_path, axes={"mixture.count": [8, 64, 512], "seed": [0, 1, 2]}, settings={"procedural": ["direct"]}
    )
    asked_for = {"Δ volume, 8 → 512 tasks", "Δ after 64 tasks, to 512"}
    assert {(question, size) for _, question, size in found} == {(text, "nano") for text in asked_for}


def test_a_dip_beyond_its_error_is_reported_and_not_dropped() -> None:
    steady = [replicate(score, count, f"{count}-{score}") for count in (9, 89, 282) for score in (20.0, 21.0)]
    falling = [replace(run, score=5.0, normalized=5.0) if run.count == 89 else run for run in steady]
    assert panels.panel("b", "s", steady, {"nano": None}).warnings == ()
    panel = panels.panel("b", "s", falling, {"nano": None})
    assert [warning for warning in panel.warnings if "lower at 89 tasks than at 9" in warning]
    assert len(panel.means) == 3


def levels(scores: dict[str, tuple[float, ...]]) -> list[Replicate]:
    """Runs of one model on other mixtures, 89 tasks each."""
    return [
        replicate(score, 89, f"{level}{number}", Curve("nano", None, (("mixture", level),)))
        for level, own in scores.items()
        for number, score in enumerate(own)
    ]


def test_an_effect_is_not_hidden_by_another_question_of_its_kind() -> None:
    runs = levels({"a": (29.0, 30.0, 31.0), "b": (28.5, 30.0, 31.5), "c": (59.0, 60.0, 61.0)})
    found = {each.question.text: each for each in contrasts.contrasts(panels.panel("b", "s", runs, {"nano": None}))}
    assert not found["mixture: b − a"].effect
    assert found["mixture: c − a"].effect


def test_an_untouched_checkpoint_has_the_error_of_its_items_in_differences_too() -> None:
    runs = [replicate(20.0, 0, "x", stderr=1.6), *(replicate(40.0 + s, 89, str(s)) for s in (-0.2, 0.0, 0.2))]
    [gain] = contrasts.contrasts(panels.panel("b", "s", runs, {"nano": None}))
    assert gain.estimate.se > 1.6
    assert gain.estimate.df > 100


def test_no_rise_is_said_to_end_where_nothing_rose() -> None:
    falling = [
        replicate(score + s, count, f"{count}{s}")
        for count, score in ((9, 60.0), (89, 50.0), (282, 40.0))
        for s in (0, 1)
    ]
    panel = panels.panel("b", "s", falling, {"nano": None})
    told = " ".join(answers.answers(panel, contrasts.contrasts(panel)))
    assert "More tasks harm" in told
    assert "rise" not in told


def test_runs_at_the_floor_are_not_taken_for_single_ones() -> None:
    floor = [replicate(0.0, count, f"{count}{s}", stderr=0.0) for count in (9, 89) for s in (0, 1)]
    panel = panels.panel("b", "s", floor, {"nano": None})
    [volume] = contrasts.contrasts(panel)
    assert volume.estimate.interval is not None
    assert volume.estimate.se > 0
    assert "single runs" not in answers.sentence(volume)


def test_stated_noise_is_used_where_too_few_runs_are_repeated() -> None:
    few = [replicate(30.0, 9, "a"), replicate(38.0, 9, "b"), replicate(50.0, 89, "c")]
    assert set(summary.seed_noise(few, noise.stated(2.0)).values()) == {noise.stated(2.0)}
