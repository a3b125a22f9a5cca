"""Which form of curve do the data prefer: judged by the fit to all counts, and by predicting the largest from the rest.

AICc over all counts decides where there are enough runs for it: a form is preferred when it leads every other by more
than `MARGIN`. Extrapolation may object, since it is what a scaling curve is for: a form that predicts the largest count
from the smaller ones worse than another, by more than the noise of what is predicted, is not preferred. Where AICc
cannot be had, extrapolation decides alone. The other verdicts are as good: tied, and not identifiable.

Log-linear growth in points and in odds (`logistic`) make one claim, that every tenfold adds as much as the last, and
are alike in mid-range, where neither could ever lead. So one of them stands for both: log-linear, unless AICc is for
the odds by more than `NEAR_A_BOUND`, as it is where curves come near the floor or the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import scaling
from analysis.profile import Data
from analysis.scaling import FORMS, Fit

WORDS = {
    "hold": "no change",
    "plateau": "a rise that ends",
    "log_linear": "log-linear growth",
    "logistic": "log-linear growth in the odds",
    "power_law": "the power law",
}
FALLING = WORDS | {"plateau": "a fall that ends", "log_linear": "a log-linear fall"}
"""The same of losses."""
UNCHANGED = "no change since the last count"
"""What the constant says of the largest count, seen from the smaller ones. That it says it best is no word for a
constant over all counts, and `best` is then this, no form."""
FAILURE = 3.0
"""A form that errs by so many times the noise of what it predicts has not predicted it, however the others err."""
MARGIN = 3.0
"""AICc has to lead by more: then a wrong form is preferred in one study of twenty (`benchmarks/coverage.py`)."""

NEAR_A_BOUND = 6.0
"""AICc has to be for growth in the odds by more, to judge it in place of that in points; between curves from 15 to 60
points, which grow in points, it was so in none of a hundred studies, and by more than `MARGIN` in eight."""


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
    """A form, or `UNCHANGED`."""
    verdict: str
    """preferred (then `best` is), tied, or not identifiable."""
    reason: str
    falls: bool = False
    """Whether losses are compared: then errors and noise are in their units, not in points."""

    @property
    def sentence(self) -> str:
        """Verdict and reason in words."""
        best = self.best if self.best == UNCHANGED else _words(self.best or "hold", self.falls)
        head = {
            "preferred": f"{best[0].upper()}{best[1:]} is preferred",
            "tied": "The forms are tied",
            "not identifiable": "The form of the curve is not identifiable",
        }[self.verdict]
        return f"{head}: {self.reason}."


def compare(data: Data, curves: Sequence[str], fits: Mapping[str, Fit], seed_variance_N: np.ndarray) -> Comparison:
    """Judge the forms.

    `seed_variance_N`: between replicates, points²; NaN where it is not known, and the weights are used.
    """
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
        nothing = dict.fromkeys(FORMS)
        return Comparison(largest, nothing, None, difference, None, "not identifiable", reason, data.falls)
    target = np.array([data.score_N[held & (data.curve_N == s)].mean() for s in scored])
    variance = np.where(seed_variance_N > 0, seed_variance_N, 1 / data.weight_N)
    own = [variance[held & (data.curve_N == s)] for s in scored]
    noise = float(np.sqrt(np.mean([values.mean() / len(values) for values in own])))
    error = {form: _held_out_error(form, rest, curves, scored, largest, target) for form in FORMS}
    best, verdict, reason = _judge(f"{largest:,.0f} tasks", error, noise, difference, fits)
    return Comparison(largest, error, noise, difference, best, verdict, reason, data.falls)


def hold(rest: Data, curve: int) -> float:
    """What "no change" predicts for a larger count: the mean at the largest count seen, in the unit of the scores."""
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
        trained = scaling.fit(form, replace(rest, curve_N=numbers), [curves[s] for s in seen])
        if trained.solution is None:
            return None
        predicted = np.array([trained.predict(curves[s], np.array([largest]))[0] for s in scored])
    return float(np.sqrt(np.mean((predicted - target) ** 2)))


def _judge(
    largest: str,
    error: Mapping[str, float | None],
    noise: float,
    difference: Mapping[str, float | None],
    fits: Mapping[str, Fit],
) -> tuple[str | None, str, str]:
    """The best form, the verdict and its reason."""
    law = fits["power_law"]
    falls = law.falls
    # A law on a bound, or without a rising curve, has become one of the simpler forms: those are judged without it.
    sound = [form for form in FORMS if fits[form].ok and form != _stood_for(fits)]
    errors = {form: value for form, value in error.items() if value is not None and (form in sound or form == "hold")}
    by_error = sorted(errors, key=lambda form: errors[form])
    if law.status in ("too_few_points", "nonfinite"):
        return by_error[0], "not identifiable", f"{law.status.replace('_', ' ')} for the power law"
    if errors[by_error[0]] > FAILURE * noise:
        told = _told(largest, by_error, errors, noise, falls)
        return by_error[0], "not identifiable", f"{told}: no form predicts it"
    leads = {form: value for form in sound if (value := difference[form]) is not None}
    if len(leads) > 1:
        return _by_fit(largest, leads, errors, noise, falls)
    if len(by_error) == 1:
        return by_error[0], "not identifiable", f"without {largest} only {_said(by_error[0], falls)} can be fitted"
    told = _told(largest, by_error, errors, noise, falls)
    best = UNCHANGED if by_error[0] == "hold" else by_error[0]
    return best, "tied" if errors[by_error[1]] - errors[by_error[0]] < noise else "preferred", told


def _stood_for(fits: Mapping[str, Fit]) -> str:
    """Which of log-linear growth in points and in odds the other stands for."""
    points, odds = fits["log_linear"].aicc, fits["logistic"].aicc
    near_a_bound = fits["logistic"].ok and points is not None and odds is not None and points - odds > NEAR_A_BOUND
    return "log_linear" if near_a_bound else "logistic"


def _by_fit(
    largest: str, leads: Mapping[str, float], errors: Mapping[str, float], noise: float, falls: bool
) -> tuple[str | None, str, str]:
    best, rival = sorted(leads, key=lambda form: leads[form])[:2]
    gap = leads[rival] - leads[best]
    nearest = min(errors, key=lambda form: errors[form])
    told = f"over all counts its AICc leads {_words(rival, falls)} by {gap:.1f}"
    if gap <= MARGIN:
        close = [_words(form, falls) for form in leads if leads[form] - leads[best] <= MARGIN]
        return best, "tied", f"AICc over all counts does not tell {', '.join(close[:-1])} and {close[-1]} apart"
    own = errors.get(best)
    if own is not None and own - errors[nearest] > noise:
        nearer, off = _said(nearest, falls), _amount(errors[nearest], falls)
        against = f"{nearer} predicts {largest} better from fewer, {off} off against {_number(own, falls)}"
        return best, "tied", f"AICc over all counts is for {_words(best, falls)}, but {against}"
    if own is not None:
        within = f"within {_amount(own, falls)}, where the noise is {_number(noise, falls)}"
        told += f", and it predicts {largest} from fewer {within}"
    return best, "preferred", told


def _told(largest: str, ranked: Sequence[str], errors: Mapping[str, float], noise: float, falls: bool) -> str:
    shown = [f"{_said(form, falls)} errs by {_amount(errors[form], falls)}" for form in ranked[:2]]
    return f"predicting {largest} from fewer, {', '.join(shown)}, where the noise is {_number(noise, falls)}"


def _words(form: str, falls: bool) -> str:
    return (FALLING if falls else WORDS)[form]


def _said(form: str, falls: bool) -> str:
    return UNCHANGED if form == "hold" else _words(form, falls)


def _amount(value: float, falls: bool) -> str:
    return _number(value, falls) if falls else f"{_number(value, falls)} points"


def _number(value: float, falls: bool) -> str:
    """Points to two digits; losses, whose unit may be large or small, to three that count."""
    return f"{value:.3g}" if falls else f"{value:.2f}"
