"""How does a run survive its process: what is saved, and what is trusted when it is read back?

Orbax writes in the background and commits atomically. Every leaf's checksum is computed on the device before saving and
compared after restoring, because a chunk missing from disk reads as zeros without an error.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec

from flanscale.errors import OtherRun
from flanscale.training.stamp import check_stamp

logger = logging.getLogger(__name__)


class DamagedCheckpoint(Exception):
    """What was read is not what was saved."""


class Checkpoints:
    """The newest checkpoints of a run and its best one, numbered by step. Closing waits for what is being written."""

    def __init__(self, directory: Path, keep: int, stamp: dict[str, Any] | None = None) -> None:
        """
        Args:
            keep: how many of the newest ones stay.
            stamp: what `flanscale.training.stamp` says of this run.
        """
        import orbax.checkpoint as ocp  # 0.4 s that a cell without training does not pay

        self._ocp = ocp
        self._directory, self._stamp = directory.absolute(), stamp
        self._kept = _NewestAndBest(keep)
        options = ocp.CheckpointManagerOptions(preservation_policy=self._kept, create=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, state: Any, progress: dict[str, Any], *, best: int | None = None) -> None:
        """Saves a tree of arrays and a JSON value, returning before they are on disk; keeps step `best` from now on."""
        self._kept.best = best
        facts = {"progress": progress, "stamp": self._stamp, "checksums": np.asarray(_checksums(state)).tolist()}
        args = self._ocp.args
        self._manager.save(step, args=args.Composite(state=args.StandardSave(state), progress=args.JsonSave(facts)))

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that reads back as it was saved, laid out as `like` (shapes with shardings), and its JSON.

        Damaged checkpoints are moved to `damaged/` with an error in the log. None: start from scratch.

        Raises:
            OtherRun: the checkpoint was made with another configuration.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._read(step, like)
            except (OtherRun, MemoryError, jax.errors.JaxRuntimeError):  # no fault of the files
                raise
            except Exception as error:  # whatever a broken file makes the reader raise
                self._set_aside(step, error)
        return None

    def restore_step(self, step: int, like: Any) -> Any:
        """The state of one step, which may be the one just saved.

        Raises:
            DamagedCheckpoint: it is not there any more, or does not read back as it was saved.
        """
        self._manager.wait_until_finished()
        try:
            return self._read(step, like)[0]
        except (OtherRun, MemoryError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:
            raise DamagedCheckpoint(
                f"checkpoint {step} in {self._directory} is damaged ({type(error).__name__}): "
                f"remove {self._directory} to train again"
            ) from error

    def close(self) -> None:
        self._manager.close()

    def _read(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        args = self._ocp.args
        facts = self._manager.restore(step, args=args.Composite(progress=args.JsonRestore())).progress
        if self._stamp is not None:
            check_stamp(facts["stamp"], self._stamp, f"checkpoint {step} in {self._directory}")
        state = self._manager.restore(step, args=args.Composite(state=args.StandardRestore(like))).state
        if np.asarray(_checksums(state)).tolist() != facts["checksums"]:
            raise DamagedCheckpoint("checksums differ")
        return state, facts["progress"]

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
        if jax.process_index() == 0:
            target = self._directory / "damaged" / str(step)
            shutil.rmtree(target, ignore_errors=True)  # the same step, damaged before
            target.parent.mkdir(exist_ok=True)
            (self._directory / str(step)).rename(target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"checkpoint {step} is set aside")
        self._manager.reload()


def read_params(directory: Path, step: int, like: Any) -> Any:
    """The parameters alone of a checkpoint, laid out as `like`: for another run that starts from them.

    Raises:
        DamagedCheckpoint: they do not read back as they were saved.
    """
    import orbax.checkpoint as ocp

    place = directory.absolute() / str(step)
    layout = {"params": ocp.checkpoint_utils.construct_restore_args(like)}
    part = ocp.args.PyTreeRestore(item={"params": like}, restore_args=layout, partial_restore=True)
    with ocp.PyTreeCheckpointer() as reader, ocp.Checkpointer(ocp.JsonCheckpointHandler()) as facts:
        params = reader.restore(place / "state", args=part)["params"]
        saved = facts.restore(place / "progress")["checksums"]
    sums = np.asarray(_checksums(params)).tolist()
    if sums != saved[1 : 1 + len(sums)]:  # behind the step, which is the state's first leaf
        raise DamagedCheckpoint(f"checkpoint {step} in {directory}: checksums of the parameters differ")
    return params


class _NewestAndBest:
    """Orbax's question which checkpoints stay."""

    def __init__(self, newest: int) -> None:
        self._newest = newest
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = sorted(info.step for info in checkpoints)[-self._newest :]
        return [info.step in newest or info.step == self.best for info in checkpoints]


@jax.jit
def _checksums(tree: Any) -> jax.Array:
    """Per leaf the sum of its 32-bit words, modulo 2³²: the same for every sharding."""
    words = [jax.lax.bitcast_convert_type(leaf, jnp.uint32) for leaf in jax.tree.leaves(tree)]
    sums = jnp.stack([jnp.sum(word, dtype=jnp.uint32) for word in words])
    if jax.sharding.get_abstract_mesh().empty:
        return sums
    return jax.lax.with_sharding_constraint(sums, PartitionSpec())  # whole on every process
