"""What can be wrong in a configuration, and how is it said? In one line: the key, the value, the nearest valid ones.

Also the walk over the schema that every check needs. Imports neither Hydra nor JAX.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from flanscale.errors import ConfigError, closest, did_you_mean, nearest
from flanscale.evaluation.benchmarks import FROM_FILES, open_benchmark
from flanscale.evaluation.item import Ask
from flanscale.pipeline import objectives
from flanscale.schema import EVALUATED, RunConfig
from flanscale.sizing.architecture import check_attention, check_heads, check_model, check_row
from flanscale.tasks.catalog import WITHOUT_RATIONALES
from flanscale.tasks.registry import HELD_OUT, asked_by, asks_held_out

GROUPS = (
    *("model", "collection", "mixture", "objective", "tokenizer"),
    *("optimizer", "trainer", "evaluation", "tracker", "cluster"),
)
TYPED_LATER = ("cluster.sbatch", "cluster.by_model")  # by sbatch, and by the keys of cluster


def check_key(key: str) -> None:
    """Raise `ConfigError` with the nearest valid keys unless `key` is a config group or a key of `RunConfig`."""
    if key in GROUPS or key in (known := fields()):
        return
    if is_free_form(key):
        return
    by_last = {name.rsplit(".", 1)[-1]: name for name in known}
    short = key.rsplit(".", 1)[-1]
    initials = [name for last, name in by_last.items() if "".join(word[0] for word in last.split("_")) == short]
    near = [
        *initials,
        *closest(key, [*known, *GROUPS]),
        *(by_last[last] for last in closest(short, by_last)),
    ]
    raise ConfigError(f"unknown key {key!r}{did_you_mean(dict.fromkeys(near))}")


def check_value(name: str, metadata: Mapping[str, Any], value: Any) -> None:
    """Raise `ConfigError` unless a value, and every part of a list or mapping, is within what its knob allows."""
    if isinstance(value, dict):
        for key, item in value.items():
            check_value(f"{name}.{key}", metadata, item)
        return
    if isinstance(value, list):
        for item in value:
            check_value(name, metadata, item)
        return
    if value is None:
        return
    choices, low, above, high = metadata["choices"], metadata["minimum"], metadata["above"], metadata["maximum"]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}={value}: must be a finite number")
    if choices and value not in choices:
        raise ConfigError(f"{name}={value}: must be one of {', '.join(choices)}{nearest(value, choices)}")
    if low is not None and value < low:
        raise ConfigError(f"{name}={value}: must be at least {low}")
    if above is not None and value <= above:
        raise ConfigError(f"{name}={value}: must be more than {above:g}, or null for none")
    if high is not None and value > high:
        raise ConfigError(f"{name}={value}: must be at most {high}")


def check_combinations(run: RunConfig) -> None:
    """Raise `ConfigError` where two knobs exclude each other, or one needs another."""
    for rule in _RULES:
        for fault in rule(run):
            raise ConfigError(fault)


# --- rules: what is wrong in one section or between sections, most important first ------------------------------------


def _denoisers(run: RunConfig) -> Iterator[str]:
    try:
        objectives.denoisers(run.objective)
    except ValueError as error:
        yield str(error)


def _plain_texts(run: RunConfig) -> Iterator[str]:
    name = run.collection.name
    if name not in ("text", "procedural_text"):
        return
    if not run.objective.denoisers:
        yield f"collection={name} has no answers to learn: choose objective=ul2r, ul2, span_corruption, prefix_lm or lm"
    if run.cot or asks_held_out(run.evaluation):
        yield (
            f"collection={name} asks nothing: set cot=false and evaluation=none (the loss on held-in texts is told"
            " where mixture.validation_examples keeps some back)"
        )


def _objective(run: RunConfig) -> Iterator[str]:
    name, denoisers = run.objective.name, objectives.denoisers(run.objective)
    if run.model.architecture != "decoder" and any(d.kind == "lm" for d in denoisers):
        yield f"objective={name} is for decoders: use objective=prefix_lm for an encoder-decoder"
    if denoisers and run.mixture.renderings > 1:
        yield (
            f"mixture.renderings={run.mixture.renderings} with objective={name}: texts are learned in one wording;"
            " set it to 0 (in memory) or 1 (in the store)"
        )


def _collection(run: RunConfig) -> Iterator[str]:
    name = run.collection.name
    if name in WITHOUT_RATIONALES and run.cot:
        yield f"collection={name} has no rationales: set cot=false"
    for read in (name, run.evaluation.collection or name):
        if run.tokenizer.name == "words" and not read.startswith("procedural"):
            yield (
                f"tokenizer=words knows only the procedural collection's words, not collection={read}:"
                " use tokenizer=t5 or tokenizer=bytes"
            )


def _mixture(run: RunConfig) -> Iterator[str]:
    if run.mixture.renderings > 0 and run.collection.name.startswith("procedural"):
        yield "mixture.renderings keeps texts of files, but the procedural collection makes its own: set it to 0"


def _evaluation(run: RunConfig) -> Iterator[str]:
    evaluation = run.evaluation
    if others := [name for name in evaluation.average if name not in evaluation.asks]:
        yield f"evaluation.average={evaluation.average}: {others[0]!r} is not among evaluation.asks={evaluation.asks}"
    if evaluation.checkpoint == "suite" and run.trainer.steps and run.trainer.keep_checkpoints == 1:
        yield (
            "evaluation.checkpoint=suite chooses among the checkpoints that a run keeps, and"
            " trainer.keep_checkpoints=1 keeps the last one alone"
        )
    for text in evaluation.asks:
        try:
            yield from _ask(Ask.parse(text), run)
        except ConfigError as error:
            yield f"evaluation.asks: {error}"


def _ask(ask: Ask, run: RunConfig) -> Iterator[str]:
    if ask.benchmark in FROM_FILES:
        benchmark = open_benchmark(ask.benchmark, Path())  # reads nothing
        benchmark.setting(ask)
        benchmark.split_of(ask)
    elif ask.benchmark not in (HELD_OUT, *EVALUATED):
        known = (HELD_OUT, *EVALUATED, *FROM_FILES)
        near = nearest(ask.benchmark, known)
        yield f"evaluation.asks: no benchmark {ask.benchmark!r}{near}; there are {', '.join(known)}"
    elif ask.setting not in ("", "direct", "cot"):
        yield f"evaluation.asks: {ask}: {ask.benchmark} has no setting {ask.setting!r}; it has direct, cot"
    else:
        asking = asked_by(run) if ask.benchmark == HELD_OUT else ask.benchmark
        if ask.setting == "cot" and asking in WITHOUT_RATIONALES:
            yield f"evaluation.asks: {ask}, but {asking} has no rationales: ask {ask.benchmark}/direct"


def _training(run: RunConfig) -> Iterator[str]:
    trainer, mesh = run.trainer, run.trainer.mesh
    if run.init.hf is not None and run.init.run is not None:
        yield "init.hf and init.run exclude each other: a cell starts from one"
    if trainer.batch_rows % (trainer.microbatches * mesh.data * mesh.fsdp):
        yield (
            f"trainer.batch_rows={trainer.batch_rows}: must be a multiple of trainer.microbatches × trainer.mesh.data"
            f" × trainer.mesh.fsdp = {trainer.microbatches} × {mesh.data} × {mesh.fsdp}"
        )
    if trainer.select == "best" and run.mixture.count > 0 and run.mixture.validation_examples == 0:
        yield "trainer.select=best needs held-in examples: set mixture.validation_examples to 1 or more"


def _model(run: RunConfig) -> Iterator[str]:
    try:
        check_model(run.model)
        check_heads(run.model, run.trainer.mesh.tensor)
        check_attention(run.model, run.trainer.precision)
        check_row(run.model, run.trainer.input_tokens + run.trainer.target_tokens)
    except ValueError as error:
        yield str(error)


def _homes(run: RunConfig) -> Iterator[str]:
    for section in ("paths", "data", "init", "tokenizer"):
        for name, _, value in leaves(getattr(run, section), f"{section}."):
            if isinstance(value, str) and value.startswith("~"):
                try:
                    Path(value).expanduser()
                except RuntimeError:
                    yield f"{name}={value}: there is no user of this name here, whose home folder ~ would be"


_RULES = (_homes, _denoisers, _plain_texts, _objective, _collection, _mixture, _evaluation, _training, _model)


# --- walking the schema -----------------------------------------------------------------------------------------------


@cache
def fields() -> dict[str, dataclasses.Field[Any]]:
    """Every dotted key of `RunConfig` with its field, sections included."""

    def walk(kind: type, prefix: str) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
        sections = sections_of(kind)
        for field in dataclasses.fields(kind):
            yield f"{prefix}{field.name}", field
            if field.name in sections:
                yield from walk(sections[field.name], f"{prefix}{field.name}.")

    return dict(walk(RunConfig, ""))


@cache
def mapping_of(key: str) -> str | None:
    """The mapping that the key is, or lies in: a knob that takes any key."""
    mappings = [name for name, field in fields().items() if str(field.type).startswith("dict")]
    return next((name for name in mappings if f"{key}.".startswith(f"{name}.")), None)


def is_free_form(key: str) -> bool:
    """Whether the key is, or lies in, a mapping that takes any key."""
    return mapping_of(key) is not None


@cache
def is_section(key: str) -> bool:
    """Whether the key holds knobs and is none itself, such as trainer or trainer.mesh."""
    return any(name.startswith(f"{key}.") for name in fields())


def kind_of(key: str) -> str:
    """What the schema calls the value of a knob, or each value of a list or mapping: int, float, bool, str, Any …"""
    kind = str(fields()[mapping_of(key) or key].type)
    while nested := re.fullmatch(r"dict\[str, (.*)\]|list\[(.*)\]", kind):
        kind = nested[1] or nested[2]
    return kind.removesuffix(" | None")


def is_text(key: str) -> bool:
    """Whether the values of a knob are texts."""
    known = not is_section(key) and (is_free_form(key) or key in fields())
    return known and kind_of(key) == "str"


def keeps_digits(key: str) -> bool:
    """Whether a number that is written there may be a text, such as the account 2024_117."""
    return is_text(key) or (not is_section(key) and mapping_of(key) in TYPED_LATER)


Leaf = tuple[str, dataclasses.Field[Any], Any]


def leaves(config: Any, prefix: str = "") -> list[Leaf]:
    """Every leaf of a configuration: dotted name, field, value."""
    found: list[Leaf] = []
    for full, field, is_section in _members(config.__class__, prefix):
        value = getattr(config, field.name)
        if is_section:
            found += leaves(value, f"{full}.")
        else:
            found.append((full, field, value))
    return found


@cache
def _members(kind: Any, prefix: str) -> list[tuple[str, dataclasses.Field[Any], bool]]:
    sections = sections_of(kind)
    return [(f"{prefix}{field.name}", field, field.name in sections) for field in dataclasses.fields(kind)]


@cache
def sections_of(kind: Any) -> Mapping[str, type]:
    """Of a section's fields those that are sections themselves, with what they are."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(kind)
        if dataclasses.is_dataclass(hints[field.name])
    }
