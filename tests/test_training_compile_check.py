"""The compiler plans for devices that are not there, and the estimate made without it is near."""

from __future__ import annotations

import importlib.util
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from flanscale.chips import CHIPS, GIB
from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.inference import programs
from flanscale.models import Model, Params, batch_sharding, build_model
from flanscale.models.parts import Spots
from flanscale.orchestration.planning.cost import rows_of_embedding
from flanscale.orchestration.planning.display_plan import compiled_line
from flanscale.orchestration.planning.memory import (
    CUDA_PLUGINS,
    Compiled,
    _topology,
    compiled_memory,
    footprint_of,
    hosts_of,
    model_of,
)
from flanscale.schema import RunConfig
from flanscale.sizing.memory import LOGITS_AT_ONCE, footprint
from flanscale.training import validation
from flanscale.training.compile_check import lowered_step, placed_rows, slice_mesh
from flanscale.training.optimizers import build_optimizer
from flanscale.training.step import abstract_state

SMALL = ("model=smollm2_135m", "model.n_layers=4", "model.vocab_size=2048", "trainer.batch_rows=8")
LONG = ("trainer.input_tokens=192", "trainer.target_tokens=64")


def cell(*overrides: str) -> RunConfig:
    return Composer().compose(overrides)


def ratio(config: RunConfig, compiled: Compiled) -> float:
    """The estimate over the compiler's total."""
    return footprint_of(config).total / compiled.total


@pytest.mark.parametrize("mesh", [pytest.param((1, 1, 1), marks=pytest.mark.slow), (2, 4, 1)])
def test_the_estimate_is_within_a_quarter_of_the_compilers_plan(mesh: tuple[int, int, int]) -> None:
    config = cell(*SMALL, *LONG, *(f"trainer.mesh.{name}={n}" for name, n in zip(("data", "fsdp"), mesh, strict=False)))
    compiled = compiled_memory(config)
    taken = footprint(config.model, rows_of_embedding(config), config.optimizer, config.trainer)
    assert compiled.arguments == pytest.approx(taken.state + taken.rows, rel=0.01)
    assert compiled.alias == pytest.approx(compiled.output, rel=0.01)  # the old state makes room for the new one
    assert f"{mesh[0] * mesh[1]} virtual device" in compiled.compiler
    assert ratio(config, compiled) == pytest.approx(1, abs=0.25)


# As docs/memory.md has them; minutes on two cores.
@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        "model=t5_small model.scan=true trainer.batch_rows=8 trainer.input_tokens=256 trainer.target_tokens=64",
        "model=t5_small model.scan=false trainer.batch_rows=8 trainer.input_tokens=256 trainer.target_tokens=64",
        "model=t5_base model.scan=true trainer.batch_rows=8 trainer.input_tokens=512 trainer.target_tokens=128",
        "model=t5_base model.scan=true trainer.batch_rows=8 trainer.input_tokens=512 trainer.target_tokens=128"
        " trainer.mesh.data=8",
        "model=smollm2_135m trainer.batch_rows=4 trainer.input_tokens=384 trainer.target_tokens=128",
        "model=smollm2_135m trainer.batch_rows=8 trainer.input_tokens=384 trainer.target_tokens=128"
        " trainer.mesh.fsdp=8",
        "model=llama3_2_1b trainer.batch_rows=4 trainer.input_tokens=384 trainer.target_tokens=128",
        "model=llama3_2_1b trainer.batch_rows=8 trainer.input_tokens=384 trainer.target_tokens=128 model.remat=full"
        " optimizer=adafactor trainer.mesh.fsdp=8",
    ],
)
def test_so_it_is_for_models_that_people_train(overrides: str) -> None:
    """By the CPU backend, which sums gradients over devices out of place; for accelerators see below."""
    config = cell(*overrides.split())
    assert ratio(config, compiled_memory(config)) == pytest.approx(1, abs=0.35)


def test_what_cannot_be_compiled_is_said_in_one_line() -> None:
    config = cell(*SMALL, *LONG)
    config.trainer.mesh.fsdp = 3  # does not divide the rows, which a composed cell would have been refused for
    with pytest.raises(ConfigError, match="the step cannot be compiled for 3 virtual CPU devices: ") as caught:
        compiled_memory(config)
    assert "\n" not in str(caught.value)


def test_gpus_are_named_by_hosts_of_at_most_eight() -> None:
    assert [hosts_of("h100", count) for count in (1, 4, 8, 16, 64)] == [
        "h100:1x1x1",
        "h100:1x1x4",
        "h100:1x1x8",
        "h100:1x2x8",
        "h100:1x8x8",
    ]


def test_what_a_gpus_compiler_plans_beyond_its_memory_is_said() -> None:
    planned = Compiled(arguments=14 * GIB, output=14 * GIB, alias=14 * GIB, temporary=86 * GIB, seconds=4, compiler="c")
    taken = footprint_of(cell(*SMALL))
    assert "100 GiB on each device, more than the 79.6 there are: " in compiled_line(planned, taken, 79.6 * GIB)
    assert "100 GiB on each device: " in compiled_line(planned, taken, 140 * GIB)


