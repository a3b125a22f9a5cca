"""The time of a step: products as the program has them, links by the mesh, and what was measured on an H100."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import jax
import pytest
from families import DECODERS, decoder
from test_flops import products
from tiny import ADAM, VOCAB, model, model_config, shapes, trainer

from flanscale.chips import CHIPS, GIB, Chip
from flanscale.config.compose import Composer
from flanscale.models import Model
from flanscale.schema import MeshConfig, ModelConfig, RunConfig, TrainerConfig
from flanscale.sizing import memory, speed
from flanscale.sizing.flops import parameter_count, predicted
from flanscale.sizing.speed import StepTime, step_time
from flanscale.training.footprint import abstract_rows
from flanscale.training.step import loss_sums

CHOICES = next(field.metadata["choices"] for field in fields(ModelConfig) if field.name == "remat")
REMATS = tuple(remat for remat in CHOICES if remat != "auto")
H100 = CHIPS["h100"]
ONE_A_SECOND = replace(H100, peak_flops=1 / speed.PRODUCTS, float32_flops=1 / speed.PRODUCTS)


def of(config: ModelConfig, rows: TrainerConfig, chip: Chip = H100, attention: str = "xla") -> StepTime:
    taken = memory.footprint(config, VOCAB, ADAM, rows, attention)
    return step_time(config, VOCAB, ADAM, rows, chip, taken, attention)


# --- products -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remat", REMATS)
@pytest.mark.parametrize("form", ["llama", "palm", "olmo2", "gemma2", "t5"])
def test_the_products_are_those_of_the_program(form: str, remat: str) -> None:
    tiny = decoder(form, remat=remat) if form in DECODERS else model("encoder_decoder", remat=remat)
    rows = trainer(input_tokens=24, target_tokens=8)
    assert of(tiny.config, rows, ONE_A_SECOND).products == pytest.approx(in_the_program(tiny, rows), rel=1e-6)


def in_the_program(tiny: Model, rows: TrainerConfig) -> float:
    """Operations of the products of a loss and its gradient, counted in the program."""
    batch = abstract_rows(rows, tiny.config, rows.batch_rows)
    program = jax.make_jaxpr(jax.grad(lambda params, batch: loss_sums(tiny, params, batch, None)[0]))
    return sum(products(program(shapes(tiny), batch).jaxpr))


@pytest.mark.parametrize(
    ("attention", "changes", "seen", "columns"),
    [
        ("cudnn", {}, 1 / 2, 16),  # which tell segments
        ("splash", {}, 1 / 2, 0),
        ("cudnn", {"prefix_lm": True}, 1, 0),  # by a mask of all pairs
        ("cudnn", {"head_dim": 128}, 1, 0),
    ],
)
def test_a_fused_kernel_multiplies_what_it_knows_to_be_seen(
    attention: str, changes: dict[str, Any], seen: float, columns: int
) -> None:
    config, rows = model_config("decoder", **changes), trainer()
    pairs = 3 * 4 * config.n_heads * config.n_layers * 32**2 * rows.batch_rows
    linear = of(config, rows, ONE_A_SECOND).products - pairs * config.head_dim
    fused = of(config, rows, ONE_A_SECOND, attention).products - linear
    expected = pairs * seen * (config.head_dim + columns) * speed.PRODUCTS / speed.FUSED
    assert fused == pytest.approx(expected)


def test_a_relative_bias_slows_a_fused_kernel() -> None:
    config, rows = model_config("encoder_decoder"), trainer(input_tokens=512, target_tokens=512)
    assert of(config, rows, attention="cudnn").products > of(config, rows).products
    assert of(config, rows, attention="cudnn").total < of(config, rows).total
    head, square = 3 * 4 * config.n_heads * config.n_layers * rows.batch_rows, 512**2
    linear = of(config, rows, ONE_A_SECOND).products - head * config.head_dim * 3 * square
    fused = of(config, rows, ONE_A_SECOND, "cudnn").products - linear
    assert fused == pytest.approx(head * (config.head_dim + 16) * 2.5 * square * speed.PRODUCTS / speed.FUSED_BIASED)


def test_every_remat_says_what_it_computes_again() -> None:
    assert set(speed.AGAIN) == set(CHOICES)


def test_bfloat16_is_faster_than_float32_where_the_chip_has_it() -> None:
    config = model_config("decoder")
    half, whole = trainer(precision="bfloat16"), trainer()
    for name, chip in CHIPS.items():
        assert of(config, half, chip).total < of(config, whole, chip).total, name
    t4 = CHIPS["t4"]
    assert of(config, half, t4).products == of(config, whole, t4).products
    assert of(config, half, CHIPS["a100"]).products < of(config, whole, CHIPS["a100"]).products


def test_rates_of_chips_are_in_their_order() -> None:
    for name, chip in CHIPS.items():
        assert chip.peak_flops >= chip.float32_flops > 1e12, name
        assert chip.bandwidth > chip.link > chip.network > 1e9, name
        assert chip.node > 1, name


# --- memory and links ---------------------------------------------------------------------------------------------


def test_recomputing_trades_products_for_memory() -> None:
    def time(remat: str, attention: str) -> StepTime:
        return of(model_config("decoder", remat=remat, scan=True), trainer(), attention=attention)

    none, dots, attention, full = (time(remat, "cudnn") for remat in REMATS)
    assert none.products == dots.products < attention.products < full.products
    assert none.memory > dots.memory
    none, dots, *_ = (time(remat, "xla") for remat in REMATS)
    assert none.products < dots.products  # scores are not kept


@pytest.mark.parametrize(("tensor", "values"), [(1, 4 * (16 + 16) + 3 * (16 + 24)), (2, 4 * (16 + 8) + 3 * (16 + 12))])
def test_what_lies_between_the_products_of_a_row_is_what_they_read_and_write(tensor: int, values: int) -> None:
    config, mesh = model_config("decoder"), MeshConfig(tensor=tensor)
    two, one = (of(config, trainer(batch_rows=rows, mesh=mesh), attention="cudnn").memory for rows in (2, 1))
    layers = 3 * 4 * 2 * 32 * values  # passes, bytes, layers, tokens
    logits = 4 * (speed.LOGITS + speed.SLOPES) * 32 * VOCAB / tensor
    assert (two - one) * speed.MEMORY * H100.bandwidth == pytest.approx(layers + logits)


def test_tensor_shards_share_the_products() -> None:
    config, rows = model_config("decoder", n_kv_heads=1), trainer(mesh=MeshConfig(tensor=2))
    whole = replace(rows, mesh=MeshConfig())
    keys = 3 * 2 * 2 * 16 * 8 * 2 * 4 * 32  # of one head, which is not split: on every device in full
    halved = of(config, whole, ONE_A_SECOND).products / 2 + keys / 2
    assert of(config, rows, ONE_A_SECOND).products == pytest.approx(halved)


def test_scores_that_stay_in_the_kernel_save_memorys_time() -> None:
    config, rows = model_config("decoder"), trainer(input_tokens=512, target_tokens=512)
    assert of(config, rows, attention="cudnn").memory < of(config, rows).memory / 2


def test_more_microbatches_take_longer() -> None:
    config, mesh = model_config("decoder"), MeshConfig(fsdp=2)
    times = [of(config, trainer(batch_rows=8, mesh=mesh, microbatches=n)) for n in (1, 2, 4)]
    assert times[0].total < times[1].total < times[2].total
    assert times[2].beside == pytest.approx(4 * times[0].beside)  # gathered and scattered for each


def test_an_update_goes_through_parameters_gradients_and_moments_once_a_step() -> None:
    config, rows = model_config("decoder"), trainer(microbatches=2)
    taken = memory.footprint(config, VOCAB, ADAM, rows)
    none = replace(taken, parameters=0, optimizer=0)
    with_it, without = (step_time(config, VOCAB, ADAM, rows, H100, held).memory for held in (taken, none))
    update = 4 * (2 + 2 + 2 * 2) * parameter_count(config, VOCAB)  # gradients twice; the rest is read and written
    assert (with_it - without) * speed.MEMORY * H100.bandwidth == pytest.approx(update)


def test_copies_sum_their_gradients_around_a_ring() -> None:
    config = model_config("decoder")
    gradients = 4 * parameter_count(config, VOCAB)
    # Of 64 an eighth leaves a node over each of its eight adapters, which is what takes longest.
    for ways, seconds in {2: 1 / 2 / H100.link, 8: 7 / 8 / H100.link, 64: 7 / 8 / 8 / H100.network}.items():
        taken = of(config, trainer(batch_rows=64, mesh=MeshConfig(data=ways)))
        assert taken.beside == pytest.approx(2 * gradients * seconds / speed.LINKS), ways
        assert taken.between == 0


def test_shards_that_lie_on_other_nodes_wait_for_the_network() -> None:
    config, slower = model_config("decoder", n_heads=16), replace(H100, network=H100.network / 2)
    rows = trainer(batch_rows=16, mesh=MeshConfig(fsdp=2, tensor=8))
    assert of(config, rows, slower).beside == pytest.approx(2 * of(config, rows).beside)
    assert of(config, rows, slower).between == of(config, rows).between > 0
    near = trainer(batch_rows=16, mesh=MeshConfig(fsdp=8))
    assert of(config, near, slower).total == of(config, near).total


def test_what_goes_over_links_beside_the_work_is_waited_for_when_it_takes_longer() -> None:
    rows = trainer(batch_rows=16, mesh=MeshConfig(data=4))
    slow = of(model_config("decoder"), rows, replace(H100, link=1e3))
    assert slow.total == pytest.approx(slow.beside)
    assert slow.bound == "links"
    fast = of(model_config("decoder"), rows, replace(H100, link=1e15))
    assert fast.links == 0
    assert fast.bound == "memory"


CASES: dict[str, dict[str, Any]] = {
    "peak_flops": {"precision": "bfloat16"},
    "float32_flops": {},
    "bandwidth": {},
    "link": {"mesh": MeshConfig(tensor=2)},
    "network": {"mesh": MeshConfig(data=16), "batch_rows": 16},
}


@pytest.mark.parametrize("rate", CASES)
def test_a_faster_chip_is_never_slower(rate: str) -> None:
    config = model_config("encoder_decoder")
    faster = replace(H100, **{rate: 2 * getattr(H100, rate)})
    for name, changes in CASES.items():
        rows = trainer(**changes)
        assert of(config, rows, faster).total <= of(config, rows).total, name
    slow_network = replace(H100, network=1e6)  # so that it counts beside a tiny model's work
    here = slow_network if rate == "network" else H100
    faster = replace(here, **{rate: 2 * getattr(here, rate)})
    rows = trainer(**CASES[rate])
    assert of(config, rows, faster).total < of(config, rows, here).total


# --- measured -----------------------------------------------------------------------------------------------------

# Medians on one H100 80GB, as docs/tuning.md has them: overrides, milliseconds, who computed attention, GiB that the
# scan stacked, and how often the loss made its logits. They are of a version that made them twice where they went in
# chunks, and multiplied their gradient in float32.
LLAMA = "model=llama3_2_1b optimizer=adamw trainer.batch_rows=8 trainer.input_tokens=1024 trainer.target_tokens=1024"
T5_XL = "model=t5_xl optimizer=adafactor trainer.batch_rows=8 trainer.input_tokens=1024 trainer.target_tokens=256"
T5_BASE = "model=t5_base optimizer=adamw trainer.batch_rows=64 trainer.input_tokens=512 trainer.target_tokens=128"
MEASURED = [
    (f"{LLAMA} model.remat=full", 717, "xla", 1.6, 2),
    (f"{LLAMA} model.remat=full", 374.9, "cudnn", 1.6, 2),
    (f"{LLAMA} model.remat=none", 394.1, "cudnn", 35, 2),
    (f"{T5_XL} model.remat=full", 588, "xla", 3.1, 1),
    (f"{T5_BASE} model.remat=none", 180, "xla", 40.3, 1),
]


@pytest.mark.parametrize(("overrides", "milliseconds", "attention", "stacked", "forwards"), MEASURED)
def test_the_prediction_is_within_a_quarter_of_what_was_measured(
    overrides: str, milliseconds: float, attention: str, stacked: float, forwards: int
) -> None:
    config = Composer().compose([*overrides.split(), "trainer.precision=bfloat16"])
    model, optimizer, rows = config.model, config.optimizer, config.trainer
    taken = replace(memory.footprint(model, 0, optimizer, rows, attention), activations=stacked * GIB)
    now = step_time(model, 0, optimizer, rows, H100, taken, attention).total
    assert 1000 * (now + loss_of_then(config, forwards)) == pytest.approx(milliseconds, rel=0.25)


def loss_of_then(config: RunConfig, forwards: int) -> float:
    """Seconds that the loss took more."""
    logits = config.trainer.batch_rows * (config.model.vocab_size or 0)
    logits *= predicted(config.model, config.trainer.input_tokens, config.trainer.target_tokens)
    product = 2 * config.model.d_model * logits / speed.PRODUCTS
    slower = (forwards - 1) * product / H100.peak_flops + 2 * product * (1 / H100.float32_flops - 1 / H100.peak_flops)
    return slower + (8 * 4 - 3 * 4 - 3 * 2) * logits / (speed.MEMORY * H100.bandwidth)
