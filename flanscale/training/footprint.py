"""What would make a training step fit that a device has too little memory for? Estimated by `sizing.memory`."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from flanscale.chips import GIB
from flanscale.models import Model
from flanscale.schema import ModelConfig, OptimizerConfig, TrainerConfig
from flanscale.sizing import memory

logger = logging.getLogger(__name__)

MOST_DEVICES = 1024


class OutOfMemory(MemoryError):
    """A device has less memory than the step needs; the message says what would fit."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the memory of a step depends on."""

    model: Model
    optimizer: OptimizerConfig
    trainer: TrainerConfig


def footprint(setting: Setting) -> memory.Footprint:
    """The memory of one step."""
    model = setting.model
    trainer = dataclasses.replace(setting.trainer, precision=model.dtype)
    return memory.footprint(model.config, model.vocab_size, setting.optimizer, trainer, model.implementation)


def with_least_remat(setting: Setting) -> Model:
    """The model with `model.remat=auto` made the least that fits into a device of this process."""
    model, limit = setting.model, device_memory()
    trainer = dataclasses.replace(setting.trainer, precision=model.dtype)
    known = (model.config, model.vocab_size, setting.optimizer, trainer, model.implementation)
    chosen = memory.least_remat(*known, limit)
    if chosen is not model.config and chosen.remat != "none":
        logger.info("model.remat=%s: the least that fits into a device's %.3g GiB", chosen.remat, limit / GIB)
    return dataclasses.replace(model, config=chosen)


@contextmanager
def memory_explained(setting: Setting) -> Iterator[None]:
    """Turns a device's bare refusal into one line with numbers and remedies.

    Raises:
        OutOfMemory: in place of JAX's RESOURCE_EXHAUSTED.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = str(error).split("\n", 1)[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
        raise OutOfMemory(f"{said}; {advice(setting, device_memory())}") from error


def advice(setting: Setting, limit: int) -> str:
    """The estimate for a device of `limit` bytes in words, and the two simplest changes that would fit."""
    now = footprint(setting)
    need = f"a step needs about {now.total / GIB:.3g} GiB on each device of {limit / GIB:.3g} GiB ({now.words()})"
    room, fitting = min((1 - memory.RESERVE) * limit, 0.8 * now.total), []
    for change in _changes(setting):
        found = _first_that_fits(change, room)
        if found:
            fitting.append(found)
        if len(fitting) == 2:
            break
    return f"{need}; would fit: {' or '.join(fitting) or 'a smaller model.name or trainer.batch_rows'}"


def device_memory() -> int:
    """Bytes of one local device; of a CPU, those of the machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


Change = list[tuple[str, Setting]]  # the same knob turned further and further


def _changes(setting: Setting) -> Iterator[Change]:
    model, optimizer, trainer = setting.model, setting.optimizer, setting.trainer
    mesh = trainer.mesh
    replace = dataclasses.replace
    most = trainer.batch_rows // (mesh.data * mesh.fsdp)
    microbatches = [m for m in range(trainer.microbatches + 1, most + 1) if most % m == 0]
    yield [
        (f"trainer.microbatches={m}", replace(setting, trainer=replace(trainer, microbatches=m))) for m in microbatches
    ]
    if model.config.remat != "full":
        saving = replace(model, config=replace(model.config, remat="full"))
        yield [("model.remat=full", replace(setting, model=saving))]
    if trainer.precision == "float32":
        half = replace(trainer, precision="bfloat16")
        yield [("trainer.precision=bfloat16", replace(setting, model=replace(model, dtype="bfloat16"), trainer=half))]
    if optimizer.name == "adamw":
        yield [("optimizer=adafactor", replace(setting, optimizer=replace(optimizer, name="adafactor")))]
    shards = [mesh.fsdp * 2**n for n in range(1, MOST_DEVICES.bit_length()) if mesh.fsdp * 2**n <= MOST_DEVICES]
    fewer = replace(trainer, microbatches=1)
    whole = [n for n in shards if trainer.batch_rows % (mesh.data * n) == 0]
    yield [
        (f"trainer.mesh.fsdp={n}", replace(setting, trainer=replace(fewer, mesh=replace(mesh, fsdp=n)))) for n in whole
    ]


def _first_that_fits(change: Change, room: float) -> str | None:
    for words, setting in change:
        total = footprint(setting).total
        if total <= room:
            return f"{words} ({total / GIB:.3g} GiB)"
    return None


def abstract_rows(trainer: TrainerConfig, model: ModelConfig, rows: int) -> dict[str, Any]:
    """The shapes of so many packed rows."""
    widths = {"encoder": trainer.input_tokens, "decoder": trainer.target_tokens}
    if model.architecture == "decoder":
        widths = {"decoder": sum(widths.values())}
    names = ("input_tokens", "segment_ids", "positions")
    fields = {f"{stack}_{name}": width for stack, width in widths.items() for name in names}
    fields["decoder_target_tokens"] = widths["decoder"]
    if model.architecture == "decoder" and model.prefix_lm:
        fields["decoder_prefix"] = widths["decoder"]
    batch = {name: jax.ShapeDtypeStruct((rows, width), jnp.int32) for name, width in fields.items()}
    return batch | {"decoder_loss_weights": jax.ShapeDtypeStruct((rows, widths["decoder"]), jnp.float32)}
