"""Which points does a study have? The product of its axes, less its exclusions, after the user's overrides."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flanscale.config.checks import GROUPS, check_key
from flanscale.config.compose import available, check_choice, parse_override
from flanscale.errors import ConfigError

Axes = Mapping[str, tuple[Any, ...]]
Point = dict[str, Any]  # one value for each axis

PLAIN_WORD = re.compile(r"(?!(?i:true|false|null|nan|inf|infinity)$)[A-Za-z_][A-Za-z0-9_./-]*")


def points(axes: Axes, exclude: Sequence[Axes]) -> list[Point]:
    """Every combination of the axes' values that no exclusion matches, the last axis fastest.

    Raises:
        ConfigError: nothing is left.
    """
    product = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    kept = [point for point in product if not any(matches(point, entry) for entry in exclude)]
    if not kept:
        raise ConfigError(f"exclude: leaves none of the {len(product)} points of the grid")
    return kept


def matches(point: Mapping[str, Any], conditions: Axes) -> bool:
    """Whether a point has one of the values on every axis that the conditions name."""
    return all(any(same(point[key], value) for value in values) for key, values in conditions.items())


def same(a: Any, b: Any) -> bool:
    """Equality that tells `true` from 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def parse_sweep(text: str) -> tuple[str, tuple[Any, ...]]:
    """Split one override in Hydra's grammar, sweeps allowed, into its key and its values.

    Raises:
        ConfigError: not an override, an unknown key or choice, values that cannot be enumerated.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (override,) = OverridesParser.create(config_loader=_Groups()).parse_overrides([text])
        if override.is_hydra_override():
            raise ConfigError(f"{text}: settings of Hydra itself go with `python -m flanscale.run --multirun`")
        if not override.is_sweep_override():
            key, value = parse_override(text)
            values: tuple[Any, ...] = (value,)
        else:
            key = override.key_or_group
            check_key(key)
            values = tuple(override._convert_value(value) for value in override.sweep_iterator())
    except HydraException as error:
        raise ConfigError(f"{text!r} is not an override; expected key=value or key=value,value") from error
    if not values:
        raise ConfigError(f"{text}: no values")
    if key in GROUPS:
        for value in values:
            check_choice(key, str(value))
    return key, values


class _Groups:
    """What Hydra's parser asks when it meets `glob(...)`."""

    def get_group_options(self, group_name: str, **_: Any) -> list[str]:
        return available(group_name)


def as_override(key: str, value: Any) -> str:
    """One axis value as an override in Hydra's grammar."""
    return f"{key}={_literal(value)}"


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not PLAIN_WORD.fullmatch(value):
        escaped = value.replace("'", "\\'")
        return f"'{escaped}'"
    if isinstance(value, list | tuple):
        return f"[{','.join(_literal(item) for item in value)}]"
    return str(value)
