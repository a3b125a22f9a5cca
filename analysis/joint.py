"""Size and number of tasks in one law: does a task buy a large model as much as a small one?

    additive        score = c − A·N^−α − B·n^−β      what tasks add does not depend on the size
    multiplicative  score = c − A·N^−α·n^−β          what is missing shrinks by the same share (Zhang et al. 2024)

fitted to the means of every training arm with four sizes or more, in normalised points below 100, weighted by their
errors. What a law is worth is its error on the largest size, fitted to the smaller ones, beside that of taking the next
smaller size's score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.panels import Panel
from analysis.summary import Mean
from analysis.surface import Form, Points, Surface, additive, fit, multiplicative

SIZES, COUNTS = 4, 3
"""The fewest of each that a law in both is fitted to."""
DELTA = 1.345
"""Huber's threshold, in standard errors."""
LEAST_DEVIATION = 0.1
"""Points: no law is exact, so that no mean weighs more than this allows."""


@dataclass(frozen=True)
class Joint:
    """Both laws of one arm."""

    arm: str
    additive: Surface
    multiplicative: Surface
    held_out: str
    """The largest size."""
    errors: dict[str, float | None]
    """Root mean squared, in points, at the largest size: additive, multiplicative, and "next smaller size"."""


def joint(panel: Panel) -> list[Joint]:
    """The laws of every arm that has sizes and counts enough; none where there is no such arm, nor of losses."""
    out: list[Joint] = []
    if panel.falls:
        return out
    for cot in dict.fromkeys(curve.cot for curve in panel.curves):
        own = [m for m in panel.means if m.curve.cot is cot and m.count > 0 and panel.parameters.get(m.curve.model)]
        models = [model for model in panel.parameters if any(mean.curve.model == model for mean in own)]
        plain = not any(mean.curve.others for mean in own)
        if plain and len(models) >= SIZES and len({mean.count for mean in own}) >= COUNTS:
            out.append(_of_arm(panel, own, models))
    return out


def _of_arm(panel: Panel, own: Sequence[Mean], models: Sequence[str]) -> Joint:
    forms: dict[str, Form] = {"additive": additive("N", "n"), "multiplicative": multiplicative("N", "n")}
    whole = _points(panel, own)
    found = {name: fit(form, whole, DELTA) for name, form in forms.items()}
    rest, last = ([m for m in own if (m.curve.model == models[-1]) is largest] for largest in (False, True))
    smaller, target = _points(panel, rest), _points(panel, last)
    errors: dict[str, float | None] = {}
    for name, form in forms.items():
        law = fit(form, smaller, DELTA)
        errors[name] = _rms(law.predict(target.x_NxK) - target.y_N) if law.status == "ok" else None
    before = {mean.count: mean.value for mean in rest if mean.curve.model == models[-2]}
    steps = [mean.value - before[mean.count] for mean in last if mean.count in before]
    errors["next smaller size"] = _rms(np.array(steps)) if steps else None
    arm = own[0].curve.arm
    return Joint(arm, found["additive"], found["multiplicative"], models[-1], errors)


def _points(panel: Panel, means: Sequence[Mean]) -> Points:
    x = np.array([[float(panel.parameters[mean.curve.model] or 1), float(mean.count)] for mean in means])
    error = np.array([mean.estimate.se for mean in means])
    deviation = np.maximum(np.where(np.isfinite(error), error, 1.0), LEAST_DEVIATION)
    return Points(x, np.array([100 - mean.value for mean in means]), deviation)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
