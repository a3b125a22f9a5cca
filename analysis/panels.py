"""What does one panel say: a benchmark in one prompting mode with its curves, means, fits and verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from analysis import comparison, scaling, summary
from analysis.comparison import Comparison
from analysis.noise import SeedNoise
from analysis.profile import Data
from analysis.runs import AVERAGE, Study, table
from analysis.summary import Curve, Mean, Replicate

BENCHMARKS = {"procedural": "Procedural", "niv2_exact_match": "NIV2 exact match", "niv2_rouge_l": "NIV2 ROUGE-L"}
UNKNOWN_VARIANCE = 1.0  # points²: stands in for an error that was not recorded
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
    fits: Mapping[str, scaling.Fit]
    comparison: Comparison
    warnings: tuple[str, ...]

    @property
    def title(self) -> str:
        """The panel's name for people."""
        if (self.benchmark, self.setting) == AVERAGE:
            return "Normalised average"
        benchmark, setting = BENCHMARKS.get(self.benchmark, self.benchmark), SETTINGS.get(self.setting, self.setting)
        return " · ".join(filter(None, (benchmark, setting)))

    @property
    def counts(self) -> list[int]:
        """Task counts in the grid, ascending."""
        return sorted({run.count for run in self.runs})

    @property
    def crossed(self) -> bool:
        """Whether the study trains both with rationales and without."""
        return any(curve.cot is not None for curve in self.curves)

    @property
    def drawn(self) -> scaling.Fit | None:
        """The fit to draw: the preferred form, else the power law where it is sound, else log-linear, else none."""
        preferred = self.comparison.best if self.comparison.verdict == "preferred" else None
        candidates = [form for form in (preferred, "power_law", "log_linear") if form and form != "hold"]
        return next((self.fits[form] for form in candidates if self.fits[form].ok), None)

    @property
    def widest(self) -> float | None:
        """The largest standard error if other tasks of the kind had been held out; None where it was not logged."""
        known = [mean.se_tasks for mean in self.means if math.isfinite(mean.se_tasks)]
        return max(known, default=None)

    def mean(self, curve: Curve, count: int) -> Mean | None:
        """The mean of a curve at a count, where there is one."""
        return next((mean for mean in self.means if (mean.curve, mean.count) == (curve, count)), None)


def analyse(study: Study) -> list[Panel]:
    """Every panel of a study, the normalized average last; none where nothing has been evaluated yet."""
    frame = table(study)
    order = list(study.models)
    return [
        panel(benchmark, setting, summary.replicates(frame, benchmark, setting), order)
        for benchmark, setting in summary.panels(frame)
    ]


def panel(benchmark: str, setting: str, runs: Sequence[Replicate], models: Sequence[str]) -> Panel:
    """Summarise and fit the runs of one panel; `models` gives the order of the sizes."""
    curves = sorted({run.curve for run in runs}, key=lambda c: (models.index(c.model), c.size, bool(c.cot)))
    noise = summary.seed_noise(runs)
    means = summary.means(runs, noise)
    used = [run for run in runs if run.count > 0 and run.scored]
    fitted = [curve for curve in curves if any(run.curve == curve for run in used)]
    names = [curve.label for curve in fitted]
    data, seed_variance = _data(used, fitted, [mean for mean in means if mean.count > 0])
    fits = {form: scaling.fit(form, data, names) for form in scaling.FORMS}
    judged = comparison.compare(data, names, fits, seed_variance)
    warnings = (*_shared_exponent(data, names, fits["power_law"]), *_dips(curves, means))
    return Panel(benchmark, setting, tuple(curves), tuple(runs), tuple(means), noise, fits, judged, warnings)


def _data(runs: Sequence[Replicate], curves: Sequence[Curve], means: Sequence[Mean]) -> tuple[Data, np.ndarray]:
    """The runs to fit, and the variance between seeds of each. Weights come from the cells, not from single scores."""
    of = {(mean.curve, mean.count): mean for mean in means}
    cells = [of[run.curve, run.count] for run in runs]
    seed_variance = np.array([mean.seed_variance * len(mean.runs) for mean in cells])
    variance = seed_variance + np.array([mean.item_variance for mean in cells])
    variance = np.where(np.isfinite(variance), variance, UNKNOWN_VARIANCE)
    # No form is exact: a run near the floor, where noise vanishes, must not force the curve through itself.
    least = max(float(np.median(variance)) / 4, 1e-6) if runs else 0.0
    data = Data(
        curve_N=np.array([curves.index(run.curve) for run in runs], dtype=int),
        count_N=np.array([run.count for run in runs], dtype=float),
        score_N=np.array([run.normalized for run in runs]),
        weight_N=1 / np.maximum(variance, least),
    )
    return data, seed_variance


def _shared_exponent(data: Data, curves: Sequence[str], law: scaling.Fit) -> list[str]:
    p = scaling.shared_exponent_p(data, curves, law) if law.ok else None
    rejected = p is not None and p < 0.01
    return [f"one exponent for all curves is rejected (p = {p:.1g}): b is an average"] if rejected else []


def _dips(curves: Sequence[Curve], means: Sequence[Mean]) -> list[str]:
    """Where a curve falls between neighbouring counts by more than twice the standard error."""
    out = []
    for curve in curves:
        own = sorted((mean for mean in means if mean.curve == curve and mean.count > 0), key=lambda mean: mean.count)
        for before, after in pairwise(own):
            drop, error = before.value - after.value, float(np.hypot(before.estimate.se, after.estimate.se))
            if drop > 2 * error:
                fall = f"{drop:.1f} ± {error:.1f} points lower"
                out.append(f"{curve.label}: {fall} at {after.count:,} tasks than at {before.count:,}")
    return out
