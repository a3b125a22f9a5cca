"""Which benchmark is worth looking at: how far apart it puts the cells of a study, and how far a score moves by itself.

After "Signal and Noise" (Heineman et al. 2025, arXiv 2508.13144, §2):

    signal  max over cells j, k of |m_j − m_k|                              (there over m̄: relative dispersion)
    noise   standard deviation of the scores of a run's last checkpoints    (there over m̄ too)

Their ratio is the same with m̄ and without, and means in normalised points may be near 0 or below: here it is left out.
Cells are those that were trained, and their means are over seeds. Beside the noise over checkpoints stands that between
seeds, which contrasts are judged by: what a second run would have scored. Both are pooled over the runs, as the root
of the mean variance, so that what tells cells apart is no noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.panels import Panel
from analysis.runs import Study
from analysis.scores import AVERAGE, Measured, read_scores
from analysis.summary import Mean
from flanscale.errors import ConfigError
from flanscale.run_directory import evaluations, read_result, read_rows
from flanscale.run_directory.evaluations import RESULT_FILE
from flanscale.run_directory.files import damaged_told
from flanscale.tracking.keys import BEST, evaluation_row

LAST = 5
"""Checkpoints at the end of a run that are taken; the paper's small models have as many."""
STEP = "step-"
"""How the folder of a checkpoint's evaluation is called in that of its suite."""

History = Mapping[tuple[str, Measured], Sequence[float]]
"""Normalised scores of a cell at its checkpoints, in the order of their steps."""


@dataclass(frozen=True)
class Signal:
    """One panel's signal and noise, in normalised points (losses in their unit); None where it cannot be told."""

    title: str
    spread: float | None
    """Largest − smallest mean of a trained cell."""
    between_seeds: float | None
    """Standard deviation of one run about the mean of its cell."""
    over_checkpoints: float | None
    """Standard deviation of a run's last checkpoints about their mean."""
    histories: int
    """Runs whose checkpoints have scores."""

    @property
    def to_seeds(self) -> float | None:
        """Signal to noise between seeds."""
        return _ratio(self.spread, self.between_seeds)

    @property
    def to_checkpoints(self) -> float | None:
        """Signal to noise over the last checkpoints."""
        return _ratio(self.spread, self.over_checkpoints)


def signals(analysed: Sequence[Panel], history: History) -> list[Signal]:
    """Of every panel of a study, in their order; `history` is what `checkpoint_scores` finds of it."""
    out = []
    for panel in analysed:
        trained = {cell for run in panel.runs if run.count > 0 for cell in run.cells}
        asked = _asked(panel.benchmark, panel.setting)
        scores = [each for (cell, measured), each in history.items() if measured == asked and cell in trained]
        own = [each for each in scores if len(each) > 1]
        out.append(
            Signal(panel.title, spread(panel.means), between_seeds(panel.means), over_checkpoints(own), len(own))
        )
    return out


def spread(means: Sequence[Mean]) -> float | None:
    """Largest − smallest mean of trained cells, in normalised points; None where there are fewer than two."""
    values = [mean.value for mean in means if mean.count > 0]
    return max(values) - min(values) if len(values) > 1 else None


def between_seeds(means: Sequence[Mean]) -> float | None:
    """Root mean square over trained cells of the standard deviation of one run, in normalised points.

    None where no seed was repeated, and nobody has stated how far they scatter.
    """
    trained = [mean for mean in means if mean.count > 0 and mean.noise.known]
    variances = [mean.scale**2 * mean.noise.variance(mean.score, mean.n) for mean in trained]
    return math.sqrt(float(np.mean(variances))) if variances else None


def over_checkpoints(histories: Sequence[Sequence[float]]) -> float | None:
    """Root mean square over runs of the standard deviation (n − 1) of the last `LAST` scores, in their unit."""
    variances = [float(np.var(scores[-LAST:], ddof=1)) for scores in histories if len(scores) > 1]
    return math.sqrt(float(np.mean(variances))) if variances else None


def signal_to_noise(means: Sequence[Mean]) -> float | None:
    """Spread of the means over the noise between seeds; None where one of them cannot be told."""
    return _ratio(spread(means), between_seeds(means))


def checkpoint_scores(study: Study) -> tuple[History, list[str]]:
    """What the checkpoints of a study's runs scored, as far as it lies in their run directories; and what is damaged.

    From the evaluation of every checkpoint (evaluation.checkpoint=suite), else from scores that were logged at several
    steps.
    """
    found: dict[tuple[str, Measured], list[float]] = {}
    damaged: list[str] = []
    for cell, run in {point.cell: point.run for point in study.points}.items():
        for own in (_of_evaluations(study.folder / run, damaged), _of_log(study.folder / run)):
            if len(own) > 1:
                for step in sorted(own):
                    for measured, score in own[step].items():
                        found.setdefault((cell, measured), []).append(score)
                break
    return found, damaged


def _of_evaluations(run_dir: Path, damaged: list[str]) -> dict[int, dict[Measured, float]]:
    found: dict[int, dict[Measured, float]] = {}
    for folder in (path for suite in evaluations(run_dir) for path in suite.glob(f"{STEP}*")):
        step = folder.name.removeprefix(STEP)
        try:
            if step.isdecimal() and (result := read_result(folder)) is not None:
                with damaged_told(folder / RESULT_FILE):
                    found.setdefault(int(step), {}).update(_normalized(evaluation_row(result)))
        except ConfigError as error:
            damaged.append(str(error))
    return found


def _of_log(run_dir: Path) -> dict[int, dict[Measured, float]]:
    try:
        rows = read_rows(run_dir)
    except ConfigError:  # told where the run is read
        return {}
    scored = {row["step"]: _normalized(row) for row in rows if any(key.startswith("eval/") for key in row)}
    return {step: scores for step, scores in scored.items() if scores}


def _normalized(row: Mapping[str, object]) -> dict[Measured, float]:
    return {measured: scores["normalized"] for measured, scores in read_scores(row).found.items()}


def _asked(benchmark: str, setting: str) -> Measured:
    """What a panel's checkpoints were asked: of the one that a suite has chosen, the name tells that it was."""
    return AVERAGE if benchmark == AVERAGE[0] else (benchmark, setting.partition(BEST)[0])


def _ratio(signal: float | None, noise: float | None) -> float | None:
    return signal / noise if signal is not None and noise else None
