"""What losses promise: a study of bits per byte is read, fitted and judged as one of scores is, the other way round."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis import answers, csv_table, fit_report, noise, panels, report
from analysis.contrasts import contrasts, overall
from analysis.panels import Panel
from analysis.scores import AVERAGE, read_scores

COUNTS = (9, 30, 89, 282, 700, 1836)
SIZES = {"nano": 24_000, "micro": 130_000}
SEED_SHARE = 0.01
"""By how much of itself a loss moves with the seed."""


def to_a_floor(model: str, count: float) -> float:
    """Bits per byte: 1.2 and 0.9 are left however many tasks there are."""
    return {"nano": 1.2, "micro": 0.9}[model] + 1.1 * count**-0.4


def until_89(model: str, count: float) -> float:
    """As much for every tenfold up to 89 tasks, then nothing."""
    return {"nano": 1.2, "micro": 0.9}[model] + 0.3 * max(0.0, math.log10(89 / count))


def write(file: Path, truth: Callable[[str, float], float], rng: int = 0) -> Path:
    """A table of losses, as one would write it by hand."""
    random = np.random.default_rng(rng)
    rows = ["model,parameters,count,seed,benchmark,setting,score,higher_is_better"]
    for model in ("nano", "micro"):
        for count in COUNTS:
            for seed in range(3):
                loss = truth(model, count) * math.exp(SEED_SHARE * random.normal())
                rows.append(f"{model},{SIZES[model]},{count},{seed},niv2,bits_per_byte,{loss},false")
    file.write_text("\n".join(rows))
    return file


def read(file: Path) -> Panel:
    [panel] = panels.analyse(csv_table.from_csv(file))
    return panel


def test_a_known_law_comes_back_falling(tmp_path: Path) -> None:
    hits, means = [], []
    for number in range(40):
        panel = read(write(tmp_path / "losses.csv", to_a_floor, number))
        law = panel.fits["power_law"]
        assert law.ok
        truth = [(law.parameter("b"), 0.4), (law.parameter("c", "nano"), 1.2), (law.parameter("c", "micro"), 0.9)]
        hits.append([(each.low or 0) < true < (each.high or math.inf) for each, true in truth])
        for mean in panel.means:
            low, high = mean.interval or (0, 0)
            means.append(low < to_a_floor(mean.curve.model, mean.count) < high)
    assert (np.mean(hits, axis=0) > 0.84).all()  # nominal 0.95, standard error 0.035
    assert np.mean(means) == pytest.approx(0.95, abs=0.03)
    assert panel.comparison.best == "power_law"
    assert panel.warnings == ()
    assert panel.drawn is not None
    drawn = panel.drawn.predict("nano", np.array(COUNTS))
    assert (np.diff(drawn) < 0).all()
    assert drawn == pytest.approx([to_a_floor("nano", count) for count in COUNTS], rel=0.02)


def test_less_is_better_and_what_ends_is_a_fall(tmp_path: Path) -> None:
    panel = read(write(tmp_path / "losses.csv", until_89))
    assert panel.falls
    assert panel.comparison.sentence.startswith("A fall that ends is preferred")
    assert "points" not in panel.comparison.sentence
    found = {each.question.kind: each for each in overall(contrasts(panel))}
    for kind in ("volume", "size"):
        assert found[kind].estimate.value < 0
        assert found[kind].effect
        assert found[kind].better
    written = json.loads(json.dumps(vars(fit_report.fit_report(panel)), allow_nan=False))
    assert "loss" in written["metric"]
    assert written["bounds"] == "c ≥ 0, a ≥ 0, falling"


def test_a_loss_that_rises_with_more_tasks_is_warned_about(tmp_path: Path) -> None:
    panel = read(write(tmp_path / "losses.csv", lambda model, n: to_a_floor(model, n) + 0.5 * (n == 700)))
    assert any("higher at 700 tasks than at 282" in warning for warning in panel.warnings)


def test_a_table_of_losses_survives_being_written_and_reported(tmp_path: Path) -> None:
    study = csv_table.from_csv(write(tmp_path / "losses.csv", to_a_floor))
    csv_table.write_csv(study, tmp_path / "again.csv")
    one, other = panels.analyse(study), panels.analyse(csv_table.from_csv(tmp_path / "again.csv"))
    assert [mean.estimate for mean in one[0].means] == [mean.estimate for mean in other[0].means]
    assert other[0].falls
    built = report.build(tmp_path / "none.json", tmp_path / "out", f"csv:{tmp_path / 'again.csv'}")
    assert one[0].comparison.sentence in built.html.read_text()


def test_what_a_run_logs_as_a_loss_is_in_no_percent_and_in_no_average() -> None:
    row = {"eval/niv2/cloze/score": 123.0, "eval/niv2/cloze/stderr": 0.5, "eval/niv2/cloze/higher_is_better": False}
    read = read_scores(row)
    assert read.problems == ()
    assert read.found["niv2", "cloze"]["normalized"] == 123.0
    average = {"eval/normalized_average": 50.0, "eval/normalized_average_members": ["niv2/cloze"]}
    refused = read_scores(row | average)
    assert AVERAGE not in refused.found
    assert "niv2/cloze is a loss" in refused.problems[0]
    assert "-1.0" in read_scores({**row, "eval/niv2/cloze/score": -1.0}).problems[0]
    assert "no lower_bound" in read_scores({**row, "eval/niv2/cloze/higher_is_better": True}).problems[0]


def test_the_scatter_of_losses_is_a_share_of_them() -> None:
    random = np.random.default_rng(0)
    cells = [list(level * np.exp(0.02 * random.normal(size=3))) for level in (0.5, 1.0, 3.0) for _ in range(400)]
    found = noise.pool_losses(cells)
    assert found.df == 2400
    assert found.deviation == pytest.approx(0.02, rel=0.05)
    assert math.sqrt(found.variance(3.0, math.nan)) == pytest.approx(0.06, rel=0.05)
    assert not noise.pool_losses([[1.0], [2.0]]).known


def test_a_report_says_of_losses_what_they_do(tmp_path: Path) -> None:
    study = csv_table.from_csv(write(tmp_path / "losses.csv", to_a_floor))
    analysed = panels.analyse(study)
    asked = [contrasts(panel) for panel in analysed]
    told = answers.of_study(analysed, asked)
    assert re.match(r"More tasks help: -0\.\d{3} \[-0\.\d{3}, -0\.\d{3}\] of loss, 9 → 1,836 tasks\.", told[0])
    assert any(each.startswith("Larger models have lower losses: -0.") for each in told)
    assert not any("point" in each or "score" in each for each in told)
    built = report.build(tmp_path / "none.json", tmp_path / "out", f"csv:{tmp_path / 'losses.csv'}")
    html = built.html.read_text()
    assert '<span role="columnheader" class="value">loss [95 %]</span>' in html
    assert 'class="better"' in html
    assert 'class="worse"' not in html
    assert '"unit":"loss"' in html
    svg = built.figure_svg.read_text()
    assert "loss" in svg
    assert "chance" not in svg
    assert "normalised" not in svg


def test_a_loss_that_still_falls_is_told_so(tmp_path: Path) -> None:
    panel = read(write(tmp_path / "losses.csv", lambda model, n: 3.0 - 0.5 * math.log10(n)))
    [told] = list(answers.plateaus(overall(contrasts(panel))))
    assert re.match(r"The loss still falls at the end: -0\.\d+ \[-0\.\d+, -0\.\d+\] of loss after 700 tasks", told)
