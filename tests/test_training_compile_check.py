"""The compiler plans for devices that are not there, and the estimate made without it is near."""

from __future__ import annotations

import pytest

from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.cost import rows_of_embedding
from flanscale.orchestration.planning.memory import Compiled, compiled_memory, footprint_of
from flanscale.schema import RunConfig
from flanscale.sizing.memory import footprint

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
    config = cell(*overrides.split())
    assert ratio(config, compiled_memory(config)) == pytest.approx(1, abs=0.25)


def test_what_cannot_be_compiled_is_said_in_one_line() -> None:
    config = cell(*SMALL, *LONG)
    config.trainer.mesh.fsdp = 3  # does not divide the rows, which a composed cell would have been refused for
    with pytest.raises(ConfigError, match="the step cannot be compiled for 3 virtual CPU devices: ") as caught:
        compiled_memory(config)
    assert "\n" not in str(caught.value)
