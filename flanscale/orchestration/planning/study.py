"""What does a study ask? Reads a study file (`sweeps/*.yaml`) strictly: axes, exclusions, what cells share, stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flanscale.config.assignment import typed
from flanscale.config.checks import GROUPS, check_key
from flanscale.config.compose import check_choice
from flanscale.config.overrides import as_override, parse_override
from flanscale.config.places import sweeps_path
from flanscale.config.strict_yaml import read_yaml
from flanscale.errors import ConfigError, nearest
from flanscale.orchestration.planning.figures import axis_title, axis_value
from flanscale.orchestration.planning.grid import Axes, matches, parse_sweep, points, same

KEYS = ("title", "description", "base", "axes", "exclude", "set", "parent")
PARENT_KEYS = ("inherit", "base", "set", "parent")


@dataclass(frozen=True)
class Rule:
    """Overrides of the points that match: have, on every axis of `when`, one of its values."""

    when: Axes
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Parent:
    """A stage that points start from: one cell for each combination of the inherited axes' values."""

    inherit: tuple[str, ...] = ()  # axes of the study
    base: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    parent: Parent | None = None  # the stage before this one


@dataclass(frozen=True)
class Study:
    """The question: every combination of the axes' values, less the exclusions."""

    name: str
    axes: Axes
    title: str = ""
    description: str = ""
    base: tuple[str, ...] = ()  # Hydra overrides of every point
    exclude: tuple[Axes, ...] = ()  # a point is left out when it matches all keys of one entry
    rules: tuple[Rule, ...] = ()  # overrides of some points, over `base`; later ones win
    parent: Parent | None = None
    overrides: tuple[str, ...] = ()  # the user's, over base and rules


