"""Where did a result come from? Appends to `provenance.json` what an attempt ran on; best effort, never raises.

Good enough to run the cell again a year later (`rerun.py`): code, packages, data, machine, command line. Of the
environment only what Slurm says of the job and what steers JAX is kept, and secrets in neither.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from flanscale import __version__
from flanscale.orchestration.running.sources import record_code
from flanscale.run_directory import Attempt, read_attempts, read_config, write_attempts
from flanscale.tracking.masking import masked, masked_arguments, without_secrets

log = logging.getLogger(__name__)

PROVENANCE_FILE = "provenance.json"
STEERS_JAX = re.compile(r"(JAX|XLA|LIBTPU|NCCL)_\w+|TF_\w*DETERMINISTIC\w*|OMP_NUM_THREADS")
OF_THE_JOB = {
    "job": "SLURM_JOB_ID",
    "array_job": "SLURM_ARRAY_JOB_ID",
    "array_task": "SLURM_ARRAY_TASK_ID",
    "partition": "SLURM_JOB_PARTITION",
    "nodes": "SLURM_JOB_NODELIST",
    "tasks": "SLURM_NTASKS",
    "cluster": "SLURM_CLUSTER_NAME",
    "restarts": "SLURM_RESTART_COUNT",
}
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def record_attempt(run_dir: Path, attempt: int) -> None:
    """Add this attempt: code, packages, data, host, Slurm job, command line."""
    new = Attempt(
        attempt=attempt,
        started=time.time(),
        flanscale=__version__,
        code=_or_none(lambda: record_code(run_dir)),
        python=platform.python_version(),
        packages=_or_none(installed_packages),
        elsewhere=_or_none(_installed_from_elsewhere),
        platform=platform.platform(),
        machine=platform.machine(),
        host=socket.gethostname(),
        cpus=os.cpu_count(),
        working_directory=str(Path.cwd()),
        argv=masked_arguments(sys.argv),
        data=_or_none(lambda: _data(run_dir)),
        slurm=_slurm(),
        jax_environment=steering_jax(os.environ),
    )
    _or_none(lambda: write_attempts(run_dir, [*read_attempts(run_dir), new]))


def record_devices(run_dir: Path) -> None:
    """Add the accelerators to the last attempt, if its code has loaded JAX by now."""
    jax = sys.modules.get("jax")
    if jax is None:
        return
    attempts = _or_none(lambda: read_attempts(run_dir)) or []
    devices = _or_none(lambda: [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()])
    if attempts and devices:
        last = replace(
            attempts[-1],
            devices=devices,
            runtime=_or_none(lambda: jax.devices()[0].client.platform_version),
            driver=_or_none(lambda: NVIDIA_DRIVER.read_text() if NVIDIA_DRIVER.exists() else None),
        )
        _or_none(lambda: write_attempts(run_dir, [*attempts[:-1], last]))


def installed_packages() -> dict[str, str]:
    """Every installed distribution and its exact version, by name. Milliseconds: the library's own parser takes 200."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        head = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        name, version = (re.search(rf"^{key}: (\S+)", head, re.MULTILINE) for key in ("Name", "Version"))
        if name and version:
            found.setdefault(name.group(1), version.group(1))  # the first on the path is the one that is imported
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _installed_from_elsewhere() -> dict[str, str]:
    """Distributions that came from a folder or a repository, whose version alone does not bring them back."""
    found = {}
    for distribution in metadata.distributions():
        if text := distribution.read_text("direct_url.json"):
            found[distribution.metadata["Name"]] = masked(json.loads(text)["url"])
    return found


def _data(run_dir: Path) -> dict[str, Any]:
    """Fingerprints of the data, and where it lay."""
    config = read_config(run_dir)
    places = {f"data.{key}": path for key, path in config["data"].items()}
    places |= {f"init.{key}": path for key, path in config["init"].items() if isinstance(path, str)}
    places["tokenizer.vocabulary"] = config["tokenizer"].get("vocabulary")
    found = {key: path for key, path in places.items() if path is not None}
    return {"fingerprints": config["fingerprints"], "places": without_secrets(found)}


def steering_jax(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that change how JAX computes."""
    return dict(without_secrets({key: environment[key] for key in sorted(environment) if STEERS_JAX.fullmatch(key)}))


def _slurm() -> dict[str, str] | None:
    found = {key: os.environ[variable] for key, variable in OF_THE_JOB.items() if variable in os.environ}
    return found or None


def _or_none(work: Callable[[], Any]) -> Any:
    """A run must never fail for want of its provenance."""
    try:
        return work()
    except Exception as error:
        log.warning("provenance is incomplete: %s: %s", type(error).__name__, error)
        return None
