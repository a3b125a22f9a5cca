"""How long until a thousand cells are queued on Slurm? flanscale beside hydra-submitit-launcher on the same grid.

One command on a host with a Slurm cluster (`tests/slurm/cluster.sh start` makes one of this machine):
`python benchmarks/dispatch.py --peer PYTHON`, where PYTHON is an interpreter with hydra-core 1.3 and
hydra-submitit-launcher 1.2.0. Both sides submit a grid of cells that are held, so that nothing runs while the clock
does: seconds from typing the command until squeue shows all of them, and until the prompt is back. The peer's prompt
comes back when the last job has ended; here its jobs are cancelled as soon as they are queued.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

STUDY = """
base: [model=nano, tracker=disabled, trainer.steps=1, mixture.count=9]
axes:
  seed: [0]
"""
CONFIG = """
defaults: [_self_, {override hydra/launcher: submitit_slurm}]
seed: 0
hydra:
  launcher: {timeout_min: 60, cpus_per_task: 1, array_parallelism: 1000, additional_parameters: {hold: true}}
"""
PEER = """
import hydra
@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(config):
    print(config.seed)
if __name__ == "__main__":
    main()
"""
FOREVER = 300.0  # seconds
GRACE = 30.0  # within which a command that does not wait for its jobs is back


@dataclass(frozen=True)
class Times:
    """Seconds from the start of the command."""

    queued: float
    back: float | None  # None where the command waits for its jobs


def ours(folder: Path, cells: int) -> list[str]:
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "thousand.yaml").write_text(STUDY)
    options = ["cluster=slurm_cpu", "cluster.cpus=1", "cluster.timeout_minutes=60", "cluster.sbatch={hold: true}"]
    return [sys.executable, "-m", "flanscale.cli.main", "launch", "thousand", f"seed=range({cells})", *options]


def peers(folder: Path, cells: int, python: str) -> list[str]:
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "thousand.py").write_text(PEER)
    return [python, "thousand.py", "--multirun", f"seed=range({cells})"]


def measure(command: list[str], folder: Path, cells: int) -> Times:
    before, began = queue(), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, process_group=0)
    mine: set[str] = set()
    back = None
    try:
        while len(mine) < cells:
            if time.perf_counter() - began > FOREVER or process.poll():
                raise SystemExit(f"{' '.join(command)}: {len(mine)} cells queued, exit code {process.poll()}")
            if process.poll() is not None and back is None:
                back = time.perf_counter() - began
            time.sleep(0.1)
            mine = queue() - before
        queued = time.perf_counter() - began
        while back is None and time.perf_counter() - began < queued + GRACE:
            time.sleep(0.1)
            back = None if process.poll() is None else time.perf_counter() - began
    finally:
        arrays = {job.split("_")[0] for job in queue() - before}
        subprocess.run(["scancel", *arrays], check=False)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Times(queued, back)


def queue() -> set[str]:
    """Ids of this user's jobs."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="interpreter with hydra-submitit-launcher")
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    times: dict[str, list[Times]] = {"flanscale": [], "hydra-submitit-launcher": []}
    for number in range(given.rounds):
        for side, found in times.items():
            with tempfile.TemporaryDirectory(dir=Path.home()) as name:
                folder = Path(name)
                command = ours(folder, given.cells) if side == "flanscale" else peers(folder, given.cells, given.peer)
                found.append(measure(command, folder, given.cells))
            back = "waits for its jobs" if found[-1].back is None else f"prompt back after {found[-1].back:.1f} s"
            print(f"round {number + 1}, {side:24} {found[-1].queued:6.1f} s until queued, {back}", flush=True)
    median = {side: statistics.median(each.queued for each in found) for side, found in times.items()}
    ratio = median["hydra-submitit-launcher"] / median["flanscale"]
    print(f"{given.cells} cells until all are queued, medians: {median}; {ratio:.1f} times less")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
