"""A Slurm that only takes notes: programs of its names on PATH, what they were given, and what they are to say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

SBATCH = """#!/bin/sh
cd "$(dirname "$0")"
if [ -e refuse ] && sh ./refuse "$1" >&2; then exit 1; fi
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
if [ -e room ] && [ $(($(wc -l < queue) + ${last:-0} + 1)) -gt $(cat room) ]; then
  echo "sbatch: error: $(cat limit)" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2
  exit 1
fi
n=$(($(cat count) + 1)); echo $n > count
cp "$1" job.$n
if [ -z "$last" ]; then echo $n >> queue; else for i in $(seq 0 $last); do echo ${n}_$i >> queue; done; fi
echo "Submitted batch job $n"
"""
SAYS = '#!/bin/sh\ncd "$(dirname "$0")"\necho "$@" >> asked.{name}\ncat {name}.says\n'
NODES = "main*|2|8|16000|gpu:4|infinite\nlong|1|64|512000|gpu:a100:8(S:0-1)|2-00:00:00\n"


@dataclass(frozen=True)
class FakeSlurm:
    """The folder of the programs."""

    folder: Path

    def scripts(self) -> list[str]:
        """The batch scripts that were accepted, in order; the first job is number 101."""
        return [path.read_text() for path in sorted(self.folder.glob("job.*"))]

    def option(self, number: int, name: str) -> str | None:
        """An option in a job's script."""
        lines = (self.folder / f"job.{number}").read_text().splitlines()
        found = [line.split("=", 1)[1].strip("'") for line in lines if line.startswith(f"#SBATCH --{name}=")]
        return found[0] if found else None

    def refuse(self, condition: str, message: str) -> None:
        """From now on, refuse a script ($1) for which the shell's condition holds."""
        (self.folder / "refuse").write_text(f"{condition} && echo 'sbatch: error: {message}'\n")

    def limit(self, jobs: int, words: str) -> None:
        """From now on, have no more jobs in the queue than so many, and refuse others in these words."""
        (self.folder / "room").write_text(str(jobs))
        (self.folder / "limit").write_text(words)

    def empty(self) -> None:
        """Let all jobs leave the queue."""
        (self.folder / "queue").write_text("")

    def asked(self, program: str) -> int:
        """How often a program was called."""
        path = self.folder / f"asked.{program}"
        return len(path.read_text().splitlines()) if path.exists() else 0


def open_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, largest_array: int = 1000) -> FakeSlurm:
    """Put the programs into a folder and first on PATH."""
    folder.mkdir()
    says = {"sinfo": NODES, "scontrol": f"MaxArraySize = {largest_array + 1}\n", "sacctmgr": "lab\n", "srun": ""}
    for name, words in says.items():
        (folder / f"{name}.says").write_text(words)
    programs = {"sbatch": SBATCH, "squeue": SAYS.format(name="squeue").replace("squeue.says", "queue")}
    programs |= {name: SAYS.format(name=name) for name in says}
    for name, script in programs.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    (folder / "count").write_text("100")
    (folder / "queue").touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder)
