"""Where did a result come from? Appends to `provenance.json` what an attempt ran on; best effort, never raises."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from flanscale import __version__
from flanscale.orchestration.state import write_atomically

log = logging.getLogger(__name__)

PROVENANCE_FILE = "provenance.json"
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "hydra-core",
    "omegaconf",
    "submitit",
    "sentencepiece",
    "rouge-score",
    "wandb",
)


def record_attempt(run_dir: Path, attempt: int) -> None:
    """Add this attempt: code, package versions, host, command line. No environment variables, which hold secrets."""
    entry = {
        "attempt": attempt,
        "started": time.time(),
        "flanscale": __version__,
        "git": _or_none(_git),
        "python": platform.python_version(),
        "packages": _or_none(_packages),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "working_directory": str(Path.cwd()),
        "argv": sys.argv,
        "devices": None,
    }
    _or_none(lambda: _write(run_dir, [*_read(run_dir), entry]))


def record_devices(run_dir: Path) -> None:
    """Add the accelerators to the last attempt, if its code has loaded JAX by now."""
    jax = sys.modules.get("jax")
    if jax is None:
        return
    entries = _or_none(lambda: _read(run_dir)) or []
    devices = _or_none(lambda: [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()])
    if entries and devices:
        entries[-1]["devices"] = devices
        _or_none(lambda: _write(run_dir, entries))


def _read(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / PROVENANCE_FILE
    return list(json.loads(path.read_text())["attempts"]) if path.exists() else []


def _write(run_dir: Path, attempts: list[dict[str, Any]]) -> None:
    text = json.dumps({"format": 1, "attempts": attempts}, indent=1, default=str)
    write_atomically(run_dir / PROVENANCE_FILE, text + "\n")


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any] | None:
    """Commit of flanscale's own sources, and a hash of what differs from it; None when they are not in a clone."""
    here = Path(__file__)
    if shutil.which("git") is None or not _run_git(here.parent, "ls-files", here.name):
        return None  # an installed package, perhaps inside somebody else's repository
    difference = _run_git(here.parent, "diff", "HEAD", "--", ":/")
    return {
        "commit": _run_git(here.parent, "rev-parse", "HEAD").strip(),
        "dirty": bool(difference),
        "diff_sha256": hashlib.sha256(difference.encode()).hexdigest() if difference else None,
    }


def _run_git(folder: Path, *arguments: str) -> str:
    """What git prints; nothing where it has nothing to say or refuses."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout


def _or_none(work: Callable[[], Any]) -> Any:
    """A run must never fail for want of its provenance."""
    try:
        return work()
    except Exception as error:
        log.warning("provenance is incomplete: %s: %s", type(error).__name__, error)
        return None
