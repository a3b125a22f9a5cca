"""What does one panel say: a benchmark in one prompting mode with its curves, means, fits and verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from analysis import comparison, scaling, summary
from analysis.comparison import Comparison
from analysis.noise import UNKNOWN, SeedNoise, stated
from analysis.profile import Data
from analysis.runs import Study, table
from analysis.scores import AVERAGE
from analysis.summary import LEVEL, LOSS, POINTS, Curve, Estimate, Mean, Replicate, Unit, combine, holm

BENCHMARKS = {
    "normalized_average": "Normalised average",
    "procedural": "Procedural",
    "niv2_exact_match": "NIV2 exact match",
    "niv2_rouge_l": "NIV2 ROUGE-L",
}
UNKNOWN_VARIANCE = 1.0  # points²: stands in for an error that was not recorded
UNKNOWN_SHARE = 0.01  # the same, of a loss
SETTINGS = {"direct": "direct prompt", "cot": "CoT prompt"}


@dataclass(frozen=True)
class Panel:
    """One benchmark in one prompting mode; scores are normalised points."""

    benchmark: str
    setting: str
    curves: tuple[Curve, ...]
    runs: tuple[Replicate, ...]
    means: tuple[Mean, ...]
    noise: Mapping[Curve, SeedNoise]
    parameters: Mapping[str, int | None]
    """Of the models, smallest first where they are known."""
    fits: Mapping[str, scaling.Fit]
    comparison: Comparison
    warnings: tuple[str, ...]
    draws: int = 1
    """How many choices of tasks there are of a count."""
    outliers: tuple[tuple[Replicate, float], ...] = ()
    """Runs that the scatter of the others does not explain, and how many standard deviations they are off."""

    @property
    def is_average(self) -> bool:
        """Whether it is the normalised average of the others."""
        return (self.benchmark, self.setting) == AVERAGE

    @property
    def title(self) -> str:
        """The panel's name for people."""
        if self.is_average:
            return "Normalised average"
        benchmark, setting = BENCHMARKS.get(self.benchmark, self.benchmark), SETTINGS.get(self.setting, self.setting)
        return " · ".join(filter(None, (benchmark, setting)))

    @property
    def unit(self) -> Unit:
        """What its scores are counted in."""
        return LOSS if self.falls else POINTS

    @cached_property
    def falls(self) -> bool:
        """Whether its scores are losses, the better the lower, in units of their own."""
        return any(run.falls for run in self.runs)

    @property
    def counts(self) -> list[int]:
        """Task counts in the grid, ascending."""
        return sorted({run.count for run in self.runs})

    @property
    def repeated(self) -> bool:
        """Whether it is known how far seeds scatter, of every mean."""
        return all(mean.untouched or mean.noise.known for mean in self.means)

    @property
    def crossed(self) -> bool:
        """Whether the study trains both with rationales and without."""
        return any(curve.cot is not None for curve in self.curves)

    @property
    def drawn(self) -> scaling.Fit | None:
        """The fit to draw: the preferred form, else the power law where it is sound, else log-linear, else none.

        A form whose shape the data do not tell has no one curve to draw.
        """
        best = self.comparison.best or ""
        preferred = [best] if best in self.fits and self.comparison.verdict == "preferred" else []
        candidates = preferred or ["power_law", "log_linear"]
        return next((self.fits[form] for form in candidates if self.fits[form].ok and self.fits[form].located), None)

    @property
    def widest(self) -> float | None:
        """The largest standard error if other tasks of the kind had been held out; None where it was not logged."""
        known = [mean.se_tasks for mean in self.means if math.isfinite(mean.se_tasks)]
        return max(known, default=None)

    def mean(self, curve: Curve, count: int) -> Mean | None:
        """The mean of a curve at a count, where there is one."""
        return next((mean for mean in self.means if (mean.curve, mean.count) == (curve, count)), None)


def analyse(study: Study, seed_noise: float | None = None) -> list[Panel]:
    """Every panel of a study, the normalized average last; none where nothing has been evaluated yet.

    `seed_noise`: standard deviation between seeds where half is right, in points; for a study that repeats none.
    """
    frame = table(study)
    otherwise = UNKNOWN if seed_noise is None else stated(seed_noise)
    draws = max(1, frame["draw"].nunique())
    return [
        panel(benchmark, setting, summary.replicates(frame, benchmark, setting), study.models, otherwise, draws)
        for benchmark, setting in summary.panels(frame)
    ]


