"""Which points does a study have? The product of its axes, less its exclusions, after the user's overrides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from flanscale.config.assignment import typed
from flanscale.config.checks import GROUPS
from flanscale.config.compose import check_choice
from flanscale.config.overrides import check_hydra, literal, parse_override, read_override
from flanscale.config.places import available
from flanscale.errors import ConfigError, one_line

Axes = Mapping[str, tuple[Any, ...]]
Point = dict[str, Any]  # one value for each axis


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
    from hydra.errors import HydraException

    check_hydra(text)
    if text.lstrip("+~").startswith(("hydra.", "hydra/")):
        raise ConfigError(f"{text}: settings of Hydra itself go with `python -m flanscale.run --multirun`")
    override = read_override(text)
    key = override.key_or_group
    if not override.is_sweep_override():
        values: tuple[Any, ...] = (parse_override(text)[1],)
    elif override.is_interval_sweep():
        raise ConfigError(f"{text}: an interval has no end of values; list some, {key}=A,B,C, or {key}=range(A,B,STEP)")
    else:
        override.config_loader = _Groups()
        try:
            values = tuple(typed(key, override._convert_value(value)) for value in override.sweep_iterator())
        except HydraException as error:
            raise ConfigError(f"{text!r} is not an override; {one_line(error)}") from error
    if not values:
        raise ConfigError(f"{text}: no values")
    for position, value in enumerate(values):
        if any(same(value, other) for other in values[:position]):
            raise ConfigError(f"{text}: {literal(value)} is listed twice")
        if key in GROUPS and isinstance(value, str):
            check_choice(key, value)
    return key, values


class _Groups:
    """What Hydra's parser asks when it meets `glob(...)`."""

    def get_group_options(self, group_name: str, **_: Any) -> list[str]:
        return available(group_name)
