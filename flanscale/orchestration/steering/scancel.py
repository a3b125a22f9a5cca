"""How are Slurm jobs cancelled? Those that are provably of these runs, an array with one word."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from flanscale.checks import ConfigError

ASK_SECONDS = 60
MOST_WORDS = 500  # on one command line
ALREADY_GONE = "Invalid job id"  # it ended between two looks


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
        result = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command[0]} does not answer on this host ({error}): cancel from a login node") from error
    if result.returncode and ALREADY_GONE not in result.stderr:
        raise ConfigError(f"Slurm refused: {result.stderr.strip().splitlines()[0] if result.stderr else command[0]}")
    return result.stdout.splitlines()
