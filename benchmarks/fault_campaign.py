"""Does a study survive a bad week? Cells on the test cluster, faults at random, results beside undisturbed ones.

    tests/slurm/cluster.sh with .venv/bin/python benchmarks/fault_campaign.py     # 200 NumPy cells, some minutes
    … --cells-per-job 4 --cells-at-once 2                                         # cells that share jobs
    … --real --cells 8                                                            # cells of the quick study instead

Ends with exit code 1 when a cell is lost, ran twice at once, has a row twice, or ends with other parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SEARCH = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "slurm")]
sys.path[:0] = SEARCH

import numpy_cells  # noqa: E402
from machines import SAVED_SECONDS, Machines, set_node  # noqa: E402

from flanscale.config.compose import load  # noqa: E402
from flanscale.orchestration.running import slurm  # noqa: E402
from flanscale.orchestration.running.liveness import process_alive  # noqa: E402
from flanscale.run_directory import (  # noqa: E402
    CONFIG_FILE,
    RunState,
    read_rows,
    read_state,
)

STUDY = "faults"
NODES = ("n1", "n2")
RELAUNCH_SECONDS = 15.0
REPAIR_SECONDS = 3.0
CLOCK = {"step", "time", "attempt", "train/tokens_per_second", "train/data_wait_fraction", "train/mfu"}
NUMPY = ["model=nano", "mixture.count=9", "trainer.steps=40", "evaluation=none"]
REAL = ["model=nano", "mixture.count=9", "trainer=quickstart", "evaluation=procedural", "trainer.checkpoint_every=20"]
CLUSTER = ["cluster=slurm", "cluster.gpus=0", "cluster.partition=low", "cluster.timeout_minutes=60"]
CLUSTER += ["cluster.environment.JAX_PLATFORMS=cpu", "cluster.backoff_seconds=1", "cluster.retries=20"]
CLUSTER += ["cluster.evaluation=null"]  # a cell evaluates itself


@dataclass
class Campaign:
    """A study under way, and what has been done to it."""

    folder: Path
    machines: Machines
    rng: random.Random
    real: bool
    done: Counter[str] = field(default_factory=Counter)  # faults
    repairs: Counter[str] = field(default_factory=Counter)  # what a user and an administrator did about them
    launchers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    # --- what a user does -----------------------------------------------------------------------------------------

    def launch(self) -> subprocess.Popen[bytes]:
        command = [str(ROOT / "tests" / "slurm" / "numpy_cells.py"), STUDY]
        if self.real:
            command = ["-m", "flanscale.cli.main", "launch", "--no-wait", STUDY]
        path = os.pathsep.join([*SEARCH, *filter(None, [os.environ.get("PYTHONPATH")])])
        with (self.folder / "launchers.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": path},
                stdout=log,
                stderr=log,
            )
        self.launchers.append(process)
        return process

    def launch_twice_at_once(self) -> None:
        self.launch()
        self.launch()
        self.repairs["two launchers at once"] += 1

    def launching(self) -> bool:
        return any(process.poll() is None for process in self.launchers)

    # --- what is seen of it ---------------------------------------------------------------------------------------

    def runs(self) -> list[Path]:
        return sorted(path for path in (self.folder / "runs").glob("*") if (path / CONFIG_FILE).exists())

    def states(self) -> list[RunState]:
        return [read_state(run) for run in self.runs()]

    def one(self, state: str) -> RunState | None:
        """A random cell in this state that Slurm has."""
        found = [cell for cell in self.states() if cell.state == state and cell.job]
        return self.rng.choice(found) if found else None

    def repair(self) -> None:
        """What an administrator has to do after a requeue in the very instant of a start: Slurm holds such a job,
        and drains the node when it was itself killed in between.
        """
        for node in NODES:
            set_node(node, "RESUME")  # refused where it is up
        asked = ["squeue", "--me", "--array", "--noheader", "--format=%i %r"]
        jobs = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
        for job in [line.split()[0] for line in jobs if line.endswith("held")]:
            self.repairs["held by Slurm, released"] += _asked("scontrol", "release", job)

    # --- what happens to it ---------------------------------------------------------------------------------------

    def kill_cell(self) -> bool:
        cell = self.one("running")
        if cell is None or cell.pid is None or not process_alive(cell.pid, cell.process_started):
            return False
        os.kill(cell.pid, signal.SIGKILL)
        return True

    def to_running(self, *command: str) -> bool:
        cell = self.one("running")
        return cell is not None and _asked(*command, str(cell.job))

    def cancel_queued(self) -> bool:
        cell = self.one("queued")
        return cell is not None and _asked("scancel", "--state=PENDING", str(cell.job))

    def preempt(self) -> bool:
        urgent = ["sbatch", "--partition=high", "--exclusive", f"--nodelist={self.rng.choice(NODES)}"]
        return _asked(*urgent, "--output=/dev/null", "--wrap=sleep 1")

    def restart_controller(self) -> bool:
        time.sleep(SAVED_SECONDS * self.rng.random())
        self.machines.kill_controller()
        time.sleep(2 * self.rng.random())
        self.machines.start_controller()
        return True

    def lose_node(self) -> bool:
        with self.machines.node_lost(self.rng.choice(NODES)):
            time.sleep(1 + self.rng.random())
        return True

    def kill_launcher(self) -> bool:
        process = self.launch()
        time.sleep(self.rng.uniform(0.5, 6))
        process.kill()
        return process.wait() == -signal.SIGKILL

    def faults(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        """By name, how often relative to each other, and what does it; it tells whether it hit anything."""
        return {
            "kill -9 of a cell": (8, self.kill_cell),
            "notice of the time limit (USR2)": (6, lambda: self.to_running("scancel", "--signal=USR2")),
            "scancel": (5, lambda: self.to_running("scancel")),
            "scontrol requeue": (5, lambda: self.to_running("scontrol", "requeue")),
            "scancel of a queued cell": (3, self.cancel_queued),
            "preemption of a node": (1, self.preempt),
            "kill -9 of slurmctld": (1, self.restart_controller),
            "node down": (1, self.lose_node),
            "kill -9 of a launcher": (1, self.kill_launcher),
        }

    def disturb(self, count: int, cells: int, pause: float, deadline: float) -> None:
        """Launch, do harm so many times as long as there is something to harm, and launch again until all is done."""
        faults = self.faults()
        weights = [weight for weight, _ in faults.values()]
        self.launch_twice_at_once()
        launched = repaired = time.monotonic()
        harmed = 0
        while not self.settled(cells):
            now = time.monotonic()
            if now > deadline:
                return
            if now - repaired > REPAIR_SECONDS:
                self.repair()
                repaired = now
            if now - launched > RELAUNCH_SECONDS and not self.launching():
                self.launch_twice_at_once()
                launched = now
            if harmed < count:
                (name,) = self.rng.choices(list(faults), weights)
                hit = faults[name][1]()
                self.done[name] += hit
                harmed += hit
            time.sleep(pause * self.rng.uniform(0.5, 1.5))

    def settled(self, cells: int) -> bool:
        states = [state.state for state in self.states()]
        return len(states) == cells and set(states) == {"finished"}


def _asked(*command: str) -> bool:
    """Whether Slurm did it."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- afterwards -------------------------------------------------------------------------------------------------


