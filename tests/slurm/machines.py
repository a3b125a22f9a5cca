"""How do the machines of the test cluster fail? Its daemons are killed and started again, its nodes taken away."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from little_study import wait_until

SAVED_SECONDS = 6  # what slurmctld has been told for so long is on disk


@dataclass(frozen=True)
class Machines:
    """The cluster whose configuration lies in `folder`."""

    folder: Path

    def kill_controller(self) -> None:
        """kill -9 of slurmctld; Slurm's commands then have nobody to talk to."""
        os.kill(int((self.folder / "slurmctld.pid").read_text()), signal.SIGKILL)

    def start_controller(self) -> None:
        """Start slurmctld again, from what it had saved."""
        search = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
        subprocess.run(["slurmctld"], check=True, env=os.environ | {"PATH": search}, capture_output=True)
        wait_until(lambda: subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0)

    @contextmanager
    def node_lost(self, node: str) -> Iterator[None]:
        """What runs there ends, and nothing starts there inside the `with` block."""
        set_node(node, "DOWN")
        try:
            yield
        finally:
            wait_until(lambda: set_node(node, "RESUME") or node_up(node))  # refused for a moment

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else stops daemons or nodes meanwhile: whoever uses the cluster in another process waits."""
        with (self.folder / "turns").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def set_node(node: str, state: str) -> bool:
    """Whether Slurm has accepted it."""
    update = ["scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test"]
    return subprocess.run(update, capture_output=True, check=False).returncode == 0


def node_up(node: str) -> bool:
    """Whether jobs can start there."""
    asked = subprocess.run(["sinfo", "-h", "-n", node, "-o", "%t"], capture_output=True, text=True, check=False)
    return asked.stdout.split()[:1] in (["idle"], ["mix"], ["alloc"])


def state_of(job: str) -> str:
    """The state of a job in Slurm's word, empty when Slurm does not know it any more."""
    asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()
