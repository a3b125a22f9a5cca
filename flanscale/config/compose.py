"""How does `conf/` become one checked cell? Composed by Hydra, typed by the schema, kept as `config.yaml`.

Everything a user can get wrong in a configuration is caught here, before anything is created, as a `ConfigError`
(see `flanscale.config.checks`). Imports Hydra, never JAX.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from flanscale.config.assignment import assign, copied, independent, references_in, refers, typed
from flanscale.config.checks import GROUPS, check_combinations, check_value, leaves
from flanscale.config.overrides import as_override, parse_override
from flanscale.config.places import available, conf_path
from flanscale.errors import ConfigError, nearest, one_line
from flanscale.run_directory import CONFIG_FILE, write_atomically
from flanscale.schema import RunConfig

Choices = tuple[tuple[str, str], ...]  # a file for each of some config groups


class Composer:
    """Composes cells from Hydra overrides; what is the same for many cells is composed once.

    OmegaConf takes milliseconds to copy and type a configuration. So it makes one for many cells, and each is a copy
    of it with the last of its values set, every one of them typed by OmegaConf the first time that it is met.
    """

    def __init__(self) -> None:
        self._groups: dict[Choices, tuple[DictConfig, frozenset[str]]] = {}
        self._bases: dict[str, RunConfig] = {}

    def compose(self, overrides: Sequence[str]) -> RunConfig:
        """One cell from overrides in Hydra's grammar (without sweeps), checked; of two of one key the later holds.

        Raises:
            ConfigError: an unknown key or choice, a value of the wrong type or out of range, an impossible combination.
        """
        chosen: dict[str, str] = {}
        values: list[tuple[str, Any]] = []
        for text in overrides:
            key, value = parse_override(text)
            if key in GROUPS and isinstance(value, str):
                chosen[key] = value
            else:
                values.append((key, value))
        choices = tuple(sorted(chosen.items()))
        groups, independent = self._composed(choices)
        references = references_in(repr([value for _, value in values]))
        own = len(values)  # values from here on are set on the copy
        while own and values[own - 1][0] in independent and not refers(references, *values[own - 1]):
            own -= 1
        run: RunConfig = copied(self._base(groups, choices, values[:own]))
        for key, value in values[own:]:
            *sections, name = key.split(".")
            setattr(functools.reduce(getattr, sections, run), name, typed(key, value))
        _check(run)
        return run

    def _composed(self, choices: Choices) -> tuple[DictConfig, frozenset[str]]:
        if choices not in self._groups:
            for choice in choices:
                check_choice(*choice)
            config = _compose_with_hydra(choices)
            self._groups[choices] = config, independent(config)
        return self._groups[choices]

    def _base(self, groups: DictConfig, choices: Choices, values: Sequence[tuple[str, Any]]) -> RunConfig:
        key = repr((choices, values))
        if key not in self._bases:
            config = copy.deepcopy(groups)
            for name, value in values:
                assign(config, name, value)
            self._bases[key] = _to_object(config)
        return self._bases[key]


def _compose_with_hydra(choices: Choices) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    register_schema()
    overrides = [as_override(*choice) for choice in choices]
    try:
        with _hydra_set_aside(), initialize_config_dir(str(conf_path()), version_base="1.3"):
            return compose("run", overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"conf/ cannot be composed with {' '.join(overrides) or 'its defaults'}: {one_line(error)}"
        ) from error


@contextmanager
def _hydra_set_aside() -> Iterator[None]:
    """Let cells be composed while a Hydra that runs this program waits: there can be only one at a time."""
    from hydra.core.global_hydra import GlobalHydra

    instance = GlobalHydra.instance()
    waiting = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = waiting


@cache
def register_schema() -> None:
    """Make known to Hydra what every composed configuration must fit, and where the user's own groups are found."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    from flanscale.config.own_conf import OwnFiles, OwnFolders

    ConfigStore.instance().store(name="schema", node=RunConfig)
    for plugin in (OwnFiles, OwnFolders):
        Plugins.instance().register(plugin)


def check_choice(group: str, choice: str) -> None:
    """Raise `ConfigError` unless `choice` is a file of the config group."""
    choices = available(group)
    if choice not in choices:
        raise ConfigError(f"{group}={choice}: no such choice{nearest(choice, choices)}; there are {', '.join(choices)}")


def checked(config: DictConfig) -> RunConfig:
    """The typed configuration, after every check that needs no files."""
    run = _to_object(config)
    _check(run)
    return run


def _to_object(config: DictConfig) -> RunConfig:
    try:
        return typing.cast(RunConfig, OmegaConf.to_object(config))
    except MissingMandatoryValue:
        raise ConfigError(f"no value for {', '.join(sorted(OmegaConf.missing_keys(config)))}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {one_line(error)}" if error.full_key else one_line(error)) from error


def _check(run: RunConfig) -> None:
    for name, field, value in leaves(run):
        check_value(name, field.metadata, value)
    check_combinations(run)


# --- config.yaml of a run directory -----------------------------------------------------------------------------------


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes what `load` would not read as text: to OmegaConf, as to YAML 1.2, 1e-4 is a number."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def save(config: RunConfig, run_dir: Path) -> None:
    """Write a resolved configuration into a run directory."""
    fields = dataclasses.asdict(config)
    text = yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1)
    write_atomically(run_dir / CONFIG_FILE, text)


def load(run_dir: Path) -> RunConfig:
    """The configuration of a run directory, checked as a composed one.

    Raises:
        ConfigError: the file is missing, is not YAML or does not fit this version's schema.
    """
    path = run_dir / CONFIG_FILE
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(path))
        return checked(typing.cast(DictConfig, merged))
    except (OSError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: {one_line(error)}") from error
    except Exception as error:  # PyYAML's errors have no common public base across its C and Python loaders
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"{path} is not YAML: {one_line(error)}") from error
        raise
