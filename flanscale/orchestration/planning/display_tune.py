"""What do people and programs see of the fastest settings? A table, why the first is first, and what to paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flanscale.chips import CHIPS
from flanscale.orchestration.planning.display_plan import gib
from flanscale.orchestration.planning.memory import Compiled
from flanscale.orchestration.planning.sheet import Column, Sheet
from flanscale.orchestration.planning.tune import Setting, Tuning

SHOWN = 5  # settings of each table
SHORT = 0.01  # seconds
ABOUT = "Predicted from shapes and data sheets, not measured; docs/tuning.md says how far off it was."


def title(tuning: Tuning) -> str:
    """Which cell, on what."""
    config, trainer = tuning.config, tuning.config.trainer
    return (
        f"{config.model.name} on {tuning.devices} {tuning.chip}, {trainer.batch_rows} rows of {trainer.input_tokens} +"
        f" {trainer.target_tokens} tokens, {trainer.precision}, {config.optimizer.name}:"
    )


def table(tuning: Tuning) -> Sheet:
    """The fastest settings that fit, fastest first."""
    titles = ("data × fsdp × tensor", "microbatches", "GiB on each", "of", "ms a step", "tokens/s", "MFU")
    rows = []
    for setting in tuning.fitting[:SHOWN]:
        mesh, total = setting.mesh, setting.footprint.total
        where = (f"{mesh.data} × {mesh.fsdp} × {mesh.tensor}", str(setting.microbatches))
        rates = (f"{setting.tokens_per_second:,.0f}", f"{setting.mfu:.1%}")
        sizes = (gib(total), f"{CHIPS[tuning.chip].gib:g}", _milliseconds(setting.time.total))
        rows.append((setting.remat, *where, *sizes, *rates, setting.time.bound))
    return Sheet([Column("remat"), *(Column(title, right=True) for title in titles), Column("bound by")], rows)


def lines(tuning: Tuning) -> list[str]:
    """Why the first is first, what to paste, and what lies outside of what was asked."""
    best, found = tuning.best, []
    if best is None:
        found.append(f"  {remedy_words(tuning)}")
    else:
        time = best.time
        found += [
            f"  fastest of the {len(tuning.fitting)} settings that fit, of {tuning.tried}: products"
            f" {_milliseconds(time.products)} ms, memory {_milliseconds(time.memory)} ms, waiting for links"
            f" {_milliseconds(time.links)} ms",
            f"  {' '.join(tuning.overrides(best))}",
        ]
        if time.total < SHORT:
            found.append("  so short a step waits for kernels to start, which is not counted")
    if best and tuning.own and tuning.own != best:
        fits = "" if tuning.own.fits else ", which does not fit"
        found.append(f"  as the cell is{fits}: {_words(tuning, tuning.own)}")
    if tuning.beyond:
        found.append(f"  faster, but does not fit: {_words(tuning, tuning.beyond)}")
    if tuning.bfloat16:
        found.append(f"  in bfloat16, which is another cell: {_words(tuning, tuning.bfloat16)}")
    return found


def remedy_words(tuning: Tuning) -> str:
    """Why nothing fits, and what comes nearest; nothing where something does."""
    remedy, config = tuning.remedy, tuning.config
    if remedy is None:
        return ""
    numbers = [f"--devices {number}" for number in remedy.devices]
    if remedy.least is None:
        return (
            f"no mesh has {tuning.devices} devices: data × fsdp must divide trainer.batch_rows="
            f"{config.trainer.batch_rows}, and tensor model.n_heads={config.model.n_heads}; nearest:"
            f" {' or '.join(numbers)}"
        )
    ways = [*numbers, *([f"cluster.chip={remedy.chip}"] if remedy.chip else [])]
    advice = f"would fit: {' or '.join(ways)}" if ways else "take a smaller model, or fewer or shorter rows"
    return (
        f"none of {tuning.tried} settings fits: the least takes {gib(remedy.least.footprint.total)} GiB on each device"
        f" of {CHIPS[tuning.chip].gib:g}, with {' '.join(remedy.least.overrides)}; {advice}"
    )


def _words(tuning: Tuning, setting: Setting) -> str:
    return (
        f"{_milliseconds(setting.time.total)} ms a step, {gib(setting.footprint.total)} GiB:"
        f" {' '.join(tuning.overrides(setting))}"
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f}"


def tuning_document(tuning: Tuning, compiled: Compiled | None) -> dict[str, Any]:
    """The same for programs; the compiler's plan of the first setting, where it was asked."""
    return {
        "model": tuning.config.model.name,
        "chip": tuning.chip,
        "devices": tuning.devices,
        "tried": tuning.tried,
        "fitting": len(tuning.fitting),
        "settings": _documents(tuning, tuning.fitting[:SHOWN]),
        "own": _document(tuning, tuning.own),
        "beyond": _document(tuning, tuning.beyond),
        "bfloat16": _document(tuning, tuning.bfloat16),
        "remedy": remedy_words(tuning) or None,
        "compiled": compiled and asdict(compiled) | {"total": compiled.total},
    }


def _documents(tuning: Tuning, some: Sequence[Setting]) -> list[dict[str, Any] | None]:
    return [_document(tuning, setting) for setting in some]


def _document(tuning: Tuning, setting: Setting | None) -> dict[str, Any] | None:
    if setting is None:
        return None
    time = setting.time
    return {
        "mesh": asdict(setting.mesh),
        "microbatches": setting.microbatches,
        "remat": setting.remat,
        "memory": asdict(setting.footprint),
        "step_seconds": time.total,
        "seconds": {"products": time.products, "memory": time.memory, "links": time.links},
        "tokens_per_second": setting.tokens_per_second,
        "mfu": setting.mfu,
        "bound": time.bound,
        "overrides": list(tuning.overrides(setting)),
    }
