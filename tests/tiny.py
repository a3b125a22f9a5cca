"""Models, tasks and packed rows small enough to test on."""

import dataclasses
from functools import cache
from typing import Any

import jax
import numpy as np

from flanscale.models import Batch, Model, Params, build_model
from flanscale.pipeline.packing import pack
from flanscale.schema import ModelConfig, OptimizerConfig, TrainerConfig

VOCAB = 32
ARCHITECTURES = ("decoder", "encoder_decoder")
ADAM = OptimizerConfig(name="adamw", learning_rate=5e-3)


def model_config(architecture: str, **changes: Any) -> ModelConfig:
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "head_dim": 8, "d_ff": 24, "relative_buckets": 8}
    own = {"activation": "geglu", "tie_embeddings": False} if architecture == "encoder_decoder" else {}
    given: dict[str, Any] = {"relative_max_distance": 16, **sizes, **own, **changes}
    return ModelConfig(name="tiny", architecture=architecture, **given)


def model(architecture: str, dtype: str = "float32", **changes: Any) -> Model:
    return build_model(model_config(architecture, **changes), VOCAB, dtype)


def initial(tiny: Model, seed: int = 0) -> Params:
    return _init(tiny, jax.random.key(seed))


@cache
def shapes(tiny: Model) -> Params:
    """Of the parameters, traced once for each model."""
    return jax.eval_shape(tiny.init, jax.random.key(0))


def logits(tiny: Model, params: Params, batch: Batch, dropout_key: jax.Array | None = None) -> np.ndarray:
    return np.asarray(_apply(tiny, params, batch, dropout_key))


_init = jax.jit(Model.init, static_argnums=0)
_apply = jax.jit(Model.apply, static_argnums=0)


def trainer(**changes: Any) -> TrainerConfig:
    given: dict[str, Any] = {"steps": 10, "batch_rows": 4, "input_tokens": 16, "target_tokens": 16, **changes}
    return TrainerConfig(**given)


def examples(rng: np.random.Generator, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs of three to six distinct tokens; the target is the input sorted."""
    inputs = [rng.permutation(np.arange(2, VOCAB))[: rng.integers(3, 7)].astype(np.int32) for _ in range(count)]
    return inputs, [np.sort(tokens) for tokens in inputs]


class SortingBatches:
    """An endless stream of packed rows of the sorting task, as a function of the batch's number."""

    def __init__(self, architecture: str, config: TrainerConfig, seed: int = 0) -> None:
        self.architecture, self.config, self.seed, self.number = architecture, config, seed, 0

    def __next__(self) -> dict[str, np.ndarray]:
        inputs, targets = examples(np.random.default_rng([self.seed, self.number]), 4 * self.config.batch_rows)
        self.number += 1
        rows = pack(
            inputs,
            targets,
            architecture=self.architecture,
            input_tokens=self.config.input_tokens,
            target_tokens=self.config.target_tokens,
        ).rows
        short = self.config.batch_rows - len(rows["decoder_positions"])
        return {
            name: np.pad(array, ((0, max(0, short)), (0, 0)))[: self.config.batch_rows] for name, array in rows.items()
        }

    def state(self) -> dict[str, int]:
        return {"number": self.number}

    def restore(self, state: dict[str, int]) -> None:
        self.number = state["number"]


def packed(architecture: str, inputs: list[Any], targets: list[Any], width: int = 16) -> dict[str, np.ndarray]:
    """Rows of 2 × `width` (decoder) or `width` and `width` tokens."""
    arrays = [[np.array(x, np.int32) for x in texts] for texts in (inputs, targets)]
    return pack(*arrays, architecture=architecture, input_tokens=width, target_tokens=width).rows


def replaced(config: Any, **changes: Any) -> Any:
    return dataclasses.replace(config, **changes)
