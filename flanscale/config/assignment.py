"""How is one value of a configuration set? Typed by the schema: in OmegaConf's own, or on a copy of what it made."""

from __future__ import annotations

import copy
import dataclasses
import re
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flanscale.config.checks import fields, is_free_form
from flanscale.errors import ConfigError, one_line
from flanscale.schema import REQUIRED, RunConfig

SIMPLE = ("int", "float", "bool", "str", "list")  # types whose values a later one replaces
_values: dict[str, Any] = {}  # by their override


def assign(config: DictConfig, key: str, value: Any) -> None:
    """Set one dotted key, checking its type against the schema."""
    try:
        OmegaConf.update(config, key, value, merge=True, force_add=is_free_form(key))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}={value}: {one_line(error)}") from error


def independent(config: DictConfig) -> frozenset[str]:
    """The keys that may be set after a configuration has become an object: simple ones to which no other refers."""
    references, missing = references_in(repr(OmegaConf.to_container(config))), OmegaConf.missing_keys(config)
    return frozenset(
        key
        for key, field in fields().items()
        if str(field.type).startswith(SIMPLE) and key not in missing and not refers(references, key)
    )


def references_in(text: str) -> str:
    """All that a text refers to, such as ${cluster.cpus}."""
    return "".join(re.findall(r"\$\{[^}]*\}", text))


def refers(references: str, key: str, value: Any = None) -> bool:
    """Whether they may be to this key, or its value is a reference or a gap."""
    return any(part in references for part in key.split(".")) or "${" in repr(value) or value == REQUIRED


@cache
def _schema() -> DictConfig:
    return OmegaConf.structured(RunConfig)


def typed(key: str, value: Any) -> Any:
    """A value as the schema types it."""
    text = f"{key}={value!r}"
    if text not in _values:
        assign(_schema(), key, value)
        one = OmegaConf.select(_schema(), key)
        _values[text] = OmegaConf.to_container(one) if OmegaConf.is_config(one) else one
    return copy.copy(_values[text])


def copied(config: Any) -> Any:
    """A deep copy of a configuration, much faster than `copy.deepcopy`."""
    new = copy.copy(config)
    for name, value in vars(config).items():
        if dataclasses.is_dataclass(value):
            setattr(new, name, copied(value))
        elif isinstance(value, list | dict):
            setattr(new, name, copy.deepcopy(value))
    return new
