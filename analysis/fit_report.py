"""What do the fits of a panel rest on: everything that is needed to judge or repeat them, as JSON beside the figure.

The fields are the checklist of "(Mis)Fitting: A Survey of Scaling Laws" (arXiv 2502.18969).
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np

from analysis.noise import SeedNoise
from analysis.panels import Panel
from analysis.profile import CEILING, EXPONENTS
from analysis.scaling import Fit
from analysis.summary import Replicate

NORMALISED = "normalised points: 100·(score − lower bound)/(100 − lower bound), not clipped"
PACKAGES = ("flanscale", "numpy", "scipy", "pandas", "matplotlib")


@dataclass(frozen=True)
class FitReport:
    """The fits of one panel with their data, weights, engine and judgement; plain JSON values only."""

    benchmark: str
    setting: str
    metric: str
    lower_bounds: list[float]
    cells: list[str]
    excluded: dict[str, list[str]]
    data_sha256: str
    runs_per_cell: list[int]
    weights: str
    loss: str
    engine: str
    bounds: str
    intervals: str
    seed_noise: dict[str, dict[str, float | None]]
    item_error: float | None
    fits: dict[str, dict[str, Any]]
    comparison: dict[str, Any]
    warnings: list[str]
    versions: dict[str, str]


def fit_report(panel: Panel) -> FitReport:
    """The report of a panel's fits."""
    used = [run for run in panel.runs if run.count > 0 and run.scored]
    unscored = [run for run in panel.runs if run.count > 0 and not run.scored]
    errors = [run.item_variance**0.5 for run in used if np.isfinite(run.item_variance)]
    return FitReport(
        benchmark=panel.benchmark,
        setting=panel.setting,
        metric="a loss, as it was logged: the better the lower" if panel.falls else NORMALISED,
        lower_bounds=sorted({run.lower_bound for run in used}),
        cells=_cells(used),
        excluded={"no score": _cells(unscored), "not finetuned": _cells(run for run in panel.runs if run.count == 0)},
        data_sha256=_sha256(used),
        runs_per_cell=sorted({len(mean.runs) for mean in panel.means if mean.count > 0}),
        weights="1/(seed variance + item variance) of the cell, none above four times the median weight",
        loss="weighted least squares",
        engine=f"variable projection, {len(EXPONENTS)} exponents from {EXPONENTS[0]:g} to {EXPONENTS[-1]:g}, polished",
        bounds="c ≥ 0, a ≥ 0, falling" if panel.falls else f"c ≤ {CEILING:g}, a ≥ 0",
        intervals="95 % profile-F",
        seed_noise={curve.label: _noise(noise) for curve, noise in panel.noise.items()},
        item_error=float(np.median(errors)) if errors else None,
        fits={form: _fit(fit) for form, fit in panel.fits.items()},
        comparison=asdict(panel.comparison),
        warnings=list(panel.warnings),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """What the analysis was made with."""
    return {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()}


def _noise(noise: SeedNoise) -> dict[str, float | None]:
    """As JSON: noise that was stated has no degrees of freedom to tell."""
    return asdict(noise) | {"df": noise.df if math.isfinite(noise.df) else None}


def _fit(fit: Fit) -> dict[str, Any]:
    plain = ("status", "curves", "n_points", "df", "sse", "aicc")
    return {name: getattr(fit, name) for name in plain} | {"parameters": [asdict(each) for each in fit.parameters]}


def _sha256(runs: Iterable[Replicate]) -> str:
    rows = sorted([list(run.cells), run.count, run.normalized] for run in runs)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _cells(runs: Iterable[Replicate]) -> list[str]:
    return sorted({cell for run in runs for cell in run.cells})
