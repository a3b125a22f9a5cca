"""Memory before launching: the state to the byte, activations as differentiation saves them, and a mesh that fits."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType

from flanscale.chips import CHIPS, GIB
from flanscale.config.compose import Composer
from flanscale.config.places import available
from flanscale.errors import ConfigError
from flanscale.models import build_model
from flanscale.orchestration.planning.memory import fits, footprint_of, slice_of, smallest_fit
from flanscale.schema import MeshConfig, ModelConfig, OptimizerConfig, RunConfig, TrainerConfig
from flanscale.sizing import memory
from flanscale.sizing.architecture import check_heads
from flanscale.sizing.flops import FLOAT32, parameter_count, parameters
from flanscale.sizing.memory import RESERVE, Footprint, footprint
from flanscale.training.footprint import abstract_rows
from flanscale.training.optimizers import build_optimizer
from flanscale.training.step import abstract_state, loss_sums

VOCAB = 512
WIDE: dict[str, Any] = {"name": "x", "d_model": 128, "n_layers": 3, "n_heads": 8, "head_dim": 16, "d_ff": 256}
FAMILIES: dict[str, dict[str, Any]] = {
    "t5": {"architecture": "encoder_decoder", "activation": "geglu", "tie_embeddings": False},
    "t5_1_0": {"architecture": "encoder_decoder", "activation": "relu"},
    "llama": {"architecture": "decoder", "n_kv_heads": 2, "tie_embeddings": False},
    "palm": {"architecture": "decoder", "n_kv_heads": 1, "block": "parallel"},
    "neox": {"architecture": "decoder", "block": "parallel_two_norms", "norm": "layer", "bias": "all"}
    | {"norm_bias": True, "activation": "gelu"},
    "qwen3": {"architecture": "decoder", "n_kv_heads": 4, "qk_norm": "head"},
    "olmo2": {"architecture": "decoder", "block": "post", "qk_norm": "projection"},
    "gemma2": {"architecture": "decoder", "block": "sandwich", "activation": "geglu", "attention_cap": 50.0},
}


PRECISIONS = ("float32", "bfloat16")
CORNERS = {("t5", "none", "float32"), ("t5", "dots", "bfloat16"), ("neox", "full", "bfloat16")}
CORNERS |= {
    ("llama", "attention", "bfloat16"),
    ("palm", "none", "bfloat16"),
    ("gemma2", "dots", "float32"),
    ("gemma2", "full", "float32"),
}
GRID = [
    pytest.param(*case, marks=() if case in CORNERS else pytest.mark.slow)
    for case in product(FAMILIES, memory.REMATS, PRECISIONS)
]


def family(name: str, **changes: Any) -> ModelConfig:
    return ModelConfig(**{**WIDE, **FAMILIES[name], **changes})


def trainer(**changes: Any) -> TrainerConfig:
    return TrainerConfig(**{"steps": 10, "batch_rows": 16, "input_tokens": 80, "target_tokens": 48, **changes})


def of(model: ModelConfig, optimizer: str = "adamw", attention: str = "xla", **changes: Any) -> Footprint:
    return footprint(model, VOCAB, OptimizerConfig(optimizer, 1e-3), trainer(**changes), attention)


def cell(*overrides: str) -> RunConfig:
    return Composer().compose(overrides)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "muon"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 4, 1), (1, 2, 4), (1, 1, 8)])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_state_is_that_which_training_lays_out(name: str, sizes: tuple[int, int, int], optimizer: str) -> None:
    mesh: Any = AbstractMesh(sizes, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    rule = build_optimizer(OptimizerConfig(optimizer, 1e-3), 10)
    laid_out = abstract_state(build_model(family(name), VOCAB), rule, mesh)
    ours = of(family(name), optimizer, mesh=MeshConfig(*sizes))
    assert ours.parameters == _bytes(laid_out.params)
    assert ours.optimizer == pytest.approx(_bytes(laid_out.optimizer), abs=1024)  # counters and empty places


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(("name", "remat", "precision"), GRID)
def test_the_activations_of_a_scan_are_those_that_differentiation_saves(name: str, remat: str, precision: str) -> None:
    def saved(layers: int) -> float:
        """By JAX: all that has a layer axis, but for kernels and copies of them."""
        config, rows = family(name, scan=True, remat=remat, n_layers=layers), trainer(precision=precision)
        model = build_model(config, VOCAB, precision)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        given = abstract_rows(rows, config, rows.batch_rows)
        pulled = jax.eval_shape(
            lambda p, b: jax.tree.leaves(jax.vjp(lambda q: loss_sums(model, q, b, None)[0], p)[1]), shapes, given
        )
        kernels = {leaf.shape for leaf in jax.tree.leaves(shapes)}
        return sum(x.size * x.dtype.itemsize for x in pulled if x.shape[:1] == (layers,) and x.shape not in kernels)

    config = family(name, scan=True, remat=remat)
    more, less = (of(replace(config, n_layers=n), precision=precision).activations for n in (7, 5))
    assert (more - less) / 2 == pytest.approx((saved(7) - saved(5)) / 2, rel=0.05)


@pytest.mark.parametrize("name", available("model"))
def test_every_size_has_the_parameters_that_are_counted(name: str) -> None:
    model = cell(f"model={name}").model
    ours = sum(math.prod(tensor.shape) * max(tensor.layers, 1) for tensor in parameters(model, model.vocab_size or 500))
    assert ours == parameter_count(model, 500)


def test_what_saves_memory_saves_it_where_it_should() -> None:
    plain = family("llama", scan=True)
    now = of(plain)
    none, dots, attention, full = (of(replace(plain, remat=remat)).activations for remat in memory.REMATS)
    assert none > dots > attention > full
    assert of(plain, microbatches=4).activations == pytest.approx(now.activations / 4)
    assert of(plain, mesh=MeshConfig(fsdp=4)).parameters < now.parameters / 3.5
    assert of(plain, mesh=MeshConfig(tensor=2)).activations < now.activations
    assert of(plain, "adafactor").optimizer < now.optimizer / 2
    assert of(plain, precision="bfloat16").activations < now.activations
    assert of(plain, attention="cudnn").activations < now.activations


def test_the_loss_goes_in_the_chunks_that_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    config, rows = family("llama"), trainer()
    model = build_model(config, VOCAB)
    given = jax.eval_shape(model.init, jax.random.key(0)), abstract_rows(rows, config, rows.batch_rows)
    for length in (128, 32):  # of a chunk
        monkeypatch.setattr(memory, "LOGITS_AT_ONCE", logits := 16 * length * VOCAB)
        assert of(config).logits == memory.LOGITS_COPIES * FLOAT32 * logits
        program = jax.jit(lambda params, batch: loss_sums(model, params, batch, None)).lower(*given).as_text()
        assert {n for n in (128, 64, 32, 16) if f"tensor<{16 * n}x{VOCAB}xf32>" in program} == {length}


# --- which mesh fits ----------------------------------------------------------------------------------------------

PALM = ("model=palm_540b", "optimizer=adafactor", "trainer=upalm", "trainer.input_tokens=2048", "model.remat=full")


def test_the_smallest_mesh_that_fits_divides_rows_and_heads_and_half_of_it_does_not_fit() -> None:
    config = cell(*PALM)
    found = smallest_fit(config, "tpu_v4")
    assert found is not None
    assert found.footprint.total <= CHIPS["tpu_v4"].memory * (1 - RESERVE)
    check_heads(config.model, found.mesh.tensor)
    assert config.trainer.batch_rows % (found.mesh.data * found.mesh.fsdp) == 0
    config.trainer.mesh, config.cluster.chip = found.mesh, "tpu_v4"
    assert footprint_of(config) == found.footprint
    assert all(fit.devices >= found.devices for fit in fits(config, ["tpu_v4"]))


def test_the_papers_540b_fits_the_papers_512_chips() -> None:
    found = smallest_fit(cell(*PALM), "tpu_v4")
    assert found is not None
    assert found.devices <= 512
    assert found.footprint.parameters * found.devices == pytest.approx(4 * 540.4e9, rel=0.05)


def test_t5_xxl_trains_on_four_large_a100_and_not_on_one() -> None:
    given = ("model=t5_xxl", "optimizer=adafactor", "trainer=paper_t5", "model.remat=full", "trainer.batch_rows=8")
    assert not footprint_of(cell(*given)).fits(CHIPS["a100"].memory)
    found = smallest_fit(cell(*given), "a100")
    assert found is not None
    assert found.devices in (2, 4)


def test_llama_8b_with_adamw_fits_eight_h100() -> None:
    given = ("model=llama3_1_8b", "optimizer=adamw", "trainer=upalm", "trainer.batch_rows=8", "model.remat=full")
    config = cell(*given, "trainer.mesh.fsdp=8")
    assert footprint_of(config).fits(CHIPS["h100"].memory)
    assert footprint_of(config).state * 8 == pytest.approx(12 * 8.03e9, rel=0.01)  # three float32 of every parameter
    assert not footprint_of(cell(*given, "trainer.mesh.fsdp=1")).fits(CHIPS["h100"].memory)


def test_where_no_mesh_is_enough_nothing_is_claimed() -> None:
    assert smallest_fit(cell("model=palm_540b", "trainer.batch_rows=1"), "tpu_v2") is None


def test_a_chip_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cluster.chip=h10: must be one of .*did you mean h100"):
        cell("cluster.chip=h10")


def test_a_slice_has_enough_chips_and_even_sides() -> None:
    assert slice_of("v4:2x2x1", 4) == "v4:2x2x1"
    assert slice_of("v4:2x2x1", 512) == "v4:8x8x8"
    assert slice_of("v5e:2x2", 32) == "v5e:4x8"


def test_estimating_loads_no_jax() -> None:
    imports = "import sys, flanscale.sizing.memory, flanscale.orchestration.planning.memory; "
    code = imports + "assert not {'jax', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_chips_hold_what_they_can_and_their_names_tell_them_apart() -> None:
    assert all(GIB <= chip.memory <= 200 * GIB and chip.peak_flops > 1e13 for chip in CHIPS.values())
    kinds = [kind for chip in CHIPS.values() for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))
