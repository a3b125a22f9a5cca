"""What do people see of memory? The parts of a step's footprint, the meshes that it fits on, the compiler's word."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from flanscale.chips import CHIPS, GIB
from flanscale.memory import RESERVE, Footprint
from flanscale.orchestration.planning.memory import Compiled, Fit
from flanscale.schema import MeshConfig, RunConfig


def gib(size: float) -> str:
    """Bytes in GiB, three digits."""
    return f"{size / GIB:.3g}" if size < 1000 * GIB else f"{size / GIB:.0f}"


def mesh_words(mesh: MeshConfig) -> str:
    """The axes that are more than one; what they are called in overrides."""
    named = {"data": mesh.data, "fsdp": mesh.fsdp, "tensor": mesh.tensor}
    return " × ".join(f"{name} {size}" for name, size in named.items() if size > 1) or "one device"


def memory_lines(config: RunConfig, taken: Footprint, other: Fit | None) -> list[str]:
    """A step's footprint on the cell's own mesh in words and, where it does not fit, what would."""
    trainer, model, chip = config.trainer, config.model, config.cluster.chip
    what = f"{model.name} on {mesh_words(trainer.mesh)}, {trainer.batch_rows} rows of {trainer.input_tokens} +"
    how = f"{trainer.target_tokens} tokens, {trainer.precision}, {config.optimizer.name}, model.remat={model.remat}"
    of = f" of {CHIPS[chip].gib:g} ({chip}; {RESERVE:.0%} of it in reserve)" if chip else ""
    fits = taken.fits(CHIPS[chip].memory) if chip else True
    lines = [
        f"{what} {how}:",
        f"  {'' if fits else 'does not fit: '}{gib(taken.total)} GiB on each device{of}: {taken.words()}",
    ]
    if not fits and other:
        lines.append(f"  would fit: {other.devices} {chip}, {gib(other.footprint.total)} GiB each: {_overrides(other)}")
    elif not fits:
        lines.append(f"  no mesh of {chip} is enough as it is; `flanscale plan` with its overrides alone shows others")
    return lines


def _overrides(fit: Fit) -> str:
    mesh = fit.mesh
    return f"trainer.mesh.data={mesh.data} trainer.mesh.fsdp={mesh.fsdp} trainer.mesh.tensor={mesh.tensor}"


def compiled_line(compiled: Compiled, taken: Footprint) -> str:
    """The compiler's plan beside the estimate."""
    off = taken.total / compiled.total - 1
    return (
        f"  compiler ({compiled.compiler}, {compiled.seconds:.0f} s): {gib(compiled.total)} GiB on each device:"
        f" arguments {gib(compiled.arguments)}, output {gib(compiled.output)} of which {gib(compiled.alias)} in place,"
        f" temporary {gib(compiled.temporary)}; the estimate is {off:+.0%} off"
    )


def memory_table(fits: Sequence[Fit]) -> Table:
    """Where a cell fits."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for column in ("chip", "remat"):
        table.add_column(column, no_wrap=True)
    for column in ("devices", "data × fsdp × tensor", "state", "activations", "GiB on each", "of"):
        table.add_column(column, justify="right", no_wrap=True)
    for fit in fits:
        mesh, taken = fit.mesh, fit.footprint
        table.add_row(
            *(fit.chip, fit.remat, str(fit.devices), f"{mesh.data} × {mesh.fsdp} × {mesh.tensor}"),
            *(gib(taken.state), gib(taken.activations), gib(taken.total), f"{CHIPS[fit.chip].gib:g}"),
        )
    if not fits:
        table.add_row("none fits: take fewer or shorter rows, or trainer.microbatches")
    return table
