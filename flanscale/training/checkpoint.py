"""How does a run survive its process: what is saved, and what is trusted when it is read back?

Orbax writes in the background and commits atomically. Every leaf's checksum is computed on the device before saving and
compared after restoring, because a chunk missing from disk reads as zeros without an error.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

logger = logging.getLogger(__name__)


class DamagedCheckpoint(Exception):
    """What was read is not what was saved."""


class Checkpoints:
    """The newest checkpoints of a run, numbered by step. Close it to wait for what is being written."""

    def __init__(self, directory: Path, keep: int) -> None:
        import orbax.checkpoint as ocp  # 0.4 s that a cell without training does not pay

        self._ocp = ocp
        self._directory = directory.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Saves a tree of arrays and a JSON value, returning before they are on disk."""
        sums = np.asarray(_checksums(state)).tolist()
        args = self._ocp.args
        self._manager.save(
            step,
            args=args.Composite(
                state=args.StandardSave(state), progress=args.JsonSave({**progress, "checksums": sums})
            ),
        )

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that reads back as it was saved, laid out as `like` (shapes with shardings), and its JSON.

        Damaged checkpoints are moved to `damaged/` with an error in the log. None: start from scratch.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._read(step, like)
            except (MemoryError, jax.errors.JaxRuntimeError):  # no fault of the files
                raise
            except Exception as error:  # whatever a broken file makes the reader raise
                self._set_aside(step, error)
        return None

    def close(self) -> None:
        self._manager.close()

    def _read(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        args = self._ocp.args
        read = self._manager.restore(
            step, args=args.Composite(state=args.StandardRestore(like), progress=args.JsonRestore())
        )
        progress = dict(read.progress)
        if np.asarray(_checksums(read.state)).tolist() != progress.pop("checksums"):
            raise DamagedCheckpoint("checksums differ")
        return read.state, progress

    def _set_aside(self, step: int, error: Exception) -> None:
        older = [s for s in self._manager.all_steps() if s < step]
        logger.error(
            "checkpoint %d in %s is damaged (%s: %s): moved to damaged/, resuming from %s",
            step,
            self._directory,
            type(error).__name__,
            str(error).split("\n")[0],
            f"checkpoint {max(older)}" if older else "scratch",
        )
        target = self._directory / "damaged" / str(step)
        shutil.rmtree(target, ignore_errors=True)  # the same step, damaged before
        target.parent.mkdir(exist_ok=True)
        (self._directory / str(step)).rename(target)
        self._manager.reload()


@jax.jit
def _checksums(tree: Any) -> jax.Array:
    """Per leaf the sum of its 32-bit words, modulo 2³²: the same for every sharding."""
    words = [jax.lax.bitcast_convert_type(leaf, jnp.uint32) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.sum(word, dtype=jnp.uint32) for word in words])
