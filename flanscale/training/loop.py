"""How does a run get from its first step, or from its last checkpoint, to its last step?"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding
from jaxtyping import Array

from flanscale.models import Batch, Model, Params, batch_sharding, build_mesh
from flanscale.pipeline.prefetch import Batches, Prefetch
from flanscale.schema import OptimizerConfig, TrainerConfig
from flanscale.training.checkpoint import Checkpoints
from flanscale.training.metrics import Counts, Meter, Size
from flanscale.training.optimizers import Optimizer, build_optimizer
from flanscale.training.step import TrainState, abstract_state, build_step, init_state, shardings_of, zero_sums

logger = logging.getLogger(__name__)


class Preempted(Exception):
    """The run was asked to stop; its checkpoint is saved and it can go on from there."""


class NonFiniteLoss(Exception):
    """Too many steps in a row had a loss or gradient that is not finite."""


def train(
    model: Model,
    optimizer: OptimizerConfig,
    trainer: TrainerConfig,
    batches: Batches,
    *,
    seed: int,
    checkpoint_dir: Path,
    log: Callable[[int, dict[str, float]], None],
    should_stop: Callable[[], bool],
    flops_per_row: float | None = None,
    peak_flops: float | None = None,
) -> Params:
    """Trains to the last step and returns the parameters, bit for bit the same however often it was interrupted.

    Goes on from the newest good checkpoint of `checkpoint_dir`, else from the initialisation of `seed`. With zero steps
    that initialisation is returned and nothing is written. `peak_flops` is that of all devices of the mesh together.

    Raises:
        ValueError: the devices or the batch do not fit the mesh.
        Preempted: `should_stop()` was true at a step boundary.
        NonFiniteLoss: more than `trainer.max_nonfinite_steps` steps in a row were skipped.
    """
    _check_rows(trainer)
    mesh = build_mesh(trainer.mesh)
    key = jax.random.key(seed)
    rule = build_optimizer(optimizer, trainer.steps)
    with jax.set_mesh(mesh):
        abstract = abstract_state(model, rule, mesh)
        shardings = shardings_of(abstract)
        if trainer.steps == 0:
            return jax.jit(model.init, out_shardings=shardings.params)(key)
        with closing(Checkpoints(checkpoint_dir, trainer.keep_checkpoints)) as checkpoints:
            state, counts = _start(model, rule, abstract, key, checkpoints, batches)
            first = int(state.step)
            if first == trainer.steps:
                return state.params
            step = build_step(model, rule, abstract, z_loss=trainer.z_loss)
            meter = Meter(counts, flops_per_row, peak_flops)
            key = jax.device_put(key, shardings.step)
            skipped: Any = 0
            with Prefetch(batches, partial(_place, batch_sharding(mesh))) as ready:
                for done in range(first + 1, trainer.steps + 1):
                    asked = time.perf_counter()
                    batch, size = next(ready)
                    meter.add(size, time.perf_counter() - asked)
                    state, skipped_now = step(state, batch, key)
                    # Waiting for the step before keeps one step queued on the device and no more, so that a request to
                    # stop is answered soon.
                    _check(skipped, done - 1, trainer.max_nonfinite_steps)
                    skipped = skipped_now
                    if done == first + 1:
                        jax.block_until_ready(skipped)
                        meter.start()

                    last, stop = done == trainer.steps, should_stop()
                    row = last or done % trainer.log_every == 0
                    save = last or stop or done % trainer.checkpoint_every == 0
                    if row or save:
                        _check(skipped, done, trainer.max_nonfinite_steps)
                        skipped = 0
                    if row:
                        log(done, meter.row(jax.device_get(state.sums)))
                        state = dataclasses.replace(state, sums=jax.device_put(zero_sums(), shardings.sums))
                    if save:
                        checkpoints.save(done, state, {"data": ready.state(), "counts": dataclasses.asdict(counts)})
                    if stop and not last:
                        raise Preempted(f"asked to stop after step {done} of {trainer.steps}")
        return state.params


def _check_rows(trainer: TrainerConfig) -> None:
    splits = trainer.mesh.data * trainer.mesh.fsdp
    if trainer.batch_rows % splits:
        raise ValueError(
            f"trainer.batch_rows is {trainer.batch_rows}, but trainer.mesh splits the rows {splits} ways: "
            f"give a multiple of {splits}"
        )


def _start(
    model: Model, rule: Optimizer, abstract: Any, key: Array, checkpoints: Checkpoints, batches: Batches
) -> tuple[TrainState, Counts]:
    """The state to go on from, with the data at its place."""
    restored = checkpoints.restore(abstract)
    if restored is None:
        return jax.jit(partial(init_state, model, rule), out_shardings=shardings_of(abstract))(key), Counts()
    state, progress = restored
    batches.restore(progress["data"])
    logger.info("resuming from the checkpoint of step %d", int(state.step))
    return state, Counts(**progress["counts"])


def _place(sharding: NamedSharding, batch: dict[str, Any]) -> tuple[Batch, Size]:
    return jax.device_put(batch, sharding), Size.of(batch)


def _check(skipped: Any, step: int, limit: int) -> None:
    """Looks at the number of steps skipped in a row up to `step`."""
    count = int(skipped)
    if count:
        logger.warning("step %d skipped: its loss or gradient is not finite (%d in a row)", step, count)
    if count > limit:
        raise NonFiniteLoss(
            f"{count} steps in a row up to step {step} had a loss or gradient that is not finite "
            f"(trainer.max_nonfinite_steps is {limit}): lower optimizer.learning_rate or set optimizer.clip_norm"
        )
