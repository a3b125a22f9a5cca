"""What does reading one panel cost: all forms with their intervals, the comparison, and what a figure draws of it.

    python benchmarks/fits.py [--repeats 5] [--profile]

The panel has 6 counts × 4 sizes × with and without CoT × 3 seeds, of a power law with noise. Seconds are of the CPU,
the best of the repeats: what else the machine does is not in them.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import time
from collections.abc import Callable

import numpy as np

from analysis import panels
from analysis.contrasts import contrasts
from analysis.panels import Panel
from analysis.scaling import FORMS
from analysis.summary import Curve, Replicate

MODELS = {"nano": 1_000_000, "micro": 4_000_000, "mini": 16_000_000, "midi": 64_000_000}
COUNTS = (9, 30, 89, 282, 700, 1836)
SEEDS = 3
SPREAD = 1.0
"""Standard deviation of a run, in points."""
LIMIT = 0.3
"""Seconds that fits and comparison may take."""
DRAWN = 100
"""Places of a curve that a figure draws."""


def runs() -> list[Replicate]:
    """The runs of the panel, the same every time."""
    rng, out = np.random.default_rng(0), []
    for number, model in enumerate(MODELS):
        for cot in (False, True):
            for count in COUNTS:
                for seed in range(SEEDS):
                    score = 30 + 8 * number + 10 * cot - (22 + 4 * number) * (count / 9) ** -0.35
                    score += SPREAD * rng.normal()
                    cell = f"{model} {cot} {count} {seed}"
                    out.append(Replicate(Curve(model, cot), count, score, 1.3, 1.5, 1200, 0.0, score, (cell,)))
    return out


def bands(panel: Panel) -> None:
    """Every curve of every form, with its band, as a figure would draw it."""
    at = np.geomspace(COUNTS[0], COUNTS[-1], DRAWN)
    for fit in panel.fits.values():
        for curve in fit.curves if fit.ok else ():
            fit.predict(curve, at)
            fit.band(curve, at)


def best(repeats: int, act: Callable[[], object]) -> float:
    """Seconds of the CPU of the quickest repeat."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        act()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="say where the time of one reading goes")
    options = parser.parse_args()
    given = runs()

    def read() -> Panel:
        return panels.panel("simulated", "direct", given, MODELS)

    panel = read()
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
    print(f"{len(given)} runs, {len(panel.curves)} curves, {len(FORMS)} forms; {machine}")
    print("| what | seconds of CPU |\n| --- | --- |")
    whole = best(options.repeats, read)
    print(f"| all forms with intervals, comparison, means, outliers | {whole:.3f} (limit {LIMIT}) |")
    print(f"| contrasts | {best(options.repeats, lambda: contrasts(panel)):.3f} |")
    drawn = sum(len(fit.curves) for fit in panel.fits.values() if fit.ok)
    print(f"| {drawn} curves with bands at {DRAWN} places | {best(options.repeats, lambda: bands(panel)):.3f} |")
    if options.profile:
        with cProfile.Profile() as profile:
            read()
        pstats.Stats(profile).sort_stats("cumtime").print_stats(25)


if __name__ == "__main__":
    main()
