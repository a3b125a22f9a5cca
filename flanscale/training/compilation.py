"""How do the cells of a study avoid compiling the same programs again and again?"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from pathlib import Path
from typing import Any

import jax

KNOWN_JAX = ((0, 10), (0, 11), (0, 12))
"""Releases of JAX whose `LRUCache.put` is replaced here: it is the same, word for word, from 0.10.0 to 0.12.0."""

log = logging.getLogger(__name__)


def enable_compilation_cache(path: Path) -> None:
    """Keeps compiled programs in a folder that all processes may share, on whatever machines.

    Every kind of processor has its own part of it: a program that XLA compiled for one may end another with an illegal
    instruction. Where the folder cannot be written, every process compiles for itself, and says so.
    """
    path = path / _processor()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("compiled programs are not kept: %s", error)
        return
    _write_whole_files()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _processor() -> str:
    """The instruction set and a hash of its extensions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    extensions = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(extensions.encode()).hexdigest()[:8]}"


def _write_whole_files() -> None:
    """Makes a JAX that is known give a file its name only when it is complete; leaves another as it is, and says so.

    JAX writes in place and never again, so that a process killed meanwhile would leave half a program, which all later
    ones find, cannot read, and compile around for ever.
    """
    if jax.__version_info__[:2] not in KNOWN_JAX:
        log.warning(
            "JAX %s writes compiled programs in its own way, which flanscale does not know: a process killed while it"
            " writes one may leave half a file, which all later ones find, cannot read, and compile around",
            jax.__version__,
        )
        return
    from jax._src.lru_cache import LRUCache  # no public way to this

    def put(self: Any, key: str, value: bytes) -> None:
        target = Path(str(self.path)) / f"{key}-cache"
        if target.exists():
            return
        partial = target.with_name(f".{os.uname().nodename}.{os.getpid()}.partial")
        partial.write_bytes(value)
        partial.replace(target)

    setattr(LRUCache, "put", put)  # noqa: B010
