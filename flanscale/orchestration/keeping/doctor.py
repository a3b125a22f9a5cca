"""What has this machine, and what does it lack? A line for each thing that studies need, with what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from flanscale import __version__
from flanscale.orchestration.keeping.devices import NoAnswer, devices_here
from flanscale.orchestration.keeping.sync import login
from flanscale.orchestration.running import slurm
from flanscale.orchestration.running.claim import RUN, claim
from flanscale.orchestration.running.liveness import file_clock
from flanscale.schema import DataConfig, PathsConfig

OK, WARN, MISSING = "ok", "warn", "missing"
ASK_SECONDS = 1.5
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
GIGABYTE = 1e9
LOW_MEMORY, LOW_DISK = 2 * GIGABYTE, 5 * GIGABYTE
SKEW_SECONDS = 2.0
CLUSTER_FILE_SYSTEMS = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "cifs", "smb3", "9p")
OPTIONAL = {  # what it brings, and the extra that installs it
    "gguf": ("GGUF files as a start", "gguf"),
    "pyarrow": ("P3 prompts in Parquet", "parquet"),
    "lm_eval": ("tasks of lm-evaluation-harness", "lm-eval"),
    "jupytext": ("the notebooks", "notebooks"),
    "nbclient": ("the notebooks", "notebooks"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    item: str
    state: str
    found: str
    advice: str = ""
    necessary: bool = False


def examine(paths: PathsConfig, data: DataConfig, *, devices: bool = False) -> list[Finding]:
    """Everything, in the order in which one would look; `devices` asks JAX as well, which takes seconds."""
    questions: list[Callable[[], Iterable[Finding]]] = [
        _python,
        _jax,
        *([_devices] if devices else []),
        _gpus,
        _machine,
        lambda: _folder("runs", paths.runs),
        lambda: _folder("cache", paths.cache),
        _slurm,
        _wandb,
        lambda: _data(data),
        _optional,
    ]
    with ThreadPoolExecutor(len(questions)) as pool:  # most wait for another program
        return [finding for answer in pool.map(lambda ask: list(ask()), questions) for finding in answer]


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} at {sys.executable}"
    fits = sys.version_info >= (3, 11)
    yield Finding("python", OK if fits else MISSING, found, "" if fits else "install Python 3.11 or newer", True)
    yield Finding("flanscale", OK, f"{__version__} at {Path(__file__).parents[2]}")


def _jax() -> Iterator[Finding]:
    versions = {name: _version(name) for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")}
    gone = [name for name, version in versions.items() if version is None]
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    advice = f"pip install {' '.join(gone)}" if gone else ""
    yield Finding("jax", MISSING if gone else OK, found or "not installed", advice, True)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    try:
        devices = devices_here()
    except NoAnswer as error:
        yield Finding("devices", MISSING, str(error), "see whether `python -c 'import jax; jax.devices()'` works", True)
    else:
        only_cpu = shutil.which("nvidia-smi") is not None and all(name.startswith("cpu") for name in devices)
        advice = "JAX sees no GPU: pip install 'flanscale[cuda]'" if only_cpu else ""
        yield Finding("devices", WARN if only_cpu else OK, ", ".join(devices), advice)


def _gpus() -> Iterator[Finding]:
    answer = slurm.ask(*NVIDIA_SMI, seconds=ASK_SECONDS)
    cards = answer.strip().splitlines() if answer else []
    if not cards:
        yield Finding("gpu", OK, "none seen; cells run on the CPU")
        return
    kinds = "; ".join(f"{cards.count(kind)} × {kind}" for kind in dict.fromkeys(cards))
    plugin = any(_version(name) for name in ("jax-cuda12-plugin", "jax-cuda13-plugin"))
    advice = "" if plugin else "JAX cannot use them: pip install 'flanscale[cuda]'"
    yield Finding("gpu", OK if plugin else WARN, kinds, advice)


def _machine() -> Iterator[Finding]:
    cores, usable = psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0))
    yield Finding("cores", OK, f"{cores} physical, {usable} hardware threads for this process")
    free = psutil.virtual_memory().available
    advice = "the quick study takes about 1 GB a cell: set cluster.parallelism=1" if free < LOW_MEMORY else ""
    yield Finding("memory", WARN if advice else OK, f"{free / GIGABYTE:,.1f} GB free", advice)


def _folder(name: str, path: str) -> Iterator[Finding]:
    """Space, claims and clock of the file system that a folder is, or would be, on."""
    folder = Path(path).expanduser().absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".flanscale-doctor-", dir=there) as scratch:
            skew = file_clock(Path(scratch)) - time.time()
            claims = _claims(Path(scratch))
    except OSError as error:
        yield Finding(name, MISSING, f"{folder}: {error.strerror}", f"set paths.{name} to a folder to write in", True)
        return
    free = shutil.disk_usage(there).free
    kind = _file_system(there)
    advice = f"little space: set paths.{name} elsewhere, or `flanscale prune`" if free < LOW_DISK else ""
    yield Finding(name, WARN if advice else OK, f"{folder}, {kind}, {free / GIGABYTE:,.1f} GB free", advice)
    if name == "runs":
        advice = f"set paths.runs to a folder where hard links work: {claims}" if claims else ""
        found = "a run is claimed by one process only" if not claims else "no run can be claimed"
        yield Finding("claims", MISSING if claims else OK, found, advice, True)
        far = abs(skew) > SKEW_SECONDS
        advice = "set the clocks by NTP: logged times of several hosts will not agree" if far else ""
        yield Finding("clock", WARN if far else OK, f"{skew:+.1f} s from the file system's", advice)


def _claims(folder: Path) -> str | None:
    """Why a run cannot be claimed on this file system; None where it can."""
    try:
        with claim(folder, RUN, patience=0) as first, claim(folder, RUN, patience=0) as second:
            return None if first and not second else "two processes got the same claim"
    except OSError as error:
        return error.strerror


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown file system"
    return f"{kind} (shared)" if kind in CLUSTER_FILE_SYSTEMS else kind


def _slurm() -> Iterator[Finding]:
    if not slurm.available():
        yield Finding("slurm", OK, "no sbatch on this host; studies run here (cluster=local)")
        return
    with ThreadPoolExecutor(4) as pool:
        version, settings, partitions, accounts = pool.map(
            lambda command: slurm.ask(*command, seconds=ASK_SECONDS),
            (
                ("sbatch", "--version"),
                ("scontrol", "show", "config"),
                ("sinfo", "--noheader", "--format=%P %a %D %l"),
                ("sacct", "--noheader", "--parsable2", "--starttime=now-1minutes", "--format=JobID"),
            ),
        )
    if settings is None or partitions is None:
        yield Finding(
            "slurm", WARN, f"{(version or 'sbatch').strip()}, but its controller does not answer", "`sinfo` tells why"
        )
        return
    limits = dict(re.findall(r"^(MaxArraySize|MaxJobCount)\s*=\s*(\d+)", settings, re.MULTILINE))
    shown = ", ".join(f"{name} {value}" for name, value in limits.items())
    yield Finding("slurm", OK, f"{(version or '').strip()}, {shown}")
    rows = [line.split() for line in partitions.splitlines()]
    up = [f"{name} ({nodes} nodes, {limit})" for name, state, nodes, limit in rows if state == "up"]
    advice = "" if up else "no partition is up: ask who runs the cluster"
    yield Finding("partitions", OK if up else WARN, ", ".join(up) or "none up", advice)
    kept = accounts is not None
    found = "sacct answers" if kept else "sacct does not answer"
    advice = "" if kept else "nothing is lost: states are read from run directories"
    yield Finding("accounting", OK if kept else WARN, found, advice)


def _wandb() -> Iterator[Finding]:
    where = login()
    advice = "" if where else "only for tracker=online and flanscale sync: run `wandb login`"
    yield Finding("wandb login", OK if where else WARN, f"from {where}" if where else "none", advice)


def _data(data: DataConfig) -> Iterator[Finding]:
    from flanscale.errors import VocabularyError
    from flanscale.pipeline.vocabulary import find_vocabulary

    given = {name: path for name, path in vars(data).items() if path is not None}
    if not given:
        yield Finding(
            "data", OK, "no folder given; the embedded tasks need none", "flanscale doctor data.root=<folder>"
        )
        return
    for name, path in given.items():
        there = Path(path).expanduser().exists()
        advice = "" if there else "see `flanscale tasks fetch`"
        yield Finding(f"data.{name}", OK if there else MISSING, f"{path}{'' if there else ': not there'}", advice, True)
    try:
        vocabulary = find_vocabulary(None, near=data.niv2, root=data.root, tokenizer="sentencepiece")
    except (VocabularyError, OSError):
        yield Finding("vocabulary", WARN, "T5's is not there", "flanscale tasks fetch vocabulary --to DATA")
    else:
        yield Finding("vocabulary", OK, str(vocabulary))


def _optional() -> Iterator[Finding]:
    for name, (purpose, extra) in OPTIONAL.items():
        version = _version(name)
        advice = "" if version else f"for {purpose}: pip install 'flanscale[{extra}]'"
        yield Finding(name, OK if version else WARN, version or "not installed", advice)
