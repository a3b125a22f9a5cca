"""What is one cell? Composes `conf/` into a checked `RunConfig` and gives the cell its identity.

Everything a user can get wrong in a configuration is caught here, before anything is created, as a `ConfigError`
of one line that names the key, the value and the nearest valid ones. Imports Hydra, never JAX.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
import typing
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from flanscale import __version__
from flanscale.pipeline.vocabulary import VocabularyError, find_vocabulary
from flanscale.schema import MixtureConfig, RunConfig
from flanscale.tasks import niv2
from flanscale.tasks.mixture import select_tasks
from flanscale.tasks.registry import open_collection
from flanscale.tasks.task import DataError

GROUPS = ("model", "collection", "mixture", "tokenizer", "optimizer", "trainer", "evaluation", "tracker", "cluster")
CONFIG_FILE = "config.yaml"


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line for the user."""


# --- where the configuration lies ------------------------------------------------------------------------------


def conf_path() -> Path:
    """The folder of config groups: inside the installed package, or at the clone's top level."""
    return _shipped("conf")


def sweeps_path() -> Path:
    """The folder of study files: inside the installed package, or at the clone's top level."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def _user_conf() -> Path | None:
    """A `conf/` folder of the user's own in the working directory; its groups are found beside the shipped ones."""
    own = Path.cwd() / "conf"
    return own if own.is_dir() and own.resolve() != conf_path() else None


def available(group: str) -> list[str]:
    """The choices of a config group, the user's own included."""
    folders = [conf_path(), _user_conf()]
    return sorted({file.stem for folder in folders if folder for file in (folder / group).glob("*.yaml")})


# --- composing ---------------------------------------------------------------------------------------------------


class Composer:
    """Composes cells from Hydra overrides; what is the same for many cells is composed once."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> RunConfig:
        """One cell from overrides in Hydra's grammar (without sweeps), checked.

        Raises:
            ConfigError: an unknown key or choice, a value of the wrong type or out of range, an impossible combination.
        """
        choices, values = [], []
        for text in overrides:
            key, value = parse_override(text)
            if key in GROUPS and isinstance(value, str):
                check_choice(key, value)
                choices.append(f"{key}={value}")
            else:
                values.append((key, value))
        config = copy.deepcopy(self._base(tuple(sorted(choices))))
        for key, value in values:
            assign(config, key, value)
        return checked(config)

    def _base(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._bases:
            self._bases[choices] = _compose_with_hydra(choices)
        return self._bases[choices]


def _compose_with_hydra(choices: Sequence[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    register_schema()
    own = _user_conf()
    searchpath = [f"hydra.searchpath=[file://{own}]"] if own else []
    try:
        with initialize_config_dir(str(conf_path()), version_base="1.3"):
            return compose("run", overrides=[*choices, *searchpath])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"conf/ cannot be composed with {' '.join(choices) or 'its defaults'}: {_one_line(error)}"
        ) from error


def register_schema() -> None:
    """Make `RunConfig` known to Hydra as the type that every composed configuration must fit."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RunConfig)


