"""With which parameters does a cell start, where not with random ones?"""

from __future__ import annotations

import logging
from pathlib import Path

from flanscale.errors import WeightsError
from flanscale.models import Model, Params
from flanscale.run_directory import CHECKPOINTS, checkpoint_steps, chosen_step
from flanscale.schema import InitConfig, RunConfig
from flanscale.training.checkpoint import read_params
from flanscale.weights.load import load_params
from flanscale.weights.opening import open_source

log = logging.getLogger(__name__)


def starts_elsewhere(init: InitConfig) -> bool:
    """Whether a cell starts from pretrained weights or from another run."""
    return init.hf is not None or init.run is not None


def initial_params(config: RunConfig, model: Model, abstract: Params) -> Params:
    """The parameters that `init.hf` or `init.run` names, laid out as `abstract`: shapes with shardings.

    Raises:
        WeightsError: the weights are not whole, or not this model's; or the other run has not finished.
    """
    if config.init.hf is not None:
        source = open_source(config.init.hf)
        log.info("starting from %s: %d tensors", config.init.hf, len(source.tensors))
        return load_params(source, model, abstract)
    if config.init.run is None:
        raise WeightsError("neither init.hf nor init.run is set")
    from flanscale.config.compose import load

    directory = Path(config.init.run)
    other = load(directory)
    step = saved_step(directory)
    if checkpoint_steps(directory)[-1] < other.trainer.steps:
        raise WeightsError(f"init.run={config.init.run}: stands at step {step} of {other.trainer.steps}: let it finish")
    log.info("starting from %s, step %d", directory.name, step)
    return read_params(directory / CHECKPOINTS, step, abstract)


def saved_step(directory: Path) -> int:
    """The step whose parameters a run stands for.

    Raises:
        WeightsError: it has no checkpoint.
    """
    step = chosen_step(directory)
    if step is None:
        raise WeightsError(f"{directory}: no checkpoint: it has trained nothing, or not long enough yet")
    return step