def told(run: Path) -> dict[int, dict[str, Any]]:
    """What a run logged of each step, without what depends on the clock."""
    steps: dict[int, dict[str, Any]] = {}
    for row in read_rows(run):
        steps.setdefault(row["step"], {}).update({key: value for key, value in row.items() if key not in CLOCK})
    return {step: values for step, values in steps.items() if values}


def repeated_rows(run: Path) -> int:
    """Values that were logged twice for one step."""
    rows = read_rows(run)
    counts = Counter((row["step"], key) for row in rows for key in row if key not in CLOCK)
    return sum(count - 1 for count in counts.values())


def result(run: Path, real: bool) -> Any:
    """What identifies the final parameters bit for bit."""
    if not real:
        return numpy_cells.parameters(run)
    steps = [int(path.name) for path in (run / "checkpoints").glob("[0-9]*")]
    facts = json.loads((run / "checkpoints" / str(max(steps)) / "progress" / "metadata").read_text())
    return max(steps), facts["checksums"]


def undisturbed(run: Path, folder: Path, real: bool) -> Path:
    """The same cell once more, without Slurm and without faults."""
    copy = folder / run.name
    copy.mkdir(parents=True)
    (copy / CONFIG_FILE).write_bytes((run / CONFIG_FILE).read_bytes())
    if real:
        code = "import sys; from flanscale.orchestration.running.job import start; start(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, str(copy)], check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    else:
        cell = load(copy)
        numpy_cells.run(cell, copy, attempt=1, should_stop=lambda: False, step_seconds=0.0)
    return copy