@pytest.mark.aot
@pytest.mark.parametrize(("mesh", "named"), [(1, "h100:1x1x1"), (8, "h100:1x1x8"), (16, "h100:1x2x8")])
def test_an_h100_is_compiled_for_where_there_is_none(mesh: int, named: str) -> None:
    _needs("h100")
    overrides = (f"trainer.mesh.fsdp={mesh}", "trainer.batch_rows=16", "trainer.precision=bfloat16", "model.remat=full")
    config = cell(*SMALL, *LONG, *overrides, "cluster.chip=h100")
    compiled = compiled_memory(config)
    assert compiled.compiler == f"XLA for {named}"
    taken = footprint_of(config)
    assert compiled.arguments == pytest.approx(taken.state + taken.rows, rel=0.02)
    assert compiled.temporary > 0


LLAMA = "model=llama3_2_1b model.scan=true optimizer=adamw trainer.input_tokens=768 trainer.target_tokens=256"
T5_XL = "model=t5_xl model.scan=true optimizer=adafactor trainer.input_tokens=1024 trainer.target_tokens=256"
FUSED = {"h100": "__cudnn$fmha", "tpu_v5e": "tpu_custom_call"}


@pytest.mark.aot
@pytest.mark.parametrize(
    ("chip", "devices", "model"),
    [("h100", 1, LLAMA), ("h100", 8, LLAMA), ("h100", 1, T5_XL), ("h100", 8, T5_XL), ("tpu_v5e", 8, LLAMA)],
)
def test_every_program_has_fused_attention_and_neither_its_scores_nor_more_logits_than_allowed(
    chip: str, devices: int, model: str
) -> None:
    """And the estimate is near: the training step, a validation batch, and what reads prompts and answers them."""
    _needs(chip)
    rows = 8 * devices
    given = (f"cluster.chip={chip}", f"trainer.mesh.fsdp={devices}", "trainer.precision=bfloat16")
    config = cell(*model.split(), *given, f"trainer.batch_rows={rows}", "model.dropout=0")
    settled, trainer = model_of(config), config.trainer
    mesh = slice_mesh(trainer.mesh, _topology(CHIPS[chip].topology, devices))
    made = build_model(settled, rows_of_embedding(config), "bfloat16", mesh.devices.flat[0].platform)
    step = lowered_step(made, config.optimizer, trainer, mesh).compile()
    taken = step.memory_analysis()
    total = taken.argument_size_in_bytes + taken.output_size_in_bytes - taken.alias_size_in_bytes
    assert footprint_of(config).total == pytest.approx(total + taken.temp_size_in_bytes, rel=0.15)

    state = abstract_state(made, build_optimizer(config.optimizer, 1), mesh)
    split, whole = batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())
    zero = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
    with jax.set_mesh(mesh):
        batch = placed_rows(made, trainer, mesh)
        add = jax.jit(validation._add, static_argnums=0).lower(made, (zero, zero), state.params, batch).compile()
        read, written = answering_programs(made, state.params, rows, split, whole)
    for program in (step, add, read, written):
        text = program.as_text()
        assert program is written or FUSED[chip] in text  # which looks from one token at a time
        assert not scores_of(text, 1024)
        assert largest(text, "f32", made.vocab_size) <= LOGITS_AT_ONCE


def answering_programs(made: Model, params: Params, rows: int, split: NamedSharding, whole: NamedSharding) -> list[Any]:
    """What reads prompts of 1024 tokens, and what writes 64 behind them, on the mesh that is set."""

    def placed(program: Any, *given: Any) -> tuple[Any, Any]:
        """(the compiled program, the shapes that it gives, on the devices where it leaves them)"""
        lowered = program.lower(*given)
        compiled = lowered.compile()
        shapes = jax.tree.map(
            lambda out, at: jax.ShapeDtypeStruct(out.shape, out.dtype, sharding=at),
            lowered.out_info,
            compiled.output_shardings,
        )
        return compiled, shapes

    prompts = jax.ShapeDtypeStruct((rows, 1024), jnp.int32, sharding=split)
    each, done = (jax.ShapeDtypeStruct((rows,), kind, sharding=split) for kind in (jnp.int32, jnp.bool_))
    count, eos_ids = (jax.ShapeDtypeStruct(shape, jnp.int32, sharding=whole) for shape in ((), (1,)))
    if made.config.architecture == "encoder_decoder":
        read, part = placed(programs.read_whole, made, params, prompts, each)
    else:
        read, part = placed(programs.read, made, params, prompts, Spots(prompts), ())
    _, state = placed(programs.begin, made, 64, each, each, done)
    _, own = placed(jax.jit(made.for_decoding), params)
    written, _ = placed(programs.write, made, programs.Drawing(), own, (part,), state, count, eos_ids, None)
    return [read, written]


def scores_of(text: str, length: int) -> list[str]:
    """Shapes [B, H, T, S] in a program, of several rows and heads."""
    found = re.findall(rf"\[(\d+),(\d+),{length},{length}\]", text)
    return [shape for shape in found if min(map(int, shape)) > 1]


def largest(text: str, kind: str, width: int) -> int:
    """Elements of the largest array of a kind and with a side of that width."""
    shapes = {tuple(map(int, sides.split(","))) for sides in re.findall(rf"{kind}\[([\d,]+)\]", text)}
    return max((math.prod(shape) for shape in shapes if shape[-1] == width), default=0)


def _needs(chip: str) -> None:
    if chip == "h100" and not any(importlib.util.find_spec(plugin) for plugin in CUDA_PLUGINS):
        pytest.skip("JAX's CUDA plug-in is not installed: pip install '.[aot]'")
    if chip.startswith("tpu") and not importlib.util.find_spec("libtpu"):
        pytest.skip("libtpu is not installed: pip install '.[tpu]'")
