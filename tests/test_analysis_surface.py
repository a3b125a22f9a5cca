"""Sums of power laws: known ones come back, published fits are reached, and what has not settled is a status."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import surface
from analysis.surface import Points, additive, multiplicative


def grid() -> np.ndarray:
    n, d = np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6))
    return np.stack([n.ravel(), d.ravel()], axis=1)


def test_an_additive_law_is_recovered() -> None:
    x = grid()
    y = 1.7 + 400 * x[:, 0] ** -0.34 + 1200 * x[:, 1] ** -0.29
    found = surface.fit(additive("N", "D"), Points(x, y))
    assert found.status == "ok"
    expected = {"E": 1.7, "A_N": 400, "A_D": 1200, "alpha_N": 0.34, "alpha_D": 0.29}
    assert found.parameters == pytest.approx(expected, rel=1e-2)
    assert found.predict(x) == pytest.approx(y, rel=1e-5)


def test_a_multiplicative_law_is_recovered_from_noise_of_known_size() -> None:
    x = np.stack([grid()[:, 0], np.tile([9.0, 30, 89, 282, 700, 1836], 6)], axis=1)
    true = 20 + 900 * x[:, 0] ** -0.15 * x[:, 1] ** -0.2
    y = true + 0.05 * np.random.default_rng(0).normal(size=len(true))
    points = Points(x, y, np.full(len(y), 0.05))
    found = surface.fit(multiplicative("N", "n"), points, delta=1.345)
    assert found.status == "ok"
    assert found.parameters["alpha_N_N_n"] == pytest.approx(0.15, abs=0.02)
    assert found.predict(x) == pytest.approx(true, abs=0.1)


def test_outliers_do_not_move_the_fit() -> None:
    x = grid()
    y = 1.7 + 400 * x[:, 0] ** -0.34 + 1200 * x[:, 1] ** -0.29
    spoiled = y.copy()
    spoiled[::12] *= 1.3
    clean, robust = (surface.fit(additive("N", "D"), Points(x, each)) for each in (y, spoiled))
    assert robust.predict(x) == pytest.approx(clean.predict(x), rel=5e-3)


def test_resamples_scatter_around_the_fit() -> None:
    x, rng = grid(), np.random.default_rng(1)
    y = (1.7 + 400 * x[:, 0] ** -0.34 + 1200 * x[:, 1] ** -0.29) * np.exp(0.01 * rng.normal(size=len(x)))
    points = Points(x, y)
    found = surface.fit(additive("N", "D"), points)
    drawn = surface.named(found.form, surface.resampled(found, points, 100))
    low, high = np.quantile(drawn["alpha_N"], [0.025, 0.975])
    assert low < 0.34 < high
    assert 0.002 < high - low < 0.2


def test_too_few_points_and_numbers_that_are_none_are_a_status() -> None:
    x = grid()[:5]
    assert surface.fit(additive("N", "D"), Points(x, np.ones(5))).status == "too_few_points"
    y = np.full(36, np.nan)
    assert surface.fit(additive("N", "D"), Points(grid(), y)).status == "nonfinite"


@pytest.mark.data
def test_the_ladders_published_predictions_and_errors_are_reached(shared_data: Path) -> None:
    """allenai/OLMo-ladder, step 1: 8 tasks, fitted to 16 small models each, predicting 13B (arXiv 2412.04403)."""
    folder = shared_data / "scaling_reference"
    runs = pd.read_csv(folder / "olmo_ladder_step1.csv")
    published = pd.read_csv(folder / "olmo_ladder_step1_published.csv").set_index("Task")
    assert len(published) == 8
    for task, row in published.iterrows():
        own = runs[runs["task"] == task]
        small, target = own[own["role"] == "fit"], own[(own["role"] == "target") & own["model"].str.startswith("13B")]
        points = Points(small[["n_params", "n_tokens"]].to_numpy(float), small["task_bpb"].to_numpy(float))
        found = surface.fit(additive("N", "D"), points)
        predicted = found.predict(target[["n_params", "n_tokens"]].to_numpy(float))
        error = np.mean(np.abs(found.predict(points.x_NxK) / points.y_N - 1))
        assert predicted[0] == pytest.approx(row["Pred"], abs=2e-6), task
        assert error == pytest.approx(row["Fit Error"], abs=2e-6), task
