"""One cell, top to bottom: mixture → batches → train → evaluate → log.

`run` is what a job executes in its run directory; where the evaluation is a job of its own (`cluster.evaluation`), it
is called again with that one's folder. As a program this is plain Hydra: one cell is
`python -m flanscale.run mixture.count=89 cot=true`, a study `python -m flanscale.run --multirun +sweep=quickstart`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flanscale.config.compose import Composer
from flanscale.errors import Preempted, ending_in_one_line
from flanscale.identity import identity
from flanscale.run_directory import CHECKPOINTS, EVALUATIONS, is_evaluation, write_contamination, write_mixture
from flanscale.schema import RunConfig

if TYPE_CHECKING:
    from flanscale.pipeline.feed import Feed
    from flanscale.tasks.mixture import MixtureTable

IMPORTS = (
    *("flanscale.evaluate", "flanscale.inference.language_model", "flanscale.pipeline.feed", "flanscale.training.loop"),
    *("flanscale.weights.initial", "flanscale.weights.run_model", "orbax.checkpoint"),
    *("wandb", "wandb.sdk.launch", "pandas"),  # W&B asks of every value whether it is of pandas
)
"""What `run` imports in every cell, for who starts many: see `flanscale.orchestration.running.forkserver`."""

log = logging.getLogger(__name__)


def run(config: RunConfig, run_dir: Path, *, attempt: int, should_stop: Callable[[], bool]) -> None:
    """Execute a resolved cell in its run directory, going on from its last checkpoint where there is one.

    Raises:
        DataError: a task is missing or malformed.
        Preempted: `should_stop()` became true; a checkpoint is saved.
        NonFiniteLoss: training diverged.
    """
    # JAX comes in here, after the job has set the environment that it reads once.
    from flanscale.training.distributed import join, together

    with together(agreed=Preempted):
        join()
        if is_evaluation(run_dir):
            from flanscale import evaluate

            evaluate.run(config, run_dir, attempt=attempt, should_stop=should_stop)
        else:
            _run(config, run_dir, attempt, should_stop)


def _run(config: RunConfig, run_dir: Path, attempt: int, should_stop: Callable[[], bool]) -> None:
    import jax

    from flanscale.evaluate import evaluate_run, leave_if
    from flanscale.evaluation.opening import context_of, evaluation_name
    from flanscale.inference.engine import Engine
    from flanscale.inference.language_model import TrainedModel
    from flanscale.models import build_mesh, build_model
    from flanscale.pipeline.batches import PackedBatches
    from flanscale.pipeline.feed import open_feed
    from flanscale.pipeline.layout import BatchLayout
    from flanscale.pipeline.objectives import packing
    from flanscale.pipeline.tokenizers import embedding_rows, load_tokenizer
    from flanscale.tasks.contamination import seen_items
    from flanscale.tasks.mixture import realised
    from flanscale.tracking.keys import evaluation_row
    from flanscale.tracking.tracker import tracked
    from flanscale.training.compilation import enable_compilation_cache
    from flanscale.training.distributed import AnyProcess, host_of
    from flanscale.training.footprint import Setting, with_least_remat
    from flanscale.training.loop import train
    from flanscale.training.memory import keep_freed_memory
    from flanscale.training.validation import held_in_rows
    from flanscale.weights.initial import initial_params, starts_elsewhere
    from flanscale.weights.run_model import model_of

    keep_freed_memory()
    enable_compilation_cache(Path(config.paths.cache).expanduser() / "compiled")
    tokenizer = load_tokenizer(config.tokenizer)
    trainer = config.trainer
    model = build_model(config.model, embedding_rows(config.model, tokenizer), trainer.precision)
    model = with_least_remat(Setting(model, config.optimizer, trainer))
    mesh = build_mesh(trainer.mesh)
    first = jax.process_index() == 0  # the only process that writes into the run directory, but for checkpoints
    with tracked(run_dir, config, run_id=identity(config), attempt=attempt, first=first) as log_row:
        # --- learn -----------------------------------------------------------------------------------------------
        feed = open_feed(config, tokenizer, workers=config.cluster.cpus)
        layout = BatchLayout(
            packing(config.objective, config.model, trainer),
            architecture=config.model.architecture,
            eos_id=tokenizer.eos_id,
            bos_id=config.model.bos_id,
            prefix=config.model.prefix_lm,
            host=host_of(mesh, trainer.batch_rows),
        )
        batches = PackedBatches(feed.source, feed.mixture.weights, layout, seed=config.seed)
        draws = batches.draws_per_row() * trainer.batch_rows * trainer.steps
        mixture = realised(feed.mixture, draws, feed.tokens_per_draw)
        mixture.log_to(log)
        feed.log_to(log)
        if first:
            _write_mixture(run_dir, mixture, feed, config)
        log_row(0, mixture.logged())
        params = train(
            model,
            config.optimizer,
            trainer,
            batches,
            seed=config.seed,
            checkpoint_dir=run_dir / CHECKPOINTS,
            log=log_row,
            should_stop=should_stop,
            start=partial(initial_params, config, model) if starts_elsewhere(config.init) else None,
            validation=held_in_rows(*feed.held_in, layout),
        )
        batches.log_to(log)
        if not config.evaluation.asks or config.cluster.evaluation is not None:
            return
        # --- answer ----------------------------------------------------------------------------------------------
        leave_if_asked = partial(leave_if, AnyProcess(mesh, should_stop))
        leave_if_asked()
        engine = Engine(model, params, config.evaluation.batch_size, between=leave_if_asked)
        own = TrainedModel(engine, tokenizer, context_of(config))
        result = evaluate_run(
            config,
            run_dir,
            run_dir / EVALUATIONS / evaluation_name(config),
            lambda step: own if step is None else model_of(run_dir, config, mesh, leave_if_asked, step),
            learned=feed.mixture.names,
            seen=seen_items(feed.contamination) if config.mixture.contamination == "warn" else {},
            writes=first,
        )
        log_row(trainer.steps, evaluation_row(result))


def _write_mixture(run_dir: Path, mixture: MixtureTable, feed: Feed, config: RunConfig) -> None:
    """What the cell reads, and where it overlaps a benchmark."""
    write_mixture(run_dir, mixture.fingerprint, mixture.rows())
    if config.mixture.contamination != "off":
        write_contamination(run_dir, feed.contamination)


# --- as a program -----------------------------------------------------------------------------------------------


def _run_cell(overrides: list[str]) -> None:
    """Run one cell here and now, in its run directory under `paths.runs`."""
    from flanscale.orchestration.dispatch.reserve import create_run_dir
    from flanscale.orchestration.planning.plan import make_cell
    from flanscale.orchestration.running.job import start

    with ending_in_one_line():
        cell = make_cell(Composer(), overrides)
        run_dir = create_run_dir(cell.config)
    start(str(run_dir), echo=True)


def main() -> None:
    """Plain Hydra: `python -m flanscale.run [--multirun] [overrides]`; mistakes end in one line and exit code 2."""
    from flanscale.orchestration.dispatch.plain_hydra import main_of

    with ending_in_one_line():
        main_of(_run_cell)


if __name__ == "__main__":
    main()
