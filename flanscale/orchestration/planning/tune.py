"""Which setting is fastest? Of all meshes, microbatches and `model.remat`, which change no result; no JAX.

Predicted by `sizing.speed`, and kept where `sizing.memory` says that it fits. The rows of a batch are the user's, for
they change what is learned; so does the precision, which is shown beside the others and never chosen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from flanscale.chips import CHIPS
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.cost import devices, rows_of_embedding
from flanscale.orchestration.planning.memory import MOST_DEVICES, attention_on, model_of
from flanscale.schema import MeshConfig, RunConfig
from flanscale.sizing.flops import training_flops
from flanscale.sizing.memory import REMATS, Footprint, footprint
from flanscale.sizing.speed import StepTime, step_time


@dataclass(frozen=True)
class Setting:
    """One way to run a cell on some devices of a chip, and what is predicted of it."""

    chip: str
    mesh: MeshConfig
    microbatches: int
    remat: str
    precision: str
    footprint: Footprint
    time: StepTime
    tokens_per_second: float  # places of all rows, padding included
    mfu: float

    @property
    def fits(self) -> bool:
        return self.footprint.fits(CHIPS[self.chip].memory)

    @property
    def order(self) -> tuple[float, ...]:
        """Fastest first; of equals, what is simplest."""
        return self.time.total, self.microbatches, self.mesh.tensor, self.footprint.total

    def applied(self, config: RunConfig) -> RunConfig:
        """The cell with this setting; the same cell, where the precision is."""
        config = copy.deepcopy(config)
        config.trainer.precision = self.precision
        config.model.remat = self.remat
        config.trainer.microbatches, config.trainer.mesh = self.microbatches, self.mesh
        return config

    @property
    def overrides(self) -> tuple[str, ...]:
        """As they are typed; the precision aside."""
        mesh = self.mesh
        return (
            *(f"trainer.mesh.{axis}={getattr(mesh, axis)}" for axis in ("data", "fsdp", "tensor")),
            f"trainer.microbatches={self.microbatches}",
            f"model.remat={self.remat}",
        )


@dataclass(frozen=True)
class Remedy:
    """What comes nearest where nothing fits."""

    least: Setting | None  # what takes least memory; None where no mesh has so many devices
    devices: tuple[int, ...]  # numbers of them that would do
    chip: str | None  # another one, of which as many would do


@dataclass(frozen=True)
class Tuning:
    """What was found for a cell on so many devices of a chip."""

    config: RunConfig
    chip: str
    devices: int
    tried: int
    own: Setting | None  # the cell's own, where its mesh has so many devices
    fitting: tuple[Setting, ...]  # fastest first
    beyond: Setting | None  # the fastest of all, where the chip's memory is too small for it
    bfloat16: Setting | None  # the fastest with trainer.precision=bfloat16, which is another cell
    remedy: Remedy | None  # where none fits

    @property
    def best(self) -> Setting | None:
        return self.fitting[0] if self.fitting else None

    def overrides(self, setting: Setting) -> tuple[str, ...]:
        """As they are typed, with another precision and, of a job that asks for GPUs, another number of them."""
        config, cluster = self.config, self.config.cluster
        given = list(setting.overrides)
        if setting.precision != config.trainer.precision:
            given.append(f"trainer.precision={setting.precision}")
        if cluster.gpus and self.devices != devices_of(config):
            nodes = math.ceil(self.devices / CHIPS[self.chip].node)
            given += [f"cluster.nodes={nodes}", f"cluster.gpus={self.devices // nodes * cluster.cells_at_once}"]
        return tuple(given)


def tune(config: RunConfig, counts: Sequence[int] = ()) -> list[Tuning]:
    """What is fastest for a cell on each number of devices of its chip; by default on those that its job has.

    Raises:
        ConfigError: it names no chip.
    """
    if config.cluster.chip is None:
        raise ConfigError(
            f"--tune: on which chip is {config.model.name} to run? Give cluster.chip=, one of {', '.join(CHIPS)}"
        )
    return [_tuned(config, config.cluster.chip, count) for count in counts or (devices_of(config),)]


def devices_of(config: RunConfig) -> int:
    """Those that the cell's job asks for, and without GPUs those of its mesh."""
    cluster = config.cluster
    if cluster.gpus:
        return max(1, cluster.nodes * cluster.gpus // cluster.cells_at_once)
    return devices(config)


def settings(config: RunConfig, chip: str, count: int) -> Iterator[Setting]:
    """Every setting on exactly so many devices, whether it fits or not."""
    vocab, trainer, optimizer = rows_of_embedding(config), config.trainer, config.optimizer
    attention = attention_on(config, chip)
    row = trainer.input_tokens + trainer.target_tokens
    flops = trainer.batch_rows * training_flops(config.model, vocab, trainer.input_tokens, trainer.target_tokens)
    for mesh in _meshes(config, count):
        for parts in _divisors(trainer.batch_rows // (mesh.data * mesh.fsdp)):
            for remat in REMATS:
                model = replace(config.model, remat=remat)
                asked = replace(trainer, mesh=mesh, microbatches=parts)
                taken = footprint(model, vocab, optimizer, asked, attention)
                time = step_time(model, vocab, optimizer, asked, CHIPS[chip], taken, attention)
                speed = trainer.batch_rows * row / time.total
                mfu = flops / time.total / count / CHIPS[chip].peak_flops
                yield Setting(chip, mesh, parts, remat, trainer.precision, taken, time, speed, mfu)


def _tuned(config: RunConfig, chip: str, count: int) -> Tuning:
    found = sorted(settings(config, chip, count), key=lambda setting: setting.order)
    fitting = tuple(setting for setting in found if setting.fits)
    beyond = found[0] if fitting and not found[0].fits else None
    half = None
    if config.trainer.precision == "float32":
        other = replace(config, trainer=replace(config.trainer, precision="bfloat16"))
        half = min((s for s in settings(other, chip, count) if s.fits), key=lambda setting: setting.order, default=None)
    remedy = None if fitting else _remedy(config, chip, count, found)
    asked = (config.trainer.mesh, config.trainer.microbatches, model_of(config).remat)
    own = next((s for s in found if (s.mesh, s.microbatches, s.remat) == asked), None)
    return Tuning(config, chip, count, len(found), own, fitting, beyond, half, remedy)


def _remedy(config: RunConfig, chip: str, count: int, found: Sequence[Setting]) -> Remedy:
    if not found:
        return Remedy(None, _nearest_counts(config, count), None)
    least = min(found, key=lambda setting: setting.footprint.total)
    doubled = (count << n for n in range(1, MOST_DEVICES.bit_length()) if count << n <= MOST_DEVICES)
    enough = next((number for number in doubled if any(_fits(config, chip, number))), None)
    larger = [name for name in CHIPS if any(_fits(config, name, count))]
    other = min(larger, key=lambda name: CHIPS[name].memory, default=None)
    return Remedy(least, () if enough is None else (enough,), other)


def _nearest_counts(config: RunConfig, count: int) -> tuple[int, ...]:
    """The next numbers of devices below and above that a mesh can have."""
    rows, heads = _divisors(config.trainer.batch_rows), _divisors(config.model.n_heads)
    possible = sorted({a * b for a in rows for b in heads})
    fewer, more = [n for n in possible if n < count], [n for n in possible if n > count]
    return *fewer[-1:], *more[:1]


def _fits(config: RunConfig, chip: str, count: int) -> Iterator[bool]:
    """Whether what takes least memory on so many devices fits, of every mesh."""
    model, vocab, attention = replace(config.model, remat="full"), rows_of_embedding(config), attention_on(config, chip)
    for mesh in _meshes(config, count):
        for parts in {1, config.trainer.batch_rows // (mesh.data * mesh.fsdp)}:
            asked = replace(config.trainer, mesh=mesh, microbatches=parts)
            yield footprint(model, vocab, config.optimizer, asked, attention).fits(CHIPS[chip].memory)


def _meshes(config: RunConfig, count: int) -> Iterator[MeshConfig]:
    """Meshes of exactly so many devices that divide rows and heads, as training asks."""
    for tensor in _divisors(count):
        if config.model.n_heads % tensor == 0 and config.trainer.batch_rows % (count // tensor) == 0:
            for fsdp in _divisors(count // tensor):
                yield MeshConfig(count // tensor // fsdp, fsdp, tensor)


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
