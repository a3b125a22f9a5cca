"""Does a run give the same once more? Executes a cell again in a fresh run directory and compares what it logged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flanscale.config.compose import load, save
from flanscale.errors import ConfigError
from flanscale.orchestration.running.job import RUNNER
from flanscale.run_directory import METRICS_FILE, evaluations, read_records, read_rows, read_state, recorded

OF_THE_HOST = ("step", "attempt", "time", "train/tokens_per_second", "train/mfu", "train/data_wait_fraction")
START = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1], sys.argv[2], echo=True)"


@dataclass(frozen=True)
class Deviation:
    """One key of the log, or the records of one line of a suite, that is not the same."""

    what: str
    count: int  # of steps or of examples
    of: int
    largest: float | None = None  # absolute, where all values are finite numbers
    first: int | None = None  # step

    def __str__(self) -> str:
        by = f", by at most {self.largest:.3g}" if self.largest is not None else ""
        since = f", from step {self.first} on" if self.first is not None else ""
        return f"{self.what}: {self.count:,} of {self.of:,} differ{by}{since}"


def run_again(run_dir: Path, to: Path, runner: str = RUNNER) -> Path:
    """Run the cell in the new run directory `to/<name of the run>`, with what is installed and no W&B.

    Raises:
        ConfigError: the directory is there already, or the run did not finish.
    """
    again = to / run_dir.name
    if again.exists():
        raise ConfigError(f"{again} is there already; give another folder with --to")
    cell = load(run_dir)
    cell.tracker.mode = "disabled"
    again.mkdir(parents=True)
    save(cell, again)
    subprocess.run([sys.executable, "-c", START, str(again), runner], check=False)
    state = read_state(again)
    if state.state != "finished":
        why = f" ({state.failure.message})" if state.failure else ""
        raise ConfigError(f"the run in {again} is {state.state}{why}; its log.txt tells more")
    return again


def deviations(run_dir: Path, again: Path) -> list[Deviation]:
    """What differs between two runs of a cell, bit for bit; keys that measure the host are left out."""
    then, now = _logged(run_dir), _logged(again)
    found = [_compared(key, then.get(key, {}), now.get(key, {})) for key in sorted({*then, *now})]
    answered = [_answered(folder) for folder in (run_dir, again)]
    for line in sorted({*answered[0], *answered[1]}):
        before, after = (records.get(line, []) for records in answered)
        longest = max(len(before), len(after))
        same = sum(one == other for one, other in zip(before, after, strict=False))
        found.append(Deviation(f"evaluations/{line}", longest - same, longest))
    return [one for one in found if one.count]


def _answered(run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of every line that was asked, by suite and line."""
    return {
        f"{folder.name}/{line}": read_records(folder, line)[0]
        for folder in evaluations(run_dir)
        for line in recorded(folder)
    }


def _logged(run_dir: Path) -> dict[str, dict[int, Any]]:
    """Every logged value by key and step."""
    rows = read_rows(run_dir)
    if not rows:
        raise ConfigError(f"{run_dir / METRICS_FILE} has no rows: nothing to compare with")
    values: dict[str, dict[int, Any]] = {}
    for row in rows:
        for key, value in row.items():
            if key not in OF_THE_HOST:
                values.setdefault(key, {})[row["step"]] = value
    return values


def _compared(key: str, then: Mapping[int, Any], now: Mapping[int, Any]) -> Deviation:
    steps = sorted({*then, *now})
    differing = [step for step in steps if step not in then or step not in now or then[step] != now[step]]
    gaps = [_gap(then.get(step), now.get(step)) for step in differing]
    known = [gap for gap in gaps if gap is not None]
    largest = max(known) if known and len(known) == len(gaps) else None
    return Deviation(key, len(differing), len(steps), largest, differing[0] if differing else None)


def _gap(before: Any, after: Any) -> float | None:
    """Between two numbers; None where one is missing or is none."""
    return abs(before - after) if isinstance(before, int | float) and isinstance(after, int | float) else None
