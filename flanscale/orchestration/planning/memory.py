"""On which mesh of which chip does a cell fit? Searches meshes with the estimate of `sizing.memory`; no JAX."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flanscale.chips import CHIPS, HOST
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.cost import devices, rows_of_embedding
from flanscale.schema import MeshConfig, ModelConfig, RunConfig
from flanscale.sizing.architecture import attention_of
from flanscale.sizing.memory import REMATS, Footprint, footprint, least_remat

MOST_DEVICES = 8192
COMPILE_SECONDS = 1800
CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
# Orders instructions to save memory, as the compilers of accelerators do, instead of for parallel threads.
SAVING = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def footprint_of(config: RunConfig) -> Footprint:
    """The memory of a cell's step on its own mesh, with the `model.remat` of its chip."""
    return _footprint(replace(config, model=model_of(config)), config.trainer.mesh, config.cluster.chip)


def model_of(config: RunConfig) -> ModelConfig:
    """A cell's model as it will be trained: `model.remat=auto` settled, where its chip is known."""
    chip = config.cluster.chip
    return config.model if chip is None else _settled(config, config.trainer.mesh, chip)


def _settled(config: RunConfig, mesh: MeshConfig, chip: str) -> ModelConfig:
    trainer, memory = replace(config.trainer, mesh=mesh), CHIPS[chip].memory
    vocab, attention = rows_of_embedding(config), attention_on(config, chip)
    return least_remat(config.model, vocab, config.optimizer, trainer, attention, memory)


def attention_on(config: RunConfig, chip: str | None) -> str:
    """Who computes a cell's attention on a chip."""
    known = chip is not None and CHIPS[chip].has_bfloat16
    platform = ("tpu" if chip.startswith("tpu") else "gpu") if chip and known else "cpu"
    return attention_of(config.model, config.trainer.precision, platform)[0]


def _footprint(config: RunConfig, mesh: MeshConfig, chip: str | None) -> Footprint:
    trainer, attention = replace(config.trainer, mesh=mesh), attention_on(config, chip)
    return footprint(config.model, rows_of_embedding(config), config.optimizer, trainer, attention)


@dataclass(frozen=True)
class Fit:
    """A way to run a cell: so many devices of a chip, in a mesh, with a `model.remat`."""

    chip: str
    remat: str
    mesh: MeshConfig
    footprint: Footprint

    @property
    def devices(self) -> int:
        return self.mesh.data * self.mesh.fsdp * self.mesh.tensor

    @property
    def fits(self) -> bool:
        return self.footprint.fits(CHIPS[self.chip].memory)


def fits(config: RunConfig, chips: Sequence[str]) -> list[Fit]:
    """For every chip, and every `model.remat` from the cell's own on, the smallest mesh that fits, and the next count.

    A chip that no mesh of its fits is left out.
    """
    found = []
    for chip in chips:
        for remat in _from(config.model.remat):
            table = _Table(replace(config, model=replace(config.model, remat=remat)), chip)
            count = table.smallest()
            if count is None:
                continue
            for number in (count, 2 * count) if len(chips) == 1 else (count,):
                if number in table.meshes:
                    found.append(Fit(chip, remat, *table.best(number)))
    return found


def _from(remat: str) -> Sequence[str]:
    """The policies from one on, each keeping less than that before it; all of them from auto."""
    return REMATS if remat == "auto" else REMATS[REMATS.index(remat) :]


def smallest_fit(config: RunConfig, chip: str) -> Fit | None:
    """The fewest devices of a chip, in powers of two, that a cell fits on as it is; None where no mesh is enough."""
    least = "full" if config.model.remat == "auto" else config.model.remat
    table = _Table(replace(config, model=replace(config.model, remat=least)), chip)
    count = table.smallest()
    if count is None:
        return None
    mesh, _ = table.best(count)
    settled = replace(config, model=_settled(config, mesh, chip))
    return Fit(chip, settled.model.remat, mesh, _footprint(settled, mesh, chip))


