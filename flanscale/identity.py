"""Which cell is it? The configuration as it will run, the hash of what changes its result, and its names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from flanscale import __version__
from flanscale.config.assignment import copied
from flanscale.config.checks import leaves, sections_of
from flanscale.errors import ConfigError, DataError, UserError, one_line
from flanscale.evaluation.opening import check_suite
from flanscale.pipeline.settling import settle_vocabulary
from flanscale.schema import MixtureConfig, ObjectiveConfig, RunConfig
from flanscale.tasks.settling import settle_data
from flanscale.weights.origin import check_ids, settle_start


def resolve(config: RunConfig, parent: RunConfig | None = None, lacking: list[str] | None = None) -> RunConfig:
    """The cell as it will run: knobs that cannot matter at rest, data found and fingerprinted.

    Two grid points with the same resolved configuration are one cell: at task count 0 nothing is trained, so the
    rationale arm, the mixture and the training length are set to one value.

    Args:
        config: the cell, left as it is.
        parent: the resolved cell that it starts from, if that is planned but perhaps not run yet; its run directory
            is `config.init.run`.
        lacking: takes what is not here, a line each, in place of an error; the identity is then not yet the cell's.

    Raises:
        ConfigError: data, weights or vocabulary that the cell needs are not there.
    """
    config = copied(config)
    if config.mixture.count == 0:
        _train_nothing(config)
    _rest_what_cannot_matter(config, config)
    for settle in _settlers(parent):
        try:
            settle(config)
        except (UserError, OSError) as error:
            if lacking is None:
                raise ConfigError(one_line(error)) from error
            lacking.append(one_line(error))
    return config


def verify(config: RunConfig) -> None:
    """See that a resolved cell finds here the content that it was planned with, which its identity speaks of.

    Raises:
        UserError: something is missing, or other than it was; the message says what to do.
    """
    found: RunConfig = copied(config)
    found.fingerprints = {}
    for settle in _settlers():
        settle(found)
    then, now = config.fingerprints, found.fingerprints
    if changed := [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]:
        raise DataError(
            f"{' and '.join(changed)}: not the content with which this cell was planned; bring that back,"
            " or launch the study again: it makes a new cell of what is here now"
        )


def _settlers(parent: RunConfig | None = None) -> tuple[Callable[[RunConfig], None], ...]:
    return settle_data, partial(settle_start, planned=parent), _settle_vocabulary, check_suite


def _settle_vocabulary(config: RunConfig) -> None:
    settle_vocabulary(config)
    check_ids(config)


def _train_nothing(config: RunConfig) -> None:
    """Of what shapes training, only that which shapes prompts too is kept."""
    config.cot = False
    asked = {name: getattr(config.mixture, name) for name in ("exemplars", "templates", "skip_bad")}
    config.mixture = MixtureConfig(count=0, **asked)
    config.trainer.steps = 0
    if config.init.hf is not None or config.init.run is not None:
        config.seed = 0  # of initialisation, data order and dropout, and there is none of them
    config.objective = ObjectiveConfig()


def _rest_what_cannot_matter(section: Any, config: RunConfig) -> None:
    """Sets the knobs of a section to their defaults where what they say of themselves, `only_if`, does not hold."""
    sections = sections_of(section.__class__)
    for field in fields(section):
        value = getattr(section, field.name)
        if field.name in sections:
            _rest_what_cannot_matter(value, config)
        elif (only_if := field.metadata["only_if"]) and not only_if(config):
            setattr(section, field.name, field.default)


def identity(config: RunConfig) -> str:
    """Ten hexadecimal characters over all that changes a resolved cell's result, the project's version included."""
    science = {name: value for name, field, value in leaves(config) if field.metadata["changes_result"]}
    if config.mixture.count == 0:
        kept = {"trainer.input_tokens", "trainer.target_tokens", "trainer.precision"}
        science = {k: v for k, v in science.items() if k in kept or not k.startswith(("optimizer.", "trainer."))}
    text = json.dumps({"flanscale": __version__, **science}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def slug(config: RunConfig) -> str:
    """A readable name of a cell for its run directory: what it learns from, its size and its seed."""
    parts = [
        config.collection.name,
        config.model.name,
        str(config.mixture.count),
        *([config.objective.name] if config.objective.denoisers else ["cot" if config.cot else "direct"]),
        *([f"draw{config.mixture.order_seed}"] if config.mixture.order == "random" else []),
        f"s{config.seed}",
    ]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))


def run_name(config: RunConfig) -> str:
    """The run directory's name: identity first, so that it is unique, then the readable part."""
    return f"{identity(config)}-{slug(config)}"