@cache
def parse_override(text: str) -> tuple[str, Any]:
    """Split one Hydra override into its key and its value.

    Raises:
        ConfigError: not an override, a sweep over several values, or a key that does not exist.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(f"{text!r} is not an override; expected key=value, e.g. trainer.steps=500") from error
    if override.is_sweep_override():
        raise ConfigError(
            f"{text!r} lists several values; one cell takes one (sweep with `flanscale launch` or --multirun)"
        )
    if override.is_delete():
        raise ConfigError(f"{text!r}: a key cannot be deleted; set it instead, e.g. {override.key_or_group}=null")
    check_key(override.key_or_group)
    return override.key_or_group, override.value()


def check_key(key: str) -> None:
    """Raise `ConfigError` with the nearest valid keys unless `key` is a config group or a key of `RunConfig`."""
    if key in GROUPS or key in (known := _fields()):
        return
    if _is_free_form(key):
        return
    candidates = [*known, *GROUPS]
    near = get_close_matches(key, candidates, n=3, cutoff=0.6)
    by_last = {name.rsplit(".", 1)[-1]: name for name in known}
    near += [by_last[last] for last in get_close_matches(key.rsplit(".", 1)[-1], by_last, n=2, cutoff=0.7)]
    near += [name for name in known if "".join(word[0] for word in name.rsplit(".", 1)[-1].split("_")) == key]
    raise ConfigError(f"unknown key {key!r}{_did_you_mean(dict.fromkeys(near))}")


def check_choice(group: str, choice: str) -> None:
    """Raise `ConfigError` unless `choice` is a file of the config group."""
    choices = available(group)
    if choice not in choices:
        near = get_close_matches(choice, choices, n=2, cutoff=0.5)
        raise ConfigError(f"{group}={choice}: no such choice{_did_you_mean(near)}; there are {', '.join(choices)}")


def assign(config: DictConfig, key: str, value: Any) -> None:
    """Set one dotted key, checking its type against the schema."""
    try:
        OmegaConf.update(config, key, value, merge=True, force_add=_is_free_form(key))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}={value}: {_one_line(error)}") from error


def checked(config: DictConfig) -> RunConfig:
    """The typed configuration, after every check that needs no files."""
    try:
        run = typing.cast(RunConfig, OmegaConf.to_object(config))
    except MissingMandatoryValue:
        raise ConfigError(f"no value for {', '.join(sorted(OmegaConf.missing_keys(config)))}") from None
    for name, field, value in leaves(run):
        _check_value(name, field.metadata, value)
    _check_combinations(run)
    return run


# --- checks --------------------------------------------------------------------------------------------------------


def _check_value(name: str, metadata: typing.Mapping[str, Any], value: Any) -> None:
    choices, low, high = metadata["choices"], metadata["minimum"], metadata["maximum"]
    for item in value if isinstance(value, list) else [value]:
        if choices and item not in choices:
            near = get_close_matches(str(item), choices, n=1, cutoff=0.5)
            raise ConfigError(f"{name}={item}: must be one of {', '.join(choices)}{_did_you_mean(near)}")
    if value is not None and low is not None and value < low:
        raise ConfigError(f"{name}={value}: must be at least {low}")
    if value is not None and high is not None and value > high:
        raise ConfigError(f"{name}={value}: must be at most {high}")


def _check_combinations(run: RunConfig) -> None:
    model, evaluation = run.model, run.evaluation
    rules = [
        (
            run.collection.name == "niv2" and run.data.niv2 is None,
            "collection=niv2 needs data.niv2=<folder of Super-NaturalInstructions, with tasks/ and splits/>",
        ),
        (
            run.collection.name == "niv2" and (run.cot or "cot" in evaluation.settings),
            "collection=niv2 has no rationales: set cot=false and evaluation.settings=[direct]",
        ),
        (
            run.tokenizer.name == "words" and run.collection.name != "procedural",
            f"tokenizer=words knows only the procedural collection's words, not collection={run.collection.name}:"
            " use tokenizer=t5 or tokenizer=bytes",
        ),
        (
            model.architecture == "decoder" and model.head_dim % 2 == 1,
            f"model.head_dim={model.head_dim}: rotary positions need an even number",
        ),
        (
            not evaluation.settings or not evaluation.metrics,
            "evaluation.settings and evaluation.metrics must each name at least one",
        ),
        (
            not set(evaluation.average) <= set(evaluation.metrics) or not evaluation.average,
            f"evaluation.average={evaluation.average}: must be some of evaluation.metrics={evaluation.metrics}",
        ),
        (
            run.optimizer.clip_norm is not None and run.optimizer.clip_norm <= 0,
            f"optimizer.clip_norm={run.optimizer.clip_norm}: must be positive, or null for no clipping",
        ),
    ]
    for broken, message in rules:
        if broken:
            raise ConfigError(message)


# --- identity ------------------------------------------------------------------------------------------------------


def resolve(config: RunConfig) -> RunConfig:
    """The cell as it will run: knobs that cannot matter at rest, data found and fingerprinted.

    Two grid points with the same resolved configuration are one cell: at task count 0 nothing is trained, so the
    rationale arm, the mixture and the training length are set to one value.

    Raises:
        ConfigError: data or vocabulary that the cell needs is not there.
    """
    config = copy.deepcopy(config)
    if config.mixture.count == 0:
        config.cot = False
        config.mixture = MixtureConfig(count=0, exemplars=config.mixture.exemplars)
        config.trainer.steps = 0
    if config.mixture.order == "paper":
        config.mixture.order_seed = 0
    if not config.cot:
        config.mixture.cot_fraction = MixtureConfig(count=0).cot_fraction
    try:
        if config.data.niv2 is not None and config.collection.name == "niv2":
            folder = Path(config.data.niv2).expanduser().resolve()
            config.data.niv2 = str(folder)
            config.fingerprints["niv2"] = niv2.fingerprint(folder, config.collection.split)
        if config.tokenizer.name == "sentencepiece":
            vocabulary = find_vocabulary(config.tokenizer.vocabulary, near=config.data.niv2)
            config.tokenizer.vocabulary = str(vocabulary)
            config.fingerprints["vocabulary"] = hashlib.sha256(vocabulary.read_bytes()).hexdigest()[:16]
        collection = open_collection(config.collection, config.data)
        select_tasks(collection, config.mixture)
        if not collection.held_out:
            raise DataError(f"{collection.name} has no held-out task with data here, so nothing could be evaluated")
    except (DataError, VocabularyError, OSError) as error:
        raise ConfigError(_one_line(error)) from error
    return config


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
        "cot" if config.cot else "direct",
        *([f"draw{config.mixture.order_seed}"] if config.mixture.order == "random" else []),
        f"s{config.seed}",
    ]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))


def run_name(config: RunConfig) -> str:
    """The run directory's name: identity first, so that it is unique, then the readable part."""
    return f"{identity(config)}-{slug(config)}"


# --- config.yaml of a run directory -----------------------------------------------------------------------------------


def save(config: RunConfig, path: Path) -> None:
    """Write a resolved configuration as YAML."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")


def load(path: Path) -> RunConfig:
    """Read what `save` wrote.

    Raises:
        ConfigError: the file is missing, is not YAML or does not fit this version's schema.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(path))
        return checked(typing.cast(DictConfig, merged))
    except (OSError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from error
    except Exception as error:  # PyYAML's errors have no common public base across its C and Python loaders
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"{path} is not YAML: {_one_line(error)}") from error
        raise


# --- walking the schema -----------------------------------------------------------------------------------------------


@cache
def _fields() -> dict[str, dataclasses.Field[Any]]:
    """Every dotted key of `RunConfig` with its field, sections included."""

    def walk(kind: type, prefix: str) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            yield f"{prefix}{field.name}", field
            if dataclasses.is_dataclass(hints[field.name]):
                yield from walk(hints[field.name], f"{prefix}{field.name}.")

    return dict(walk(RunConfig, ""))


def _is_free_form(key: str) -> bool:
    """Whether the key is, or lies in, a section that takes any key."""
    sections = [name for name, field in _fields().items() if str(field.type).startswith("dict")]
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every leaf of a configuration: dotted name, field, value."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field, value


def _did_you_mean(near: typing.Iterable[str]) -> str:
    names = list(near)[:3]
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _one_line(error: BaseException) -> str:
    """What a library's message says before its diagnostics."""
    lines = str(error).strip().split("\n")
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