def wrongs(runs: list[Path], cells: int, folder: Path, real: bool) -> dict[str, list[str]]:
    """Runs by what is wrong with them; every list must be empty."""
    found: dict[str, list[str]] = {
        "lost": [f"{cells - len(runs)} without a run directory"] if len(runs) < cells else [],
        "at work twice at once": [run.name for run in runs if (run / numpy_cells.OVERLAPS).exists()],
        "rows logged twice": [run.name for run in runs if repeated_rows(run)],
        "other rows": [],
        "other parameters": [],
    }
    for run in runs:
        if read_state(run).state != "finished":
            found["lost"].append(f"{run.name}: {read_state(run).state}, {read_state(run).failure}")
            continue
        peer = undisturbed(run, folder, real)
        if told(run) != told(peer):
            found["other rows"].append(run.name)
        if result(run, real) != result(peer, real):
            found["other parameters"].append(run.name)
    if not real:
        ends = {
            run.name: len((run / numpy_cells.ENDS).read_text().splitlines())
            for run in runs
            if (run / numpy_cells.ENDS).exists()
        }
        found["ended more than once"] = [name for name, count in ends.items() if count > 1]
    return found


def main() -> None:
    given = parsed()
    configuration = Path(os.environ.get("SLURM_CONF", ""))
    if not (configuration.parent / ".cluster.sh").exists() or slurm.known_jobs() is None:
        raise SystemExit("no test cluster is up; type: tests/slurm/cluster.sh with " + " ".join(sys.argv))
    machines = Machines(configuration.parent)
    with tempfile.TemporaryDirectory(prefix="fault-campaign-") as scratch, machines.alone():
        raise SystemExit(campaign(given, (given.keep or Path(scratch)).absolute(), machines))


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--faults", type=int, help="as many as cells by default")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two faults, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0, help="what is unfinished then counts as lost")
    parser.add_argument("--cells-per-job", type=int, default=1)
    parser.add_argument("--cells-at-once", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="cells of the quick study instead of NumPy ones")
    parser.add_argument("--keep", type=Path, help="an empty folder for all that is written; else a temporary one")
    return parser.parse_args(arguments)


def campaign(given: argparse.Namespace, folder: Path, machines: Machines) -> int:
    """Run it, print what happened, and give the exit code."""
    shared = [f"cluster.cells_per_job={given.cells_per_job}", f"cluster.cells_at_once={given.cells_at_once}"]
    shared += [f"cluster.cpus={given.cells_at_once}"]
    study = {"title": "faults", "base": [*(REAL if given.real else NUMPY), "tracker=disabled", *CLUSTER, *shared]}
    (folder / "sweeps").mkdir(parents=True)
    (folder / "sweeps" / f"{STUDY}.yaml").write_text(json.dumps(study | {"axes": {"seed": list(range(given.cells))}}))
    work = Campaign(folder, machines, random.Random(given.seed), given.real)
    began = time.monotonic()
    try:
        work.disturb(given.faults or given.cells, given.cells, given.pause, began + 60 * given.minutes)
    finally:
        for process in work.launchers:
            process.wait()
        for node in NODES:
            set_node(node, "RESUME")
    seconds = time.monotonic() - began
    attempts = Counter(state.attempt for state in work.states())
    found = wrongs(work.runs(), given.cells, folder / "undisturbed", given.real)
    lines = {**work.done, "faults in all": sum(work.done.values()), **work.repairs}
    print(f"{given.cells} cells, seed {given.seed}, {seconds:.0f} s\n")
    for name, count in lines.items():
        print(f"{name:36}{count:6}")
    print("\nattempts of a cell, and how many cells took so many")
    print("   ".join(f"{number}: {count}" for number, count in sorted(attempts.items())), "\n")
    for name, names in found.items():
        print(f"{name:36}{len(names):6}   {'; '.join(names[:5])}")
    return int(any(found.values()))


if __name__ == "__main__":
    main()
