"""Memory: the estimate is near what XLA takes, and running out of it names what would fit."""

import re
from pathlib import Path
from typing import Any

import jax
import pytest
from tiny import ADAM, ARCHITECTURES, SortingBatches, model, replaced, trainer

from flanscale.models import build_mesh
from flanscale.orchestration.running.failure import failure_of
from flanscale.schema import MeshConfig, OptimizerConfig
from flanscale.training import OutOfMemory, build_optimizer, train
from flanscale.training.footprint import Setting, advice, footprint
from flanscale.training.step import abstract_state, build_step

WIDE = {"d_model": 64, "d_ff": 256, "n_heads": 4, "head_dim": 16, "n_layers": 3}
ROWS = {"batch_rows": 64, "input_tokens": 64, "target_tokens": 64}


def setting(architecture: str = "decoder", optimizer: OptimizerConfig = ADAM, **knobs: Any) -> Setting:
    return Setting(model(architecture, **WIDE), optimizer, trainer(**{**ROWS, **knobs}))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("microbatches", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_estimate_is_near_what_the_compiled_step_takes(architecture: str, microbatches: int) -> None:
    given = setting(architecture, microbatches=microbatches)
    abstract = abstract_state(given.model, rule := build_optimizer(ADAM, 10), build_mesh(MeshConfig()))
    step = build_step(given.model, rule, abstract, z_loss=0.0, microbatches=microbatches)
    batch = next(SortingBatches(architecture, given.trainer))
    taken = step.lower(abstract, batch, jax.random.key(0)).compile().memory_analysis()
    ours = footprint(given)
    assert ours.parameters + ours.optimizer == pytest.approx(taken.output_size_in_bytes, rel=0.01)
    assert 0.6 < (ours.total - ours.state) / taken.temp_size_in_bytes < 1.8


def test_each_remedy_takes_from_what_it_is_for() -> None:
    now = footprint(setting())
    parts, shards = footprint(setting(microbatches=8)), footprint(setting(mesh=MeshConfig(fsdp=8)))
    assert parts.activations < now.activations / 6
    assert shards.parameters < now.parameters / 6
    assert shards.activations < now.activations / 6
    assert footprint(setting(optimizer=replaced(ADAM, name="adafactor"))).optimizer < now.optimizer


def test_the_two_simplest_changes_that_fit_are_named_with_what_they_take() -> None:
    given = setting()
    now = footprint(given).total
    words = advice(given, now // 2)
    microbatches, other = re.search(
        r"would fit: trainer\.microbatches=(\d+) \(.*GiB\) or ([a-z.]+=\w+) \(.*GiB\)", words
    ).groups()
    assert footprint(setting(microbatches=int(microbatches))).total < now / 2
    assert footprint(setting(microbatches=int(microbatches) // 2)).total > 0.45 * now
    assert other


def test_what_nothing_helps_is_said_too() -> None:
    assert "would fit: a smaller model.name or trainer.batch_rows" in advice(setting(batch_rows=1), 1000)


def test_a_step_that_does_not_fit_fails_as_out_of_memory_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = trainer(batch_rows=64, input_tokens=2**16, target_tokens=8)
    huge = model("decoder", n_layers=1)  # attention between 2³² pairs of positions in each row and head: 3 TiB
    with pytest.raises(OutOfMemory) as caught:
        train(
            *(huge, ADAM, config, SortingBatches("decoder", config)),
            seed=0,
            checkpoint_dir=tmp_path / "checkpoints",
            log=lambda step, row: None,
            should_stop=lambda: False,
        )
    failure = failure_of(caught.value, step=None, host="here")
    assert failure.kind == "out_of_memory"
    assert "a step needs about" in failure.message
    assert "would fit: " in failure.message
    assert not caplog.records, "about meshes that were only thought of"
