"""How is a run that has learnt asked something? Its parameters and tokenizer, as its own evaluation would take them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
from jax.sharding import Mesh

from flanscale.evaluation.opening import context_of
from flanscale.inference.engine import Engine
from flanscale.inference.language_model import TrainedModel
from flanscale.models import Model, Params, build_mesh, build_model, parameter_shardings
from flanscale.pipeline.tokenizers import embedding_rows, load_tokenizer
from flanscale.run_directory import CHECKPOINTS
from flanscale.schema import MeshConfig, RunConfig
from flanscale.training.checkpoint import read_params
from flanscale.training.compilation import enable_compilation_cache
from flanscale.training.step import init_params
from flanscale.weights.initial import initial_params, saved_step, starts_elsewhere

log = logging.getLogger(__name__)


def model_of(
    run_dir: Path,
    config: RunConfig,
    mesh: Mesh | None = None,
    between: Callable[[], None] = lambda: None,
    step: int | None = None,
) -> TrainedModel:
    """The language model that a run stands for.

    Args:
        config: the run's, perhaps with another evaluation, mesh or precision.
        mesh: the devices that hold it; None: one.
        between: see `Engine`.
        step: of the checkpoint; None: that which the run stands for.

    Raises:
        ConfigError: its vocabulary or checkpoint is damaged.
        WeightsError: it has no checkpoint.
    """
    enable_compilation_cache(Path(config.paths.cache).expanduser() / "compiled")
    tokenizer = load_tokenizer(config.tokenizer)
    model = build_model(config.model, embedding_rows(config.model, tokenizer), config.trainer.precision)
    params = params_of(run_dir, config, model, mesh, step)
    return TrainedModel(Engine(model, params, config.evaluation.batch_size, between), tokenizer, context_of(config))


def params_of(
    run_dir: Path, config: RunConfig, model: Model, mesh: Mesh | None = None, step: int | None = None
) -> Params:
    """The parameters that a run stands for, on a mesh or one device: trained, or those that it started from.

    Args:
        step: of another checkpoint of it.

    Raises:
        WeightsError: it has no checkpoint.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    places = parameter_shardings(mesh or build_mesh(MeshConfig()), shapes, model.config.kv_heads)
    abstract = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, places)
    if step is not None:
        return read_params(run_dir / CHECKPOINTS, step, abstract)
    if config.trainer.steps:
        step = saved_step(run_dir)
        if config.trainer.select == "last" and step < config.trainer.steps:
            log.warning("%s has not finished: this is step %d of %d", run_dir.name, step, config.trainer.steps)
        return read_params(run_dir / CHECKPOINTS, step, abstract)
    if starts_elsewhere(config.init):
        return initial_params(config, model, abstract)
    init: Params = jax.jit(partial(init_params, model), out_shardings=places)(jax.random.key(config.seed))
    return init
