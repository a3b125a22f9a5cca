"""What does Slurm say? The few questions asked of its own commands; every answer may be missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

ASK_SECONDS = 30
DEFAULT_ARRAY_SIZE = 1001


def available() -> bool:
    """Whether jobs can be submitted from this host."""
    return shutil.which("sbatch") is not None


def known_jobs() -> frozenset[str] | None:
    """Ids of this user's jobs that are pending, running or requeued (array elements as `123_4`); None if unknown."""
    answer = _ask("squeue", "--me", "--noheader", "--array", "--format=%i")
    return None if answer is None else frozenset(answer.split())


def largest_array() -> int:
    """How many elements one job array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "")
    return int(found.group(1)) - 1 if found else DEFAULT_ARRAY_SIZE - 1


def current_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """The id of the job that submitit started this process in, in the form of `known_jobs`; None without one.

    An allocation that somebody typed `salloc` for is not the job's own, and never requeued.
    """
    if environment.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array, element = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else environment.get("SLURM_JOB_ID")


def requeue(job: str) -> bool:
    """Put a job back into the queue that Slurm is about to stop; False when it is not running any more.

    A job that its owner cancelled shows as COMPLETING, and requeueing it would undo the cancellation. One that is to
    be preempted after its grace time, or reaches its time limit, still runs.
    """
    state = _ask("squeue", "--noheader", "--jobs", job, "--format=%T")
    return (state or "").strip() == "RUNNING" and _ask("scontrol", "requeue", job) is not None


def _ask(*command: str) -> str | None:
    """The output of a command; None when it is not there, refuses or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return result.stdout if result.returncode == 0 else None
