"""How does a run get from its first step, or from its last checkpoint, to its last step?"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from jaxtyping import Array

from flanscale.errors import Preempted
from flanscale.models import Batch, Model, Params, batch_sharding, build_mesh
from flanscale.pipeline.prefetch import Batches, Prefetch
from flanscale.schema import OptimizerConfig, TrainerConfig
from flanscale.sizing.flops import training_flops
from flanscale.training.checkpoint import Checkpoints
from flanscale.training.distributed import AnyProcess, host_of, place, total
from flanscale.training.footprint import Setting, memory_explained
from flanscale.training.guards import History, Watch
from flanscale.training.metrics import Counts, Meter, Size
from flanscale.training.optimizers import Optimizer, build_optimizer
from flanscale.training.peaks import peak_flops
from flanscale.training.profile import Profiler
from flanscale.training.stamp import stamp
from flanscale.training.step import (
    TrainState,
    abstract_state,
    build_step,
    first_state,
    init_params,
    shardings_of,
    zero_sums,
)
from flanscale.training.validation import Rows, Validation

logger = logging.getLogger(__name__)

Log = Callable[[int, dict[str, float]], None]
MakeParams = Callable[[Any], Params]


def train(
    model: Model,
    optimizer: OptimizerConfig,
    trainer: TrainerConfig,
    batches: Batches,
    *,
    seed: int,
    checkpoint_dir: Path,
    log: Log,
    should_stop: Callable[[], bool],
    validation: Rows | None = None,
    start: MakeParams | None = None,
) -> Params:
    """Trains to the last step and returns the parameters, bit for bit the same however often it was interrupted.

    Goes on from the newest good checkpoint of `checkpoint_dir`, else from the initialisation of `seed`. With zero steps
    that initialisation is returned and nothing is written. Of several processes all make the same call, each with its
    own slice of the rows (see `flanscale.training.distributed`).

    Args:
        checkpoint_dir: `checkpoints` of the run directory; a profiler trace or a bad batch goes beside it.
        validation: the held-in rows.
        start: makes the first parameters in place of the model's initialisation, laid out as the given shapes with
            shardings are; the arrays are used up.

    Raises:
        ValueError: the devices or the batch do not fit the mesh, or the checkpoint is of another run.
        Preempted: `should_stop()` was true at a step boundary.
        NonFiniteLoss: more than `trainer.max_nonfinite_steps` steps in a row were skipped, or all there are.
        OutOfMemory: a device has too little of it.
    """
    _check(trainer, validation)
    mesh = build_mesh(trainer.mesh)
    rule = build_optimizer(optimizer, trainer.steps)
    with jax.set_mesh(mesh), memory_explained(Setting(model, optimizer, trainer)):
        abstract = abstract_state(model, rule, mesh)
        make = start or _initialisation(model, abstract, seed)
        if trainer.steps == 0:
            return make(abstract.params)
        made_of = stamp(model, optimizer, trainer, seed)
        with closing(Checkpoints(checkpoint_dir, trainer.keep_checkpoints, made_of)) as checkpoints:
            restored = checkpoints.restore(abstract)
            if restored is None:
                state, progress = _first(rule, abstract, make), Progress()
            else:
                state, progress = restored[0], Progress.of(restored[1])
                batches.restore(progress.data)
                logger.info("resuming from the checkpoint of step %d", int(state.step))
            del restored
            if int(state.step) < trainer.steps:
                run = _Run(model, rule, trainer, abstract, mesh, progress, checkpoints, log, checkpoint_dir.parent)
                if validation is not None:
                    run.validation = Validation(model, validation, run.place)
                state = run.to_the_end(state, batches, jax.random.key(seed), AnyProcess(mesh, should_stop))
            best = progress.best.step
            if trainer.select == "last" or best in (None, trainer.steps):
                return state.params
            del state
            logger.info("returning the parameters of step %d, whose validation loss was %.4f", best, progress.best.loss)
            return checkpoints.restore_step(best, abstract).params


@dataclass
class Best:
    """The step of the lowest validation loss so far."""

    step: int | None = None
    loss: float = math.inf


@dataclass
class Progress:
    """What a checkpoint holds beside the arrays."""

    data: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    history: History = field(default_factory=History)
    best: Best = field(default_factory=Best)

    @staticmethod
    def of(saved: dict[str, Any]) -> Progress:
        return Progress(saved["data"], Counts(**saved["counts"]), History(**saved["history"]), Best(**saved["best"]))


class _Ready(NamedTuple):
    placed: Batch
    rows: dict[str, Any]  # the same on the host
    size: Size


@dataclass
class _Run:
    """One process lifetime of training: everything that a step is surrounded by."""

    model: Model
    rule: Optimizer
    trainer: TrainerConfig
    abstract: Any
    mesh: Mesh
    progress: Progress
    checkpoints: Checkpoints
    log: Log
    run_dir: Path
    validation: Validation | None = None

    def __post_init__(self) -> None:
        trainer, model = self.trainer, self.model
        widths = (trainer.input_tokens, trainer.target_tokens)
        self.place = partial(place, batch_sharding(self.mesh))
        self.meter = Meter(
            self.progress.counts,
            partial(training_flops, model.config, model.vocab_size, *widths),
            peak_flops(self.mesh.devices.flat),
            partial(total, host_of(self.mesh, trainer.batch_rows)[1]),
        )
        self.watch = Watch(self.progress.history, trainer.max_nonfinite_steps, self.run_dir, trainer.steps)

    def to_the_end(
        self, state: TrainState, batches: Batches, key: Array, should_stop: Callable[[], bool]
    ) -> TrainState:
        trainer, first, whole = self.trainer, int(state.step), self.abstract.step.sharding
        step = build_step(
            self.model, self.rule, self.abstract, z_loss=trainer.z_loss, microbatches=trainer.microbatches
        )
        key = jax.device_put(key, whole)
        with (
            Prefetch(batches, self._prepare) as ready,
            closing(Profiler(self.run_dir / "profile", trainer.profile_steps)) as profiler,
        ):
            for done in range(first + 1, trainer.steps + 1):
                asked = time.perf_counter()
                batch = next(ready)
                self.meter.add(batch.size, time.perf_counter() - asked)
                with profiler.step(done, self.watch.settle):
                    state, outcome = step(state, batch.placed, key)
                # Looking at the step before keeps one step queued on the device and no more, so that a request to
                # stop is answered soon.
                self.watch.follow(done, outcome, batch.rows)
                if done == first + 1:
                    self.watch.settle()
                    self.meter.start()

                stop, last = should_stop(), done == trainer.steps
                state, better = self._validate_and_log(done, state)
                if last or stop or better or done % trainer.checkpoint_every == 0:
                    self._save(done, state, ready.state())
                if stop and not last:
                    raise Preempted(f"asked to stop after step {done} of {trainer.steps}")
        return state

    def _prepare(self, rows: dict[str, Any]) -> _Ready:
        return _Ready(self.place(rows), rows, Size.of(rows))

    def _validate_and_log(self, done: int, state: TrainState) -> tuple[TrainState, bool]:
        """What is due after a step; the state to go on with, and whether its validation loss is the lowest so far."""
        trainer, best, last = self.trainer, self.progress.best, done == self.trainer.steps
        values: dict[str, float] = {}
        if last or done % trainer.log_every == 0:
            self.watch.settle()
            values = self.meter.row(jax.device_get(state.sums))
            values["train/loss_spikes"] = self.progress.history.spikes
            state = dataclasses.replace(state, sums=jax.device_put(zero_sums(), shardings_of(self.abstract.sums)))
        better = False
        if self.validation and (last or (trainer.validate_every and done % trainer.validate_every == 0)):
            with self.meter.paused():
                values |= self.validation(state.params)
            if better := values.get("validation/loss", math.inf) < best.loss:
                best.step, best.loss = done, values["validation/loss"]
        if values:
            self.log(done, values)
        return state, better

    def _save(self, done: int, state: TrainState, data: dict[str, int]) -> None:
        self.watch.settle()
        self.meter.commit()
        self.progress.data = data
        self.checkpoints.save(done, state, dataclasses.asdict(self.progress), best=self.progress.best.step)


def _check(trainer: TrainerConfig, validation: Rows | None) -> None:
    splits = trainer.mesh.data * trainer.mesh.fsdp
    if trainer.batch_rows % (splits * trainer.microbatches):
        parts = f", and trainer.microbatches={trainer.microbatches} times that" if trainer.microbatches > 1 else ""
        raise ValueError(
            f"trainer.batch_rows is {trainer.batch_rows}, but trainer.mesh splits the rows {splits} ways{parts}: "
            f"give a multiple of {splits * trainer.microbatches}"
        )
    if trainer.select == "best" and validation is None and trainer.steps:
        raise ValueError("trainer.select=best needs held-in rows to choose by: set mixture.validation_examples")


def _initialisation(model: Model, abstract: Any, seed: int) -> MakeParams:
    init = jax.jit(partial(init_params, model), out_shardings=shardings_of(abstract.params))
    return lambda _: init(jax.random.key(seed))


def _first(rule: Optimizer, abstract: Any, make: MakeParams) -> TrainState:
    begin = jax.jit(partial(first_state, rule), out_shardings=shardings_of(abstract), donate_argnums=0)
    return begin(make(abstract.params))
