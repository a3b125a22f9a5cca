"""What flanscale computes on the tiny families: the other side of golden/make_golden.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tiny_families import FAMILIES, NEW_TOKENS, rows
from written import greedy

from flanscale.models import Model, Params, build_mesh, build_model, parameter_shardings
from flanscale.schema import MeshConfig
from flanscale.training.step import loss_sums
from flanscale.weights.load import load_params, tensors_of
from flanscale.weights.names import homes
from flanscale.weights.opening import open_source

MODEL_TYPES = {"t5": "t5", "pythia": "gpt_neox", "gpt": "gpt_neox"}
QUICK: Any = {"xla_backend_optimization_level": 0}  # compiled in half the time


def tiny_model(name: str, **changes: Any) -> Model:
    config = dataclasses.replace(FAMILIES[name].ours, **changes)
    return build_model(config, config.vocab_size or 0)


def abstract(model: Model, mesh: MeshConfig | None = None) -> Params:
    """Shapes with the shardings of training."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    places = parameter_shardings(build_mesh(mesh or MeshConfig()), shapes, model.config.kv_heads)
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, places)


def loaded(name: str, folder: Path, **changes: Any) -> tuple[Model, Params]:
    model = tiny_model(name, **changes)
    return model, load_params(open_source(folder), model, abstract(model))


def batch(name: str) -> dict[str, jax.Array]:
    given = rows(name, name.startswith("t5"))
    tokens = jnp.asarray(given["tokens"])
    ones = jnp.ones_like(tokens)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    if "inputs" in given:
        mask = jnp.asarray(given["mask"])
        return {
            "encoder_input_tokens": jnp.asarray(given["inputs"]),
            "encoder_segment_ids": mask,
            "encoder_positions": jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape),
            "decoder_input_tokens": jnp.pad(tokens[:, :-1], ((0, 0), (1, 0))),
            "decoder_target_tokens": tokens,
            "decoder_segment_ids": ones,
            "decoder_positions": positions,
            "decoder_loss_weights": ones.astype(jnp.float32),
        }
    return {
        "decoder_input_tokens": tokens,
        "decoder_target_tokens": jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))),
        "decoder_segment_ids": ones,
        "decoder_positions": positions,
        "decoder_loss_weights": ones.astype(jnp.float32).at[:, -1].set(0),
    }


def outcome(model: Model, params: Params, name: str) -> tuple[np.ndarray, float, Params]:
    """(logits, loss, gradients)."""

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        nll, _, tokens = loss_sums(model, params, batch(name), None)
        return nll / tokens, model.apply(params, batch(name))

    with jax.default_matmul_precision("highest"):
        run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)
        (value, logits), gradients = run(params)
    return np.asarray(logits), float(value), gradients


def as_tensors(name: str, params: Params) -> dict[str, np.ndarray]:
    """Parameters, or their gradients, under Hugging Face's names."""
    config = FAMILIES[name].ours
    family = MODEL_TYPES.get(name.split("_")[0], "llama")
    held = ("lm_head.weight",)  # as transformers 5 calls it in every family
    return dict(tensors_of(params, homes(family, config, held), family, config.head_dim))


def generated(model: Model, params: Params, name: str) -> list[list[int]]:
    given = rows(name, name.startswith("t5"))
    if "inputs" in given:
        lengths = given["mask"].sum(axis=1)
        prompts = [row[:length].tolist() for row, length in zip(given["inputs"], lengths, strict=True)]
    else:
        prompts = given["tokens"][:, : given["tokens"].shape[1] // 2].tolist()
    return greedy(model, params, prompts, max_new_tokens=NEW_TOKENS, batch_size=len(prompts), eos_id=-1)


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The norm of the difference, relative to the norm."""
    return float(np.linalg.norm(np.asarray(ours, np.float64) - theirs) / np.linalg.norm(np.asarray(theirs, np.float64)))
