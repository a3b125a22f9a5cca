"""What signal and noise promise: a known spread over a known scatter, and nothing where nothing was repeated."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from synthetic_study import AXES, write_study

from analysis import panels, signal, sources
from analysis.noise import UNKNOWN, SeedNoise
from analysis.summary import Curve, Mean
from flanscale.cli.power import _print_signals
from flanscale.run_directory.evaluations import write_result
from flanscale.tracking.keys import EVAL_COUNTS

SMALL = AXES | {"model": ["nano"], "mixture.count": [0, 9, 89], "cot": [False]}
STEPS = (100, 200, 300, 400, 500, 600)


def mean(value: float, count: int, noise: SeedNoise) -> Mean:
    return Mean(Curve("nano"), count, value, 1.0, 1.0, math.nan, noise, value, 1e9, 1.0, 2, (), ())


def evaluate_checkpoint(folder: Path, score: float) -> None:
    """What the evaluation of one checkpoint leaves behind, as far as its score goes."""
    numbers: dict[str, Any] = {"score": score, "normalized": score, "lower_bound": 0.0, "n": 600, "stderr": 1.0}
    line = {
        "name": "procedural/direct",
        "setting": "direct",
        "prompts": "0",
        "scores": [
            {"label": "procedural", "stderr_tasks": None, "normalized_stderr": 1.0}
            | numbers
            | dict.fromkeys(EVAL_COUNTS)
        ],
    }
    write_result(folder, {"suite": "suite", "fingerprint": "0", "lines": [line], "average": None, "faults": []})


def test_the_spread_is_that_of_trained_cells_and_its_noise_that_of_one_run() -> None:
    noise = SeedNoise(deviation=0.2, scale=1.0, df=4)
    means = [mean(50.0, 9, noise), mean(50.0, 89, noise), mean(44.0, 282, noise), mean(0.0, 0, noise)]
    at_44 = 100 * 0.44 * 0.56 * 0.2
    assert signal.spread(means) == 6.0
    assert signal.between_seeds(means) == pytest.approx(math.sqrt((5.0**2 + 5.0**2 + at_44**2) / 3), rel=0.01)
    assert signal.signal_to_noise(means) == pytest.approx(6 / 4.98, rel=0.01)
    assert signal.signal_to_noise([mean(50.0, 9, UNKNOWN), mean(44.0, 89, UNKNOWN)]) is None
    assert signal.spread(means[:1]) is None


def test_the_noise_over_checkpoints_is_within_runs_and_of_the_last_ones() -> None:
    random = np.random.default_rng(0)
    runs = [[*range(20), *(level + 2.0 * random.normal(size=signal.LAST))] for level in random.uniform(0, 80, 2000)]
    assert signal.over_checkpoints(runs) == pytest.approx(2.0, rel=0.02)
    assert signal.over_checkpoints([[1.0, 3.0], [5.0]]) == pytest.approx(math.sqrt(2))
    assert signal.over_checkpoints([[5.0], []]) is None


def test_a_study_tells_the_scores_of_its_checkpoints(tmp_path: Path) -> None:
    study = sources.read(write_study(tmp_path, axes=SMALL, records=False))
    assert signal.checkpoint_scores(study) == ({}, [])
    random, drawn = np.random.default_rng(0), []
    for number, point in enumerate(study.points):
        scores = 40.0 + 10 * number + 3.0 * random.normal(size=len(STEPS))
        if study.column(point, "count") > 0:
            drawn.append(float(np.var(scores[-signal.LAST :], ddof=1)))
        for step, score in zip(STEPS, scores, strict=True):
            evaluate_checkpoint(study.folder / point.run / "evaluations" / "suite-0" / f"step-{step}", float(score))
    (study.folder / study.points[-1].run / "evaluations" / "suite-0" / "step-600" / "result.json").write_text("{")
    history, damaged = signal.checkpoint_scores(study)
    assert [each.split()[0].rpartition("/evaluations/")[2] for each in damaged] == ["suite-0/step-600/result.json"]
    found = signal.signals(panels.analyse(study), history)
    direct = next(each for each in found if each.title == "Procedural · direct prompt")
    assert direct.histories == 4
    assert direct.over_checkpoints == pytest.approx(math.sqrt(np.mean(drawn)), rel=0.5)
    assert (direct.to_checkpoints or 0) == pytest.approx((direct.spread or 0) / (direct.over_checkpoints or 1))
    assert next(each for each in found if each.title == "Procedural · CoT prompt").over_checkpoints is None


def test_scores_that_were_logged_as_training_went_on_are_a_history_too(tmp_path: Path) -> None:
    study = sources.read(write_study(tmp_path, axes=SMALL, records=False))
    last = study.points[-1]
    log = study.folder / last.run / "metrics.jsonl"
    row = '{"step": %d, "attempt": 1, "eval/procedural/direct/score": %f, "eval/procedural/direct/lower_bound": 0.0,'
    row += ' "eval/procedural/direct/normalized": %f}\n'
    log.write_text(row % (100, 20, 20) + log.read_text())
    [scores] = [each for each in signal.checkpoint_scores(study)[0].values() if len(each) > 1]
    assert scores[0] == 20.0


def test_chosen_checkpoints_are_told_by_the_name_of_what_they_were_asked() -> None:
    assert signal._asked("mmlu", "direct@best_checkpoint") == ("mmlu", "direct")
    assert signal._asked("normalized_average", "best_checkpoint") == ("normalized_average", "all")


def test_a_pilot_without_scores_of_checkpoints_is_told_in_words(tmp_path: Path) -> None:
    study = sources.read(write_study(tmp_path, axes=SMALL, records=False))
    out = io.StringIO()
    told = _print_signals(signal.signals(panels.analyse(study), {}), "pilot", Console(file=out, width=140))
    assert "No run of pilot has scores of several checkpoints" in told[-1]
    [row] = [line for line in out.getvalue().splitlines() if "Procedural · direct prompt" in line]
    assert row.split()[-2:] == ["unknown", "unknown"]
    spread, noise, ratio = map(float, row.split()[-5:-2])
    assert ratio == pytest.approx(spread / noise, rel=0.02)
