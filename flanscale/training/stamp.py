"""What made a checkpoint? The configuration, seed and code that a run may be continued with."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax

from flanscale.errors import OtherRun
from flanscale.models import Model
from flanscale.schema import OptimizerConfig, TrainerConfig

ROOMS = ("models", "pipeline", "tasks", "training")  # whose code can change what a training run comes to

log = logging.getLogger(__name__)


def stamp(model: Model, optimizer: OptimizerConfig, trainer: TrainerConfig, seed: int) -> dict[str, Any]:
    """A JSON value that every checkpoint carries: all that changes a run's result, as far as training knows it."""
    sections = {"model": model.config, "optimizer": optimizer, "trainer": trainer}
    config = {name: value for section, given in sections.items() for name, value in _science(given, f"{section}.")}
    settings: Any = jax.config
    rng = {"seed": seed, "random numbers": settings.jax_default_prng_impl}
    return {"config": {**config, **rng, "vocabulary": model.vocab_size}, "code": _code()}


def check_stamp(found: dict[str, Any], expected: dict[str, Any], where: str) -> None:
    """Compares what made a checkpoint with what would go on from it.

    Raises:
        OtherRun: their configurations differ. Other code is allowed, with a warning in the log.
    """
    was, now = found["config"], expected["config"]
    changed = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    if changed:
        told = ", ".join(f"{name} was {was.get(name)} and is {now.get(name)}" for name in changed[:3])
        raise OtherRun(f"{where} is of another run ({told}): give this run its own directory, or the old values")
    if found["code"] != expected["code"]:
        log.warning(
            "%s was made by other code (%s, now %s): the result is of no one version",
            where,
            found["code"],
            expected["code"],
        )


def _science(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _science(value, f"{prefix}{field.name}.")
        elif field.metadata["changes_result"]:
            yield f"{prefix}{field.name}", value


@cache
def _code() -> str:
    """Sixteen hexadecimal characters over the source files."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
