"""Are the intervals and verdicts of the analysis true: how often they hold where the truth is known.

    python benchmarks/coverage.py [--simulations 500] [--only means …]

Each simulation draws a study of quickstart's design (two sizes × with and without CoT × 9, 89, 282 and 1,836 tasks,
and the untouched checkpoint) from a truth, and reads it as the report does. The log-odds of being right move by
`SEEDS` from seed to seed, and by `MIXTURES` from one choice of tasks to another where that is asked; every item comes
out right or wrong by itself (`iid`), or is easy for all runs or hard for all (`shared`).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis import panels
from analysis.contrasts import contrasts
from analysis.panels import Panel
from analysis.summary import Curve, Replicate

ITEMS = 1200
SEEDS = 0.15
MIXTURES = 0.15
COUNTS = (0, 9, 89, 282, 1836)
MORE_COUNTS = (0, 9, 30, 89, 282, 700, 1836)
UNTOUCHED = 4.0
"""Percent right before training."""
MODELS = {"nano": 32_160, "micro": 80_000}
Truth = Callable[[Curve, float], float]


@dataclass(frozen=True)
class World:
    """A design, its truth (percent right of a curve at a count) and how runs scatter around it."""

    truth: Truth
    counts: tuple[int, ...] = COUNTS
    seeds: int = 2
    draws: int = 1
    mixtures: float = 0.0
    difficulty: float = 0.0
    wilder: float = 1.0
    """How many times as much seeds scatter with CoT as without."""

    @property
    def curves(self) -> list[Curve]:
        """Two sizes, with CoT and without."""
        return [Curve(model, cot) for model in MODELS for cot in (False, True)]

    def panel(self, rng: np.random.Generator) -> tuple[Panel, dict[tuple[Curve, int], float]]:
        """One study as read, and what its means are means of."""
        easy_N = self.difficulty * rng.normal(size=ITEMS)
        runs, expected = [], {}
        for curve in self.curves:
            for count in self.counts:
                if count == 0:  # one checkpoint, whatever the seed
                    share = float((rng.random(ITEMS) < UNTOUCHED / 100).mean())
                    runs += list(_replicates(curve, 0, [(0, seed, share) for seed in range(self.seeds)], 1))
                    expected[curve, 0] = UNTOUCHED
                    continue
                odds, spread = _odds(self.truth(curve, count), easy_N), SEEDS * (self.wilder if curve.cot else 1.0)
                shares = []
                for draw in range(self.draws):
                    mixture = self.mixtures * rng.normal()
                    for seed in range(self.seeds):
                        p_N = special.expit(odds + mixture + spread * rng.normal() + easy_N)
                        shares.append((draw, seed, float((rng.random(ITEMS) < p_N).mean())))
                runs += list(_replicates(curve, count, shares, self.draws))
                expected[curve, count] = _expected(odds, easy_N, math.hypot(spread, self.mixtures))
        return panels.panel("simulated", "direct", runs, MODELS), expected


def _replicates(curve: Curve, count: int, shares: list[tuple[int, int, float]], draws: int) -> Iterator[Replicate]:
    units: dict[int, list[float]] = {}
    for draw, seed, share in shares:
        units.setdefault(draw if draws > 1 else seed, []).append(share)
    for unit, own in units.items():
        score = 100 * float(np.mean(own))
        stderr = math.sqrt(score * (100 - score) / ITEMS)
        cell = f"{curve.label} {count} {unit}"
        yield Replicate(curve, count, score, stderr, stderr, ITEMS, 0.0, score, (cell,))


def _odds(percent: float, easy_N: np.ndarray) -> float:
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if special.expit(middle + easy_N).mean() < percent / 100 else (low, middle)
    return (low + high) / 2


def _expected(odds: float, easy_N: np.ndarray, spread: float) -> float:
    """Mean score over seeds, for these items."""
    x, weight = np.polynomial.hermite_e.hermegauss(15)
    moved = [special.expit(odds + spread * each + easy_N).mean() for each in x]
    return float(100 * np.dot(weight, moved) / weight.sum())


def rising(curve: Curve, count: float) -> float:
    """A power law, higher for the larger model and with CoT."""
    ceiling = 30.0 + 12.0 * (curve.model == "micro") + 18.0 * bool(curve.cot)
    return ceiling - 0.8 * ceiling * (count / 9) ** -0.35


def flat(curve: Curve, count: float) -> float:
    """Nothing has an effect."""
    return 30.0


def plateau(curve: Curve, count: float) -> float:
    """As much for every tenfold up to 282 tasks, then nothing."""
    top = 35.0 + 10.0 * (curve.model == "micro") + 10.0 * bool(curve.cot)
    return top - 12.0 * max(0.0, math.log10(282 / count))


def log_linear(curve: Curve, count: float) -> float:
    """As much for every tenfold, without an end."""
    return 15.0 + 10.0 * (curve.model == "micro") + 10.0 * bool(curve.cot) + 10.0 * math.log10(count / 9)


def bounded(curve: Curve, count: float) -> float:
    """As much for every tenfold in the odds, from 5 percent to 95, the larger model and CoT a little ahead."""
    ahead = 0.5 * (curve.model == "micro") + 0.5 * bool(curve.cot)
    share = 2 * special.logit(0.95) * (math.log10(count / 9) / math.log10(1836 / 9)) + special.logit(0.05)
    return 100 * float(special.expit(share + ahead - 0.5))


def near_floor(curve: Curve, count: float) -> float:
    """The same from 2 percent to 20."""
    return 100 * float(special.expit(special.logit(0.02) + 1.08 * math.log10(count / 9) + 0.3 * bool(curve.cot)))


def near_ceiling(curve: Curve, count: float) -> float:
    """A power law whose ceilings are near that of the benchmark."""
    ceiling = 92.0 + 3.0 * (curve.model == "micro") + 3.0 * bool(curve.cot)
    return ceiling - 0.6 * ceiling * (count / 9) ** -0.35


def high_plateau(curve: Curve, count: float) -> float:
    """A plateau near the ceiling."""
    top = 84.0 + 5.0 * (curve.model == "micro") + 5.0 * bool(curve.cot)
    return top - 15.0 * max(0.0, math.log10(282 / count))


def means(panel: Panel, expected: Mapping[tuple[Curve, int], float]) -> Iterator[tuple[str, bool | None]]:
    for mean in (mean for mean in panel.means if mean.count > 0):
        interval = mean.interval
        hit = None if interval is None else interval[0] <= expected[mean.curve, mean.count] <= interval[1]
        yield "means", hit


def differences(panel: Panel, expected: Mapping[tuple[Curve, int], float]) -> Iterator[tuple[str, bool | None]]:
    for each in contrasts(panel):
        true = sum(weight * expected[place] for place, weight in each.question.weights.items())
        interval = each.estimate.interval
        kind = "with the checkpoint" if each.question.kind in ("finetuning", "size_gain") else "contrasts"
        yield kind, None if interval is None else interval[0] <= true <= interval[1]


def law(panel: Panel, expected: Mapping[tuple[Curve, int], float]) -> Iterator[tuple[str, bool | None]]:
    fit = panel.fits["power_law"]
    if not fit.parameters:
        return
    b = fit.parameter("b")
    yield "exponent b", (b.low or 0) <= 0.35 <= (b.high or math.inf)
    for curve in panel.curves if fit.ok else ():
        c = fit.parameter("c", curve.label)
        true = rising(curve, 1e30)
        yield "ceiling c", (c.low or -math.inf) <= true <= (c.high or math.inf)


def alarms(panel: Panel, expected: Mapping[tuple[Curve, int], float]) -> Iterator[tuple[str, bool | None]]:
    found = contrasts(panel)
    overall = [each for each in found if each.question.size == found[0].question.size]
    for each in overall:
        interval = each.estimate.interval
        if any(count == 0 for _, count in each.question.weights):
            continue  # finetuning has an effect
        yield "a contrast's interval is off zero", interval is not None and not interval[0] <= 0 <= interval[1]
    touched = [each for each in found if all(count > 0 for _, count in each.question.weights)]
    yield "any contrast is called an effect", any(each.effect for each in touched)
    yield "a dip is warned about", any("lower at" in warning for warning in panel.warnings)


def verdict(panel: Panel, expected: Mapping[tuple[Curve, int], float]) -> Iterator[tuple[str, bool | None]]:
    preferred = panel.comparison.best if panel.comparison.verdict == "preferred" else None
    for form in panel.fits:
        yield f"{form} preferred", preferred == form


def extrapolation(panel: Panel, expected: Mapping[tuple[Curve, int], float]) -> Iterator[tuple[str, bool | None]]:
    """Which of the two forms of steady growth predicts the largest count better from the others."""
    points, odds = (panel.comparison.error[form] for form in ("log_linear", "logistic"))
    yield from verdict(panel, expected)
    yield "log-linear in the odds predicts better", None if points is None or odds is None else odds < points


Measure = Callable[[Panel, Mapping[tuple[Curve, int], float]], Iterable[tuple[str, bool | None]]]

SCENARIOS: dict[str, tuple[World, Measure]] = {
    "means, 2 seeds, iid": (World(rising), means),
    "means, 3 seeds, iid": (World(rising, seeds=3), means),
    "means, 2 seeds, shared": (World(rising, difficulty=1.5), means),
    "means, 2 seeds, scatter differs": (World(rising, wilder=2.5), means),
    "means, 1 seed": (World(rising, seeds=1), means),
    "contrasts, 2 seeds, iid": (World(rising), differences),
    "contrasts, 3 seeds, iid": (World(rising, seeds=3), differences),
    "contrasts, 2 seeds, shared": (World(rising, difficulty=1.5), differences),
    "contrasts, 2 seeds, scatter differs": (World(rising, wilder=2.5), differences),
    "contrasts, 1 seed": (World(rising, seeds=1), differences),
    "law, 2 seeds": (World(rising, MORE_COUNTS), law),
    "law, 3 seeds": (World(rising, MORE_COUNTS, seeds=3), law),
    "law, 4 counts, 2 seeds": (World(rising), law),
    "flat, 1 seed": (World(flat, seeds=1), alarms),
    "flat, 2 seeds": (World(flat), alarms),
    "flat, 2 seeds, mixtures, 1 draw": (World(flat, mixtures=MIXTURES), alarms),
    "flat, 3 draws of 1 seed, mixtures": (World(flat, seeds=1, draws=3, mixtures=MIXTURES), alarms),
    "flat, 2 draws of 2 seeds, mixtures": (World(flat, draws=2, mixtures=MIXTURES), alarms),
    "verdict, truth flat": (World(flat), verdict),
    "verdict, truth plateau, 4 counts": (World(plateau), verdict),
    "verdict, truth plateau, 6 counts": (World(plateau, MORE_COUNTS), verdict),
    "verdict, truth plateau, 4 counts, 3 seeds": (World(plateau, seeds=3), verdict),
    "verdict, truth log-linear": (World(log_linear), verdict),
    "verdict, truth power law, 4 counts": (World(rising), verdict),
    "verdict, truth power law, 6 counts": (World(rising, MORE_COUNTS), verdict),
    "verdict, truth log-linear in the odds, 5 to 95, 4 counts": (World(bounded), extrapolation),
    "verdict, truth log-linear in the odds, 5 to 95, 6 counts": (World(bounded, MORE_COUNTS), extrapolation),
    "verdict, truth log-linear in the odds, 2 to 20, 4 counts": (World(near_floor), extrapolation),
    "verdict, truth plateau near the ceiling, 4 counts": (World(high_plateau), verdict),
    "verdict, truth power law near the ceiling, 4 counts": (World(near_ceiling), verdict),
    "verdict, truth power law near the ceiling, 6 counts": (World(near_ceiling, MORE_COUNTS), verdict),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--only", nargs="*", default=[""], help="scenarios whose name holds one of these")
    options = parser.parse_args()
    print("| scenario | what | share, % | of |\n| --- | --- | --- | --- |")
    for number, (name, (world, measure)) in enumerate(SCENARIOS.items()):
        if not any(part in name for part in options.only):
            continue
        began, hits = time.perf_counter(), dict[str, list[bool | None]]()
        for simulation in range(options.simulations):
            panel, expected = world.panel(np.random.default_rng([number, simulation]))
            for what, hit in measure(panel, expected):
                hits.setdefault(what, []).append(hit)
        for what, found in hits.items():
            known = [hit for hit in found if hit is not None]
            share = f"{100 * np.mean(known):.1f}" if known else "no interval"
            print(f"| {name} | {what} | {share} | {len(found)} |", flush=True)
        del began


if __name__ == "__main__":
    main()
