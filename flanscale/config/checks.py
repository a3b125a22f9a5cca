"""What can be wrong in a configuration, and how is it said? In one line: the key, the value, the nearest valid ones.

Also the walk over the schema that every check needs. Imports neither Hydra nor JAX.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from flanscale.errors import ConfigError, closest, did_you_mean, nearest
from flanscale.pipeline import objectives
from flanscale.schema import RunConfig
from flanscale.sizing.architecture import check_heads, check_model, check_row
from flanscale.tasks.on_disk import FOLDERS

GROUPS = (
    *("model", "collection", "mixture", "objective", "tokenizer"),
    *("optimizer", "trainer", "evaluation", "tracker", "cluster"),
)
WITHOUT_RATIONALES = ("niv2", "t0sf", "muffin")


def check_key(key: str) -> None:
    """Raise `ConfigError` with the nearest valid keys unless `key` is a config group or a key of `RunConfig`."""
    if key in GROUPS or key in (known := fields()):
        return
    if is_free_form(key):
        return
    by_last = {name.rsplit(".", 1)[-1]: name for name in known}
    initials = [name for last, name in by_last.items() if "".join(word[0] for word in last.split("_")) == key]
    near = [
        *initials,
        *closest(key, [*known, *GROUPS]),
        *(by_last[last] for last in closest(key.rsplit(".", 1)[-1], by_last)),
    ]
    raise ConfigError(f"unknown key {key!r}{did_you_mean(dict.fromkeys(near))}")


def check_value(name: str, metadata: Mapping[str, Any], value: Any) -> None:
    choices, low, high = metadata["choices"], metadata["minimum"], metadata["maximum"]
    for item in value if isinstance(value, list) else [value]:
        if choices and item is not None and item not in choices:
            raise ConfigError(f"{name}={item}: must be one of {', '.join(choices)}{nearest(item, choices)}")
    if value is not None and low is not None and value < low:
        raise ConfigError(f"{name}={value}: must be at least {low}")
    if value is not None and high is not None and value > high:
        raise ConfigError(f"{name}={value}: must be at most {high}")


def check_combinations(run: RunConfig) -> None:
    """Raise `ConfigError` where two knobs exclude each other, or one needs another."""
    model, evaluation, mixture, data = run.model, run.evaluation, run.mixture, run.data
    name, key = run.collection.name, FOLDERS.get(run.collection.name)
    no_root = data.root is None
    try:
        denoisers = objectives.denoisers(run.objective)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rules = [
        (
            key is not None and no_root and getattr(data, key) is None,
            f"collection={name} needs data.{key}=<folder>, or data.root=<folder that holds {key}/>",
        ),
        (
            name == "flan" and no_root and not (data.cot or data.muffin or data.t0 or data.niv2),
            "collection=flan needs data.root=<folder that holds cot/, muffin/, t0/ and niv2/>",
        ),
        (
            name == "text" and not denoisers,
            "collection=text has no answers to learn: choose objective=ul2r, ul2, span_corruption, prefix_lm or lm",
        ),
        (
            name == "text" and (run.cot or evaluation.settings != []),
            "collection=text asks nothing: set cot=false and evaluation=none (the loss on held-in texts is told where"
            " mixture.validation_examples keeps some back)",
        ),
        (
            model.architecture != "decoder" and any(d.kind == "lm" for d in denoisers),
            f"objective={run.objective.name} is for decoders: use objective=prefix_lm for an encoder-decoder",
        ),
        (
            bool(denoisers) and mixture.renderings > 1,
            f"mixture.renderings={mixture.renderings} with objective={run.objective.name}: texts are learned in one"
            " wording; set it to 0 (in memory) or 1 (in the store)",
        ),
        (
            name in WITHOUT_RATIONALES and (run.cot or "cot" in evaluation.settings),
            f"collection={name} has no rationales: set cot=false and evaluation.settings=[direct]",
        ),
        (
            run.tokenizer.name == "words" and name != "procedural",
            f"tokenizer=words knows only the procedural collection's words, not collection={name}:"
            " use tokenizer=t5 or tokenizer=bytes",
        ),
        (
            mixture.templates == "flan" and no_root and data.flan is None,
            "mixture.templates=flan needs data.flan=<templates.json.gz, or templates.py of a FLAN clone>",
        ),
        (
            mixture.contamination != "off" and no_root and data.benchmarks is None,
            f"mixture.contamination={mixture.contamination} needs data.benchmarks=<folder of benchmark texts>",
        ),
        (
            mixture.renderings > 0 and name == "procedural",
            "mixture.renderings keeps texts of files, but the procedural collection makes its own: set it to 0",
        ),
        (
            not (evaluation.settings or denoisers) or not evaluation.metrics,
            "evaluation.settings and evaluation.metrics must each name at least one",
        ),
        (
            not set(evaluation.average) <= set(evaluation.metrics) or not evaluation.average,
            f"evaluation.average={evaluation.average}: must be some of evaluation.metrics={evaluation.metrics}",
        ),
        (
            run.init.hf is not None and run.init.run is not None,
            "init.hf and init.run exclude each other: a cell starts from one",
        ),
        (
            run.trainer.batch_rows % (run.trainer.microbatches * run.trainer.mesh.data * run.trainer.mesh.fsdp) != 0,
            f"trainer.batch_rows={run.trainer.batch_rows}: must be a multiple of trainer.microbatches ×"
            f" trainer.mesh.data × trainer.mesh.fsdp ="
            f" {run.trainer.microbatches} × {run.trainer.mesh.data} × {run.trainer.mesh.fsdp}",
        ),
        (
            run.trainer.select == "best" and mixture.count > 0 and mixture.validation_examples == 0,
            "trainer.select=best needs held-in examples: set mixture.validation_examples to 1 or more",
        ),
        (
            run.optimizer.clip_norm is not None and run.optimizer.clip_norm <= 0,
            f"optimizer.clip_norm={run.optimizer.clip_norm}: must be positive, or null for no clipping",
        ),
    ]
    for broken, message in rules:
        if broken:
            raise ConfigError(message)
    try:
        check_model(model)
        check_heads(model, run.trainer.mesh.tensor)
        check_row(model, run.trainer.input_tokens + run.trainer.target_tokens)
    except ValueError as error:
        raise ConfigError(str(error)) from None


# --- walking the schema -----------------------------------------------------------------------------------------------


@cache
def fields() -> dict[str, dataclasses.Field[Any]]:
    """Every dotted key of `RunConfig` with its field, sections included."""

    def walk(kind: type, prefix: str) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            yield f"{prefix}{field.name}", field
            if dataclasses.is_dataclass(hints[field.name]):
                yield from walk(hints[field.name], f"{prefix}{field.name}.")

    return dict(walk(RunConfig, ""))


def is_free_form(key: str) -> bool:
    """Whether the key is, or lies in, a section that takes any key."""
    sections = [name for name, field in fields().items() if str(field.type).startswith("dict")]
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every leaf of a configuration: dotted name, field, value."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field, value


# --- saying it -------------------------------------------------------------------------------------------------------