def panel(
    benchmark: str,
    setting: str,
    runs: Sequence[Replicate],
    models: Mapping[str, int | None],
    otherwise: SeedNoise = UNKNOWN,
    draws: int = 1,
) -> Panel:
    """Summarise and fit the runs of one panel; `models` with their parameters, in the order of the sizes."""
    order, seen = list(models), list(dict.fromkeys(run.curve for run in runs))
    others = list(dict.fromkeys(curve.others for curve in seen))
    curves = sorted(seen, key=lambda c: (order.index(c.model), others.index(c.others), bool(c.cot)))
    noise = summary.seed_noise(runs, otherwise)
    means = sorted(summary.means(runs, noise), key=lambda mean: (curves.index(mean.curve), mean.count))
    used = [run for run in runs if run.count > 0 and run.scored]
    fitted = [curve for curve in curves if any(run.curve == curve for run in used)]
    names = [curve.label for curve in fitted]
    data, seed_variance = _data(used, fitted, [mean for mean in means if mean.count > 0])
    fits = {form: scaling.fit(form, data, names) for form in scaling.FORMS}
    judged = comparison.compare(data, names, fits, seed_variance)
    warnings = (*_shared_exponent(data, names, fits["power_law"]), *_dips(curves, means))
    found = (tuple(curves), tuple(runs), tuple(means), noise, models, fits, judged, warnings)
    return Panel(benchmark, setting, *found, draws, tuple(summary.outliers(runs)))


def _data(runs: Sequence[Replicate], curves: Sequence[Curve], means: Sequence[Mean]) -> tuple[Data, np.ndarray]:
    """The runs to fit, and the variance between seeds of each.

    Weights come from the cells, not from single scores, and their noise from all curves together: weights that are
    themselves estimated from a few runs of each curve make intervals too short.
    """
    of = {(mean.curve, mean.count): mean for mean in means}
    cells = [of[run.curve, run.count] for run in runs]
    noise = summary.pooled_noise(runs)
    shared = np.array([mean.scale**2 * noise.variance(mean.score, mean.n) for mean in cells])
    variance = np.where(np.isfinite(shared), shared, [mean.item_variance for mean in cells])
    falls = any(run.falls for run in runs)
    unknown = [(UNKNOWN_SHARE * mean.value) ** 2 if falls else UNKNOWN_VARIANCE for mean in cells]
    variance = np.where(np.isfinite(variance), variance, unknown)
    # No form is exact: a run near the floor, where noise vanishes, must not force the curve through itself.
    least = max(float(np.median(variance)) / 4, 1e-12 if falls else 1e-6) if runs else 0.0
    data = Data(
        curve_N=np.array([curves.index(run.curve) for run in runs], dtype=int),
        count_N=np.array([run.count for run in runs], dtype=float),
        score_N=np.array([run.normalized for run in runs]),
        weight_N=1 / np.maximum(variance, least),
        falls=falls,
    )
    return data, np.array([mean.seed_variance * len(mean.runs) for mean in cells])


def _shared_exponent(data: Data, curves: Sequence[str], law: scaling.Fit) -> list[str]:
    p = scaling.shared_exponent_p(data, curves, law) if law.ok else None
    rejected = p is not None and p < 0.01
    return [f"one exponent for all curves is rejected (p = {p:.1g}): b is an average"] if rejected else []


def _dips(curves: Sequence[Curve], means: Sequence[Mean]) -> list[str]:
    """Where a curve gets worse between neighbouring counts; by Holm's rule one false alarm in twenty panels."""
    found, p = [], []
    for curve in curves:
        own = [mean for mean in means if mean.curve == curve and mean.count > 0]
        for before, after in pairwise(own):
            variance = before.seed_variance + after.seed_variance
            worse = after.value - before.value if after.falls else before.value - after.value
            drop = combine(worse, [(variance, before.noise.df)], math.nan)
            if drop.p is not None:
                found.append((curve, before, after, drop))
                p.append(drop.p / 2 if drop.value > 0 else 1 - drop.p / 2)
    return [
        f"{curve.label}: {_amount(drop, after.falls)} at {after.count:,} tasks than at {before.count:,}"
        for (curve, before, after, drop), corrected in zip(found, holm(p), strict=True)
        if corrected < LEVEL
    ]


def _amount(worse: Estimate, falls: bool) -> str:
    return f"{worse.value:.3g} ± {worse.se:.2g} higher" if falls else f"{worse.value:.1f} ± {worse.se:.1f} points lower"
