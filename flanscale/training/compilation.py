"""How do the cells of a study avoid compiling the same programs again and again?"""

from __future__ import annotations

from pathlib import Path

import jax


def enable_compilation_cache(path: Path) -> None:
    """Keeps compiled programs in a folder that all processes of a machine may share."""
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
