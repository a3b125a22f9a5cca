"""In what does a configuration differ from the default one? Overrides that would make it, as few as can be found.

From the files of `conf/` and the schema alone: nothing is composed, so that a run of any version can be described.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import yaml

from flanscale.config.checks import GROUPS
from flanscale.config.places import available, conf_path, group_files
from flanscale.schema import RunConfig

NOT_CHOSEN = (
    "paths",
    "fingerprints",
    "sweep",
    "tracker.group",
    "cluster.environment",
)  # where it lies, and what follows from the rest


def difference(config: Mapping[str, Any]) -> list[str]:
    """Overrides, groups first: what differs from `conf/run.yaml` in a configuration of plain values."""
    own, schema = _flat(config), _flat(dataclasses.asdict(RunConfig()))
    run = yaml.safe_load((conf_path() / "run.yaml").read_text(encoding="utf-8"))
    defaults = {
        group: choice for entry in run["defaults"] if isinstance(entry, dict) for group, choice in entry.items()
    }
    chosen, expected = [], dict(schema)
    for group in GROUPS:
        choices = {name: _choice(group, name, schema) for name in (defaults[group], *available(group))}
        best = min(choices, key=lambda name: _apart(own, choices[name], group))  # the first of several: the default
        if best != defaults[group]:
            chosen.append(f"{group}={best}")
        expected |= choices[best]
    rest = [key for key, value in own.items() if value != expected.get(key)]
    return [*chosen, *(f"{key}={_value(own[key])}" for key in rest if not _below(key, NOT_CHOSEN))]


def _choice(group: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a group as one of its files sets them."""
    text = group_files(group)[name].read_text(encoding="utf-8")
    inside = {key: value for key, value in schema.items() if _below(key, (group,))}
    return inside | _flat(yaml.safe_load(text) or {}, f"{group}.")


def _apart(own: Mapping[str, Any], other: Mapping[str, Any], group: str) -> int:
    keys = [key for key in {*own, *other} if _below(key, (group,)) and not _below(key, NOT_CHOSEN)]
    return sum(own.get(key) != other.get(key) for key in keys)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value; YAML 1.1 takes 1e-4 for a text, and numbers are compared as numbers."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = _number(value)
    return leaves


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _below(key: str, places: tuple[str, ...]) -> bool:
    return any(f"{key}.".startswith(f"{place}.") for place in places)