class _Table:
    """The footprints of a cell on every mesh of a chip that divides it, by the number of devices."""

    def __init__(self, config: RunConfig, chip: str) -> None:
        self.limit = CHIPS[chip].memory
        self.meshes: dict[int, list[tuple[MeshConfig, Footprint]]] = {}
        for mesh in _meshes(config.model, config.trainer.batch_rows, config.trainer.microbatches):
            taken = _footprint(config, mesh, chip)
            self.meshes.setdefault(mesh.data * mesh.fsdp * mesh.tensor, []).append((mesh, taken))

    def smallest(self) -> int | None:
        return min((n for n, some in self.meshes.items() if any(f.fits(self.limit) for _, f in some)), default=None)

    def best(self, count: int) -> tuple[MeshConfig, Footprint]:
        """Of those that fit, the one that communicates least: fewest tensor shards, then most copies."""
        fitting = [entry for entry in self.meshes[count] if entry[1].fits(self.limit)]
        if fitting:
            return min(fitting, key=lambda entry: (entry[0].tensor, -entry[0].data))
        return min(self.meshes[count], key=lambda entry: entry[1].total)


def _meshes(model: ModelConfig, batch_rows: int, microbatches: int) -> Iterator[MeshConfig]:
    """Meshes of powers of two that divide rows and heads, as training asks."""
    powers = [2**n for n in range(MOST_DEVICES.bit_length())]
    for tensor in (n for n in powers if model.n_heads % n == 0):
        for fsdp in powers:
            for data in powers:
                if batch_rows % (data * fsdp * microbatches) == 0 and data * fsdp * tensor <= MOST_DEVICES:
                    yield MeshConfig(data, fsdp, tensor)


# --- compiling ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compiled:
    """What the compiler plans for a step, bytes on each device."""

    arguments: float  # the state and the rows
    output: float
    alias: float  # of the output, where the state was
    temporary: float
    seconds: float  # that compiling took
    compiler: str

    @property
    def total(self) -> float:
        return self.arguments + self.output - self.alias + self.temporary


def compiled_memory(config: RunConfig) -> Compiled:
    """Compiles a cell's step in a process of its own, without any accelerator.

    For a TPU by its own compiler where libtpu is installed, for an H100 by XLA's for CUDA where JAX's plug-in is, else
    for as many virtual CPU devices as the mesh has.

    Raises:
        ConfigError: it cannot be compiled, on a TPU also because its memory is too small; with the compiler's words.
    """
    count, chip = devices(config), CHIPS.get(config.cluster.chip or "")
    topology = _topology(chip.topology, count) if chip and chip.topology else None
    given: dict[str, Any] = {
        "model": asdict(model_of(config)),
        "vocab_size": rows_of_embedding(config),
        "optimizer": asdict(config.optimizer),
        "trainer": asdict(config.trainer),
        "topology": topology,
    }
    done = _run(given, f"--xla_force_host_platform_device_count={count}", SAVING)
    if "Unknown flag" in done.stderr:  # of another version of XLA
        done = _run(given, f"--xla_force_host_platform_device_count={count}")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it ended without a word"]
        said = next((line for line in reversed(lines) if "RESOURCE_EXHAUSTED" in line), lines[-1])
        raise ConfigError(f"the step cannot be compiled for {topology or f'{count} virtual CPU devices'}: {said}")
    where = f"XLA for {topology}" if topology else f"CPU backend, {count} virtual device{'s' * (count > 1)}"
    return Compiled(**json.loads(done.stdout.splitlines()[-1]), compiler=where)


def _run(given: dict[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()}
    try:
        return subprocess.run(
            [sys.executable, "-m", "flanscale.training.compile_check"],
            input=json.dumps(given),
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMPILE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"the step was not compiled within {COMPILE_SECONDS // 60} minutes") from None


def slice_of(topology: str, count: int) -> str:
    """The name of the smallest slice with at least so many chips, grown from `topology` by doubling shortest sides."""
    name, _, shape = topology.partition(":")
    sides = [int(side) for side in shape.split("x")]
    while math.prod(sides) < count:
        shortest = min(range(len(sides)), key=lambda i: (sides[i], -i))
        sides[shortest] *= 2
    return f"{name}:{'x'.join(map(str, sides))}"


def hosts_of(name: str, count: int) -> str:
    """So many GPUs as the compiler names them: one partition, hosts of at most eight, GPUs of each."""
    each = min(count, HOST)
    return f"{name}:1x{math.ceil(count / each)}x{each}"


def _topology(name: str, count: int) -> str | None:
    """The devices as their own compiler names them; None where it is not installed."""
    if ":" in name:
        return slice_of(name, count) if importlib.util.find_spec("libtpu") else None
    plugged = any(importlib.util.find_spec(plugin) for plugin in CUDA_PLUGINS)
    return hosts_of(name, count) if plugged else None
