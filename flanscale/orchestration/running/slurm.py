"""What does Slurm say? The few questions asked of its own commands; every answer may be missing."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from flanscale.errors import ConfigError

ASK_SECONDS = 30.0
ASK_TIMES = 3
CANCEL_SECONDS = 60.0
MOST_WORDS = 500  # on one command line
ALREADY_GONE = "Invalid job id"  # it ended between two looks
DEFAULT_ARRAY_SIZE = 1001


def available() -> bool:
    """Whether jobs can be submitted from this host."""
    return shutil.which("sbatch") is not None


def known_jobs() -> dict[str, str] | None:
    """This user's jobs that are pending, running or requeued: id (array elements as `123_4`) → why it waits.

    None where that cannot be asked.
    """
    answer = ask("squeue", "--me", "--noheader", "--array", "--format=%i %r")
    return None if answer is None else dict(line.strip().partition(" ")[::2] for line in answer.splitlines())


@dataclass(frozen=True)
class Nodes:
    """Some equal nodes of one partition."""

    partition: str
    default: bool  # where jobs go that name no partition
    count: int
    cpus: int
    memory_mb: int
    gpus: int
    minutes: int | None  # time limit of the partition; None where there is none


def nodes() -> list[Nodes]:
    """What the cluster consists of, busy or not; empty where that cannot be asked."""
    answer = ask("sinfo", "--noheader", "--exact", "--format=%P|%D|%c|%m|%G|%l") or ""
    rows = [line.strip().split("|") for line in answer.splitlines()]
    return [_nodes(*row) for row in rows if len(row) == 6]


def _nodes(name: str, count: str, cpus: str, memory: str, gres: str, limit: str) -> Nodes:
    return Nodes(
        partition=name.removesuffix("*"),
        default=name.endswith("*"),
        count=int(count),
        cpus=int(cpus.rstrip("+")),
        memory_mb=int(memory.rstrip("+")),
        gpus=sum(int(number) for number in re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", gres)),
        minutes=_minutes(limit),
    )


def _minutes(limit: str) -> int | None:
    """Slurm's [days-]hours:minutes:seconds, or minutes:seconds."""
    if not (found := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)):
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return 1440 * days + 60 * hours + minutes


def accounts() -> list[str]:
    """The accounts that this user may charge; empty where that cannot be asked."""
    user = f"user={getpass.getuser()}"
    answer = ask("sacctmgr", "--noheader", "--parsable2", "show", "associations", user, "format=account") or ""
    return sorted(set(answer.split()))


def largest_array() -> int:
    """How many elements one job array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
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
    state = ask("squeue", "--noheader", "--jobs", job, "--format=%T")
    return (state or "").strip() == "RUNNING" and ask("scontrol", "requeue", job) is not None


def delay(job: str, seconds: float) -> bool:
    """Let a pending job start in so many seconds at the earliest; False when Slurm refuses, as it may for a moment."""
    command = ("scontrol", "update", f"JobId={job}", f"StartTime=now+{round(seconds)}")
    for _ in range(3):
        if ask(*command) is not None:
            return True
        time.sleep(1.0)
    return False


def ask(*command: str, seconds: float = ASK_SECONDS) -> str | None:
    """The output of a command; None when it is not there, refuses or does not answer in time.

    One that a signal has ended is asked again: when Slurm stops a job, it stops what the job is just asking, too.
    """
    if shutil.which(command[0]) is None:
        return None
    for _ in range(ASK_TIMES):
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return None
        if result.returncode >= 0:
            return result.stdout if result.returncode == 0 else None
    return None


# --- cancelling -------------------------------------------------------------------------------------------------------


def jobs_of(runs: Path) -> set[str]:
    """Ids of this user's jobs that were submitted from a folder of run directories, array elements as `123_4`.

    Ids come round again; the script that a job was submitted with lies in the folder that it works for.

    Raises:
        ConfigError: Slurm does not answer.
    """
    lines = [line.split("|", 1) for line in _slurm("squeue", "--me", "--noheader", "--array", "--format=%i|%o")]
    ours = {script: Path(script).resolve().is_relative_to(runs.resolve()) for _, script in lines}
    return {job for job, script in lines if ours[script]}


def cancel_jobs(jobs: Collection[str]) -> None:
    """Remove waiting jobs; send SIGTERM to running ones, which Slurm kills after its KillWait.

    Raises:
        ConfigError: Slurm refuses.
    """
    words = list(_compressed(jobs))
    for first in range(0, len(words), MOST_WORDS):
        _slurm("scancel", *words[first : first + MOST_WORDS])


def _compressed(jobs: Iterable[str]) -> Iterator[str]:
    """Job ids as scancel takes them: the elements of one array in one word, `123_[0-3,7]`."""
    arrays: dict[str, list[int]] = defaultdict(list)
    for job in jobs:
        array, underscore, element = job.partition("_")
        if underscore:
            arrays[array].append(int(element))
        else:
            yield job
    for array, elements in arrays.items():
        yield f"{array}_[{','.join(_ranges(elements))}]"


def _ranges(numbers: Iterable[int]) -> Iterator[str]:
    """Numbers in a row as `first-last`."""
    for _, row in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        together = [number for _, number in row]
        yield f"{together[0]}-{together[-1]}" if len(together) > 1 else str(together[0])


def _slurm(*command: str) -> list[str]:
    """What a command of Slurm's prints, line by line."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=CANCEL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command[0]} does not answer on this host ({error}): cancel from a login node") from error
    if result.returncode and ALREADY_GONE not in result.stderr:
        raise ConfigError(f"Slurm refused: {result.stderr.strip().splitlines()[0] if result.stderr else command[0]}")
    return result.stdout.splitlines()
