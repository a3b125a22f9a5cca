"""How is a run that has learnt asked something? Its parameters and tokenizer, as its own evaluation would take them."""

from __future__ import annotations

import logging
from pathlib import Path

import jax

from flanscale.config.compose import load
from flanscale.errors import WeightsError
from flanscale.inference.engine import Engine
from flanscale.inference.language_model import TrainedModel, context_of
from flanscale.models import Model, Params, build_mesh, build_model, parameter_shardings
from flanscale.pipeline.tokenizers import embedding_rows, load_tokenizer
from flanscale.run_directory import CHECKPOINTS
from flanscale.schema import MeshConfig, RunConfig
from flanscale.training.checkpoint import read_params
from flanscale.training.compilation import enable_compilation_cache
from flanscale.weights.initial import initial_params, saved_step, starts_elsewhere

log = logging.getLogger(__name__)


def model_of(run_dir: Path, *, batch_size: int) -> TrainedModel:
    """The language model that a run stands for, which is asked so many prompts at a time.

    Raises:
        ConfigError: its configuration, vocabulary or checkpoint is damaged.
        WeightsError: it has no checkpoint.
    """
    config = load(run_dir)
    enable_compilation_cache(Path(config.paths.cache).expanduser() / "compiled")
    tokenizer = load_tokenizer(config.tokenizer)
    model = build_model(config.model, embedding_rows(config.model, tokenizer), config.trainer.precision)
    params = params_of(run_dir, config, model)
    return TrainedModel(Engine(model, params, batch_size), tokenizer, context_of(config))


def params_of(run_dir: Path, config: RunConfig, model: Model) -> Params:
    """The parameters that a run stands for, all on this process's devices.

    Raises:
        WeightsError: it has none: no checkpoint, or nothing trained from random ones.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    places = parameter_shardings(build_mesh(MeshConfig()), shapes, model.config.kv_heads)
    abstract = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, places)
    if config.trainer.steps:
        step = saved_step(run_dir)
        if config.trainer.select == "last" and step < config.trainer.steps:
            log.warning("%s has not finished: this is step %d of %d", run_dir.name, step, config.trainer.steps)
        return read_params(run_dir / CHECKPOINTS, step, abstract)
    if not starts_elsewhere(config.init):
        raise WeightsError(f"{run_dir.name} trained nothing and started from random parameters: it has no checkpoint")
    return initial_params(config, model, abstract)
