"""How does a cell become a Slurm job? Hands runs to submitit's executor; nothing else in flanscale calls submitit.

A job is `job.start` with a run directory's path: no closures travel, so what a job does is in the code and in
`config.yaml`. submitit is imported on first use.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch.options import further_options
from flanscale.orchestration.dispatch.request import refusal
from flanscale.orchestration.dispatch.snapshot import Snapshot
from flanscale.orchestration.planning.resources import rounds
from flanscale.orchestration.running import job, worker
from flanscale.orchestration.running.child import notice_seconds
from flanscale.orchestration.running.logs import JOBS_FOLDER
from flanscale.run_directory import runs_of
from flanscale.schema import ClusterConfig

PAUSES = (2.0, 5.0, 10.0)  # seconds before each time that a controller that is silent is asked again
SILENT = re.compile(r"[Uu]nable to contact slurm controller|timed out|Zero Bytes|Connection (?:refused|reset)")
CLOSING_MINUTES = 60
CLOSING_GB = 4
OF_THE_USER = ("qos", "reservation")  # options of sbatch that do not ask for resources
INHERITED = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_", "PMI_", "PMIX_")


def submit_slurm(
    units: Sequence[Sequence[Path]],
    cluster: ClusterConfig,
    runner: str,
    name: str,
    *,
    dependency: str = "",
    snapshot: Snapshot | None = None,
) -> list[str]:
    """Submit cells of one resource shape as one job array; returns the job ids in the order of `units`.

    Args:
        units: the run directories of each job's cells.
        cluster: the resources of a job, and the time limit of a cell.
        runner: see `job.start`.
        name: of the array, as squeue shows it.
        dependency: what the cells wait for, in the words of sbatch; a job whose turn can never come is cancelled.
        snapshot: the copy of the sources that they run; None: the installed ones.

    Raises:
        NoRoom: as many jobs are queued as Slurm allows.
        ConfigError: Slurm refuses or does not answer; the message is Slurm's own, in one line.
    """
    calls: list[tuple[Any, ...]] = [
        (worker.start_several, [str(run_dir) for run_dir in unit], runner)
        if cluster.cells_per_job > 1
        else (job.start, str(*unit), runner)
        for unit in units
    ]
    longest = rounds(cluster, max(map(len, units)))
    parameters = slurm_parameters(cluster, name, len(units), dependency, snapshot, longest)
    return _submitted(calls, runs_of(units[0][0]), cluster, name, parameters)


def submit_after(
    jobs: Sequence[str],
    call: tuple[Any, ...],
    runs: Path,
    cluster: ClusterConfig,
    name: str,
    snapshot: Snapshot | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 0.0,
) -> str:
    """Submit one small job, a function with its arguments, for when other jobs have ended; returns its id.

    Its environment is that of a cell, without an accelerator, unless another is given. It starts in so many seconds at
    the earliest.

    Raises:
        ConfigError: as `submit_slurm`.
    """
    small = replace(cluster, cpus=1, gpus=0, nodes=1, tasks_per_node=1, timeout_minutes=CLOSING_MINUTES)
    without_accelerator = {**cluster.environment, "JAX_PLATFORMS": "cpu"}
    small.environment = without_accelerator if environment is None else dict(environment)
    small.memory_gb = CLOSING_GB if cluster.memory_gb else None
    small.sbatch = {key: value for key, value in further_options(cluster).items() if key in OF_THE_USER}
    if seconds:
        small.sbatch["begin"] = f"now+{seconds:.0f}"
    parameters = slurm_parameters(small, name, 1, f"afterany:{':'.join(jobs)}" if jobs else "", snapshot)
    return _submitted([call], runs, cluster, name, parameters)[0]


def _submitted(
    calls: Sequence[tuple[Any, ...]], runs: Path, cluster: ClusterConfig, name: str, parameters: Mapping[str, Any]
) -> list[str]:
    with _environment({**os.environ, "SUBMITIT_LOG_LEVEL": "NOCONFIG"}):  # else it closes every log handler there is
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

    environment, folder = outside_slurm(os.environ), fresh_folder(runs / JOBS_FOLDER, name)
    for pause in (*PAUSES, None):
        try:
            with _environment(environment), redirect_stderr(StringIO()):  # submitit repeats there what it raises
                executor = submitit.AutoExecutor(folder, cluster="slurm")
                executor.update_parameters(**parameters)
                with executor.batch():
                    jobs = [executor.submit(*call) for call in calls]
            return [handle.job_id for handle in jobs]
        except (FailedJobError, FailedSubmissionError) as error:
            words = str(error)
            if pause is None or not SILENT.search(words):
                shutil.rmtree(folder)
                raise _complaint(words, cluster) from error
        except BaseException:
            shutil.rmtree(folder)
            raise
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def slurm_parameters(
    cluster: ClusterConfig,
    name: str,
    jobs: int,
    dependency: str = "",
    snapshot: Snapshot | None = None,
    one_after_another: int = 1,
) -> dict[str, Any]:
    """What submitit's Slurm executor is told, of jobs that run so many cells one after another."""
    exports = [f"export {key}={shlex.quote(value)}" for key, value in cluster.environment.items()]
    waits = {"dependency": dependency, "kill-on-invalid-dep": "yes"} if dependency else {}
    parameters: dict[str, Any] = {
        "name": name,
        "nodes": cluster.nodes,
        "tasks_per_node": cluster.tasks_per_node,
        "cpus_per_task": max(1, cluster.cpus // cluster.tasks_per_node),
        "timeout_min": cluster.timeout_minutes * one_after_another,
        "slurm_array_parallelism": cluster.parallelism or jobs,
        "slurm_signal_delay_s": notice_seconds(cluster),
        "slurm_setup": [*exports, *cluster.setup, *(snapshot.exports() if snapshot else [])],
        "slurm_srun_args": ["--export=ALL", "--kill-on-bad-exit=1"],
        "slurm_additional_parameters": {**waits, **further_options(cluster)},
    }
    optional = {
        "gpus_per_node": cluster.gpus or None,
        "mem_gb": cluster.memory_gb,
        "slurm_partition": cluster.partition,
        "slurm_account": cluster.account,
    }
    return parameters | {key: value for key, value in optional.items() if value is not None}


def fresh_folder(parent: Path, name: str) -> Path:
    """A new folder for every start, of that name and a number."""
    for number in range(1, 1_000_000):
        folder = parent / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{parent} is full; delete it")


def outside_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what an enclosing Slurm job left in it (but SLURM_CONF)."""
    return {key: value for key, value in environment.items() if key == "SLURM_CONF" or not key.startswith(INHERITED)}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables for a while, and no others."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _complaint(message: str, cluster: ClusterConfig) -> ConfigError:
    """What submitit's error means for the user."""
    words = _reason(message)
    if SILENT.search(message):
        asked = f"asked {len(PAUSES) + 1} times: try again later"
        return ConfigError(f"Slurm's controller does not answer ({words}); {asked}")
    return refusal(words, cluster)


def _reason(message: str) -> str:
    """Slurm's own words out of submitit's error."""
    found = re.search(r"sbatch: error: (?!Batch job submission failed)(.+)", message) or re.search(
        r"(?:sbatch: )?(?:error: )?Batch job submission failed: (.+)", message
    )
    return found.group(1).strip() if found else message.strip().split("\n")[-1]
