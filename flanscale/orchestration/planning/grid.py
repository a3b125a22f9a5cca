"""Which points does a study have? The product of its axes, less its exclusions, after the user's overrides."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flanscale import config
from flanscale.checks import ConfigError, check_key

if TYPE_CHECKING:
    from flanscale.orchestration.planning.study import Parent, Rule, Study

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


def with_overrides(study: Study, overrides: Sequence[str]) -> Study:
    """The study that the user asks for: an override of an axis replaces its values, any other holds for every cell.

    Hydra's sweep syntax (`seed=0,1,2`, `seed=range(0,5)`, `model=glob(n*)`) is accepted, also for a key that is no
    axis yet, which becomes one.

    Raises:
        ConfigError: not an override, an unknown key or choice, a setting of Hydra itself.
    """
    axes, others = dict(study.axes), list(study.overrides)
    for text in overrides:
        key, values = parse_sweep(text)
        if key in axes or len(values) > 1:
            axes[key] = values
        else:
            others.append(text)
    return replace(study, axes=MappingProxyType(axes), overrides=tuple(others))


def point_overrides(study: Study, axes: Mapping[str, Any]) -> list[str]:
    """One point as overrides, later ones winning: base, the rules that match it, the user's, the axes.

    What the user says of `init` is where a study with stages starts, not where its points do.
    """
    own = [text for text in study.overrides if not (study.parent and _of_init(text))]
    return [*study.base, *_ruled(study.rules, axes), *own, *_axes(axes)]


def stage_overrides(study: Study, stage: Parent, axes: Mapping[str, Any]) -> list[str]:
    """One cell that points start from, as overrides; the user's hold where the stage says nothing itself."""
    given = [text for text in study.overrides if not (stage.parent and _of_init(text))]
    return [*given, *stage.base, *_ruled(stage.rules, axes), *_axes(axes)]


def _ruled(rules: Sequence[Rule], axes: Mapping[str, Any]) -> list[str]:
    return [text for rule in rules if matches(axes, rule.when) for text in rule.overrides]


def _axes(axes: Mapping[str, Any]) -> list[str]:
    return [as_override(key, value) for key, value in axes.items()]


def _of_init(text: str) -> bool:
    return text.lstrip("+").startswith("init.")


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
            key, value = config.parse_override(text)
            values: tuple[Any, ...] = (value,)
        else:
            key = override.key_or_group
            check_key(key)
            values = tuple(override._convert_value(value) for value in override.sweep_iterator())
    except HydraException as error:
        raise ConfigError(f"{text!r} is not an override; expected key=value or key=value,value") from error
    if not values:
        raise ConfigError(f"{text}: no values")
    if key in config.GROUPS:
        for value in values:
            config.check_choice(key, str(value))
    return key, values


class _Groups:
    """What Hydra's parser asks when it meets `glob(...)`."""

    def get_group_options(self, group_name: str, **_: Any) -> list[str]:
        return config.available(group_name)


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
