"""How is one value of a configuration set? Typed by the schema: in OmegaConf's own, or on a copy of what it made."""

from __future__ import annotations

import copy
import re
from decimal import Decimal
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flanscale.config.checks import (
    GROUPS,
    check_key,
    fields,
    is_free_form,
    is_section,
    kind_of,
    mapping_of,
    sections_of,
)
from flanscale.errors import ConfigError, one_line
from flanscale.schema import REQUIRED, RunConfig

SIMPLE = ("int", "float", "bool", "str", "list")  # types whose values a later one replaces
_values: dict[str, Any] = {}  # by their override


def assign(config: DictConfig, key: str, value: Any) -> None:
    """Set one dotted key, checking its type against the schema. A mapping takes the place of the one before."""
    if is_section(key) and isinstance(value, dict):
        for name, inner in value.items():
            assign(config, f"{key}.{name}", inner)
        return
    try:
        OmegaConf.update(config, key, value, merge=is_section(key), force_add=is_free_form(key))
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
    """A value as the schema types it: the one way in which a value that somebody wrote becomes that of a key.

    Raises:
        ConfigError: it is none of the key's type; an unknown key in a section's mapping.
    """
    if key in GROUPS and not isinstance(value, dict):
        return str(value)
    if is_section(key) and isinstance(value, dict):
        for name in value:
            check_key(f"{key}.{name}")
        return {name: typed(f"{key}.{name}", inner) for name, inner in value.items()}
    if "${" in repr(value) or value == REQUIRED:  # known when all is composed
        return value
    text = f"{key}={value!r}"
    if text not in _values:
        _check_written(key, value)
        _values[text] = _in_schema(key, value)
    return copy.deepcopy(_values[text])


def _in_schema(key: str, value: Any) -> Any:
    mapping = mapping_of(key)
    if mapping and key != mapping:
        rest = key.removeprefix(f"{mapping}.")
        if "." in rest or kind_of(key) == "Any":
            return value
        return _in_schema(mapping, {rest: value})[rest]
    assign(_schema(), key, value)
    one = OmegaConf.select(_schema(), key)
    return OmegaConf.to_container(one) if OmegaConf.is_config(one) else one


def _check_written(key: str, value: Any) -> None:
    """Say what to write instead of what looks like a value of the key's type and is none, or another than meant."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_written(key, item)
        return
    kind = kind_of(key) if key in fields() or is_free_form(key) else None
    if kind == "str" and value is not None and not isinstance(value, str):
        raise ConfigError(f"{key}: {value!r} is a {type(value).__name__} and no text here; put what is meant in quotes")
    if kind == "bool" and isinstance(value, int) and value not in (0, 1):
        raise ConfigError(f"{key}={value}: must be true or false")
    if kind == "int" and isinstance(value, float) and value.is_integer():
        raise ConfigError(f"{key}={value}: must be a whole number; write {value:.0f}")
    if kind in ("int", "float") and isinstance(value, str) and (meant := _meant(value.strip())):
        raise ConfigError(f"{key}={value}: not a number; write {meant}")


def _meant(text: str) -> str | None:
    """The number, or numbers, that a text abbreviates or disguises."""
    if re.fullmatch(r"[-+]?0[0-9_]*[0-9]", text):
        return str(int(text.replace("_", "")))
    if short := re.fullmatch(r"([0-9.]*[0-9])([kKmMbB])", text):
        factor = {"k": 10**3, "m": 10**6, "b": 10**9}[short[2].lower()]
        return (
            f"{Decimal(short[1]) * factor:f}".rstrip("0").rstrip(".")
            if "." in short[1]
            else str(int(short[1]) * factor)
        )
    if (span := re.fullmatch(r"([0-9]+)-([0-9]+)", text)) and int(span[1]) <= int(span[2]):
        first, last = int(span[1]), int(span[2])
        listed = ",".join(map(str, range(first, last + 1))) + " or " if last - first < 10 else ""
        return f"{listed}range({first},{last + 1})"
    return None


def copied(config: Any) -> Any:
    """A deep copy of a configuration, much faster than `copy.deepcopy`."""
    new, sections = object.__new__(type(config)), sections_of(config.__class__)
    for name, value in vars(config).items():
        if name in sections:
            value = copied(value)
        elif isinstance(value, list | dict):
            value = copy.deepcopy(value) if value else type(value)()
        vars(new)[name] = value
    return new
