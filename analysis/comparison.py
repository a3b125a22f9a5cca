"""Which form of curve do the data prefer: each predicts the largest task count from the smaller ones.

Extrapolation is what a scaling curve is for, and "no change" is hard to beat at it, so a form has to win there by more
than the noise of what it predicts. AICc over all counts may object. The other verdicts are as good: tied, and not
identifiable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import scaling
from analysis.profile import Data
from analysis.scaling import FORMS, Fit

WORDS = {"hold": "no change", "log_linear": "log-linear growth", "power_law": "the power law"}
FAILURE = 3.0
"""A form that errs by so many times the noise of what it predicts has not predicted it, however the others err."""
AICC_MARGIN = 2.0
"""AICc differences up to here are no evidence (Burnham & Anderson 2002, section 2.6)."""


@dataclass(frozen=True)
class Comparison:
    """The forms against each other: predicting the largest count from the rest, and AICc over all counts."""

    held_out_count: float | None
    error: Mapping[str, float | None]
    """Root mean squared error over curves at the held-out count, in points; None where nothing fits without it."""
    noise: float | None
    """Standard error of the held-out means, root mean square over curves: differences below it mean nothing."""
    aicc_difference: Mapping[str, float | None]
    best: str | None
    verdict: str
    """preferred (then `best` is), tied, or not identifiable."""
    reason: str

    @property
    def sentence(self) -> str:
        """Verdict and reason in words."""
        best = WORDS[self.best or "hold"]
        head = {
            "preferred": f"{best[0].upper()}{best[1:]} is preferred",
            "tied": "The forms are tied",
            "not identifiable": "The form of the curve is not identifiable",
        }[self.verdict]
        return f"{head}: {self.reason}."


def compare(data: Data, curves: Sequence[str], fits: Mapping[str, Fit], seed_variance_N: np.ndarray) -> Comparison:
    """Judge the forms. `seed_variance_N`: between replicates, points²; 0 where unknown, and the weights are used."""
    aicc = {form: fits[form].aicc for form in FORMS}
    known = [value for value in aicc.values() if value is not None]
    least = min(known) if len(known) > 1 else None
    difference = {form: None if value is None or least is None else value - least for form, value in aicc.items()}
    largest = float(data.count_N.max()) if len(data.count_N) else None
    held = data.count_N == largest
    rest = data.select(~held)
    scored = sorted(set(data.curve_N[held].tolist()) & set(rest.curve_N.tolist()))
    if largest is None or not scored:
        reason = "fewer than two task counts were measured"
        return Comparison(largest, dict.fromkeys(FORMS), None, difference, None, "not identifiable", reason)
    target = np.array([data.score_N[held & (data.curve_N == s)].mean() for s in scored])
    variance = np.where(seed_variance_N > 0, seed_variance_N, 1 / data.weight_N)
    own = [variance[held & (data.curve_N == s)] for s in scored]
    noise = float(np.sqrt(np.mean([values.mean() / len(values) for values in own])))
    error = {form: _held_out_error(form, rest, curves, scored, largest, target) for form in FORMS}
    return _judge(largest, error, noise, difference, fits["power_law"])


def hold(rest: Data, curve: int) -> float:
    """What "no change" predicts for a larger count: the mean at the largest count seen."""
    own = rest.curve_N == curve
    return float(rest.score_N[own & (rest.count_N == rest.count_N[own].max())].mean())


def _held_out_error(
    form: str, rest: Data, curves: Sequence[str], scored: Sequence[int], largest: float, target: np.ndarray
) -> float | None:
    if form == "hold":
        predicted = np.array([hold(rest, s) for s in scored])
    else:
        seen = sorted(set(rest.curve_N.tolist()))
        numbers = np.searchsorted(seen, rest.curve_N)
        trained = scaling.fit(form, Data(numbers, rest.count_N, rest.score_N, rest.weight_N), [curves[s] for s in seen])
        if trained.solution is None:
            return None
        predicted = np.array([trained.predict(curves[s], np.array([largest]))[0] for s in scored])
    return float(np.sqrt(np.mean((predicted - target) ** 2)))


def _judge(
    largest: float, error: Mapping[str, float | None], noise: float, difference: Mapping[str, float | None], law: Fit
) -> Comparison:
    # A law on a bound, or without a rising curve, has become one of the simpler forms: those are judged without it.
    known = {form: value for form, value in error.items() if value is not None and (form != "power_law" or law.ok)}
    ranked = sorted(known, key=lambda form: known[form])
    best = ranked[0]

    def verdict(word: str, reason: str) -> Comparison:
        return Comparison(largest, error, noise, difference, best, word, reason)

    if law.status in ("too_few_points", "nonfinite"):
        return verdict("not identifiable", f"{law.status.replace('_', ' ')} for the power law")
    if law.ok and error["power_law"] is None:
        return verdict("not identifiable", f"without {largest:,.0f} tasks the power law cannot be fitted")
    if law.ok and law.parameter("b").low is None and law.parameter("b").high is None:
        return verdict("not identifiable", "every exponent of the power law fits")
    if len(ranked) == 1:
        return verdict("not identifiable", f"without {largest:,.0f} tasks only {WORDS[best]} can be fitted")
    rival = ranked[1]
    gap = known[rival] - known[best]
    against = difference[best]
    told = f"predicting {largest:,.0f} tasks from fewer, {WORDS[best]} errs by {known[best]:.2f} points"
    told = f"{told}, {WORDS[rival]} by {known[rival]:.2f}, where the noise is {noise:.2f}"
    if known[best] > FAILURE * noise:
        return verdict("not identifiable", f"{told}: no form predicts it")
    if gap < noise:
        return verdict("tied", told)
    if against is not None and against > AICC_MARGIN:
        return verdict("tied", f"{told}, but AICc over all counts is against {WORDS[best]}")
    return verdict("preferred", told)
