"""Which cell is it? The configuration as it will run, the hash of what changes its result, and its names.

Data and vocabulary are found and fingerprinted here, when a study is planned, so that no queued cell can miss them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanscale import __version__
from flanscale.config.checks import leaves
from flanscale.errors import ConfigError, DataError, UserError, one_line
from flanscale.pipeline.vocabulary import find_vocabulary, named_end
from flanscale.schema import CollectionConfig, DataConfig, MixtureConfig, ObjectiveConfig, RunConfig, TokenizerConfig
from flanscale.tasks.registry import open_benchmarks, open_collection, open_wordings
from flanscale.tasks.selection import select_tasks
from flanscale.tasks.task import Collection
from flanscale.weights.origin import settle

if TYPE_CHECKING:
    from flanscale.pipeline.tokenizers import Tokenizer


def resolve(config: RunConfig, parent: RunConfig | None = None) -> RunConfig:
    """The cell as it will run: knobs that cannot matter at rest, data found and fingerprinted.

    Two grid points with the same resolved configuration are one cell: at task count 0 nothing is trained, so the
    rationale arm, the mixture and the training length are set to one value.

    Args:
        config: the cell, left as it is.
        parent: the resolved cell that it starts from, if that is planned but perhaps not run yet; its run directory
            is `config.init.run`.

    Raises:
        ConfigError: data or vocabulary that the cell needs is not there.
    """
    config = copy.deepcopy(config)
    if config.mixture.count == 0:
        _train_nothing(config)
    _rest_what_cannot_matter(config, config)
    for field in fields(DataConfig):
        if (path := getattr(config.data, field.name)) is not None:
            setattr(config.data, field.name, str(Path(path).expanduser().resolve()))
    try:
        key = _key(config)
        collection = _collection(key)
        names = _names(key, json.dumps(asdict(config.mixture)), config.cot)
        if config.evaluation.settings and not collection.held_out:
            raise DataError(f"{collection.name} has no held-out task with data here, so nothing could be evaluated")
        settle(config, parent)
        if config.tokenizer.name in ("sentencepiece", "huggingface"):
            vocabulary = find_vocabulary(
                config.tokenizer.vocabulary,
                near=config.data.niv2,
                root=config.data.root,
                tokenizer=config.tokenizer.name,
            )
            config.tokenizer.vocabulary = str(vocabulary)
            config.fingerprints["vocabulary"] = hashlib.sha256(
                vocabulary.read_bytes() + (named_end(vocabulary) or "").encode()
            ).hexdigest()[:16]
        if config.objective.denoisers:
            _check_objective(config)
        config.fingerprints["wordings"] = _wordings(config.mixture.templates, key)
        if config.mixture.contamination != "off":
            config.fingerprints["benchmarks"] = _benchmarks(key, config.mixture.contamination_words)
        if config.collection.name != "procedural":
            config.fingerprints["tasks"] = _fingerprint(key, (*names, *collection.held_out))
    except (UserError, OSError) as error:
        raise ConfigError(one_line(error)) from error
    return config


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
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            _rest_what_cannot_matter(value, config)
        elif (only_if := field.metadata["only_if"]) and not only_if(config):
            setattr(section, field.name, field.default)


# A plan asks for the same data cell after cell.


def _key(config: RunConfig) -> str:
    return json.dumps([asdict(config.collection), asdict(config.data), config.mixture.skip_bad, config.paths.cache])


@cache
def _collection(key: str) -> Collection:
    collection, data, skip_bad, cache = json.loads(key)
    return open_collection(CollectionConfig(**collection), DataConfig(**data), skip_bad=skip_bad, cache=cache)


@cache
def _names(key: str, mixture: str, cot: bool) -> tuple[str, ...]:
    return tuple(select_tasks(_collection(key), MixtureConfig(**json.loads(mixture)), cot=cot))


def _check_objective(config: RunConfig) -> None:
    """Rows and vocabulary have what the denoisers need."""
    from flanscale.pipeline.windows import open_objective  # brings NumPy in, which a plan can mostly do without

    open_objective(config, _tokenizer(json.dumps(asdict(config.tokenizer))))


@cache
def _tokenizer(key: str) -> Tokenizer:
    from flanscale.pipeline.tokenizers import load_tokenizer

    return load_tokenizer(TokenizerConfig(**json.loads(key)))


@cache
def _task_fingerprint(key: str, name: str) -> str:
    return _collection(key).fingerprint(name)


@cache
def _fingerprint(key: str, names: tuple[str, ...]) -> str:
    """Sixteen hexadecimal characters over the content of tasks, in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{_task_fingerprint(key, name)}\n".encode())
    return digest.hexdigest()[:16]


@cache
def _wordings(templates: str, key: str) -> str:
    return open_wordings(templates, DataConfig(**json.loads(key)[1])).fingerprint


@cache
def _benchmarks(key: str, words: int) -> str:
    from flanscale.tasks import guard  # brings NumPy, which other plans do without

    return guard.fingerprint(open_benchmarks(DataConfig(**json.loads(key)[1])), words)


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