def load_study(name: str) -> Study:
    """Read a study by name (the user's own `sweeps/` first, then the shipped ones) or by the path of its file.

    Raises:
        ConfigError: there is no such study, or its file breaks a rule; the message names the file and the key.
    """
    path = study_file(name)
    text = read_yaml(path)
    try:
        return parse_study(path.stem, text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def study_file(name: str) -> Path:
    """The file of a study.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"no study file at {name}")
    known = available_studies()
    if name in known:
        return known[name]
    there = ", ".join(sorted(known)) or "none"
    raise ConfigError(f"no study {name!r}{nearest(name, known)}; there are {there}")


def available_studies() -> dict[str, Path]:
    """Every study's file by name; one in the working directory's `sweeps/` hides a shipped one of the same name."""
    folders = (sweeps_path(), Path.cwd() / "sweeps")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def register_sweeps() -> None:
    """Make every study known to Hydra as a choice of the config group `sweep`: `--multirun +sweep=NAME`."""
    from hydra.core.config_store import ConfigStore

    for name in available_studies():
        ConfigStore.instance().store(group="sweep", name=name, node={"name": name})


def parse_study(name: str, text: Any) -> Study:
    """Check the content of a study file.

    Raises:
        ConfigError: an unknown or missing key; an axis, exclusion, rule or stage that makes no sense.
    """
    if not isinstance(text, dict) or not isinstance(text.get("axes"), dict) or not text["axes"]:
        raise ConfigError("expected a mapping with at least `axes: {<config key>: [values]}`")
    _check_keys(text, KEYS, "a study")
    for key in ("title", "description"):
        if not isinstance(text.get(key, ""), str):
            raise ConfigError(f"{key}: expected text, got {text[key]!r}")
    axes = {str(key): _axis(str(key), values) for key, values in text["axes"].items()}
    exclude = tuple(_conditions("exclude", entry, axes) for entry in _entries("exclude", text))
    grid = points(axes, exclude)  # raises when nothing is left
    study = Study(
        name=name,
        title=text.get("title", name),
        description=text.get("description", "").strip(),
        base=_overrides("base", text.get("base") or [], axes),
        axes=MappingProxyType(axes),
        exclude=exclude,
        rules=_rules("set", text, axes),
        parent=_parent("parent", text["parent"], axes) if "parent" in text else None,
    )
    for rule in study.rules:
        if not any(matches(point, rule.when) for point in grid):
            raise ConfigError(f"set: {described(rule.when)} matches no point: `exclude` leaves them all out")
    return study


def described(conditions: Axes) -> str:
    """Conditions in a few words."""
    return ", ".join(f"{axis_title(key)}={'|'.join(map(axis_value, values))}" for key, values in conditions.items())


def _check_keys(text: Mapping[Any, Any], keys: Sequence[str], what: str) -> None:
    for key in text:
        if key not in keys:
            raise ConfigError(f"unknown key {key!r}{nearest(key, keys)}; {what} has {', '.join(keys)}")


def _entries(where: str, text: Mapping[str, Any]) -> list[Any]:
    entries = text.get(where.rsplit(".", 1)[-1]) or []
    if not isinstance(entries, list):
        raise ConfigError(f"{where}: expected a list, got {entries!r}")
    return entries


def _axis(key: str, values: Any) -> tuple[Any, ...]:
    check_key(key)
    if not isinstance(values, list):
        raise ConfigError(f"axes.{key}: expected a list of values, got {values!r}; write [{values}]")
    if not values:
        raise ConfigError(f"axes.{key}: the list of values is empty")
    typed_values: list[Any] = []
    for written in values:
        if isinstance(written, dict):
            raise ConfigError(f"axes.{key}: a value is a number, a word or a list, not a mapping: {written!r}")
        value = _typed("axes", key, written)
        if any(same(value, other) for other in typed_values):
            raise ConfigError(f"axes.{key}: {written!r} is listed twice")
        if key in GROUPS:
            check_choice(key, value)
        typed_values.append(value)
    return tuple(typed_values)


def _typed(where: str, key: str, value: Any) -> Any:
    try:
        return typed(key, value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _overrides(where: str, overrides: Any, axes: Mapping[str, Any]) -> tuple[str, ...]:
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise ConfigError(f"{where}: expected a list of overrides such as trainer.steps=500, got {overrides!r}")
    for text in overrides:
        key, _ = parse_override(text)
        if key in axes:
            raise ConfigError(f"{where}: {text} sets {key}, which is an axis")
    return tuple(overrides)


def _conditions(where: str, entry: Any, axes: Axes) -> Axes:
    if not isinstance(entry, dict) or not entry:
        raise ConfigError(f"{where}: expected {{axis: value}}, got {entry!r}")
    conditions: dict[str, tuple[Any, ...]] = {}
    for key, wanted in entry.items():
        if key not in axes:
            raise ConfigError(f"{where}: {key!r} is no axis of this study; its axes are {', '.join(axes)}")
        listed = wanted if isinstance(wanted, list) else [wanted]
        conditions[key] = tuple(_typed(where, key, value) for value in listed)
        for value in conditions[key]:
            if not any(same(value, known) for known in axes[key]):
                raise ConfigError(f"{where}: {key}={value} matches no point; the values of {key} are {list(axes[key])}")
    return conditions


def _rules(where: str, text: Mapping[str, Any], axes: Axes) -> tuple[Rule, ...]:
    rules = []
    for entry in _entries(where, text):
        if not isinstance(entry, dict) or set(entry) != {"when", "set"} or not entry["set"]:
            raise ConfigError(f"{where}: expected {{when: {{axis: value}}, set: [overrides]}}, got {entry!r}")
        rules.append(Rule(_conditions(f"{where}.when", entry["when"], axes), _overrides(where, entry["set"], axes)))
    return tuple(rules)


def _parent(where: str, text: Any, axes: Axes) -> Parent:
    """A stage; `axes` are those that it may inherit."""
    if not isinstance(text, dict) or not text:
        raise ConfigError(f"{where}: expected {{inherit: [axes], base: [overrides]}}, got {text!r}")
    _check_keys(text, PARENT_KEYS, f"a {where}")
    inherit = text.get("inherit") or []
    if not isinstance(inherit, list):
        raise ConfigError(f"{where}.inherit: expected a list of axes, got {inherit!r}")
    for key in inherit:
        if key not in axes:
            raise ConfigError(f"{where}.inherit: {key!r} is none of the axes {', '.join(axes) or '(there are none)'}")
    own = {key: axes[key] for key in inherit}
    return Parent(
        inherit=tuple(inherit),
        base=_overrides(f"{where}.base", text.get("base") or [], own),
        rules=_rules(f"{where}.set", text, own),
        parent=_parent(f"{where}.parent", text["parent"], own) if "parent" in text else None,
    )


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
