"""Where does a cell start? Found and fingerprinted when it is planned, so that no queued cell can miss it.

Imports no JAX: headers, config.json and vocabulary are looked at, the numbers are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from flanscale.config.places import group_files
from flanscale.errors import WeightsError
from flanscale.pipeline.settling import settled_tokenizer
from flanscale.run_directory import find_run
from flanscale.schema import ModelConfig, RunConfig
from flanscale.weights.config_json import check_config, check_head, family_of
from flanscale.weights.fingerprint import fingerprint
from flanscale.weights.names import homes
from flanscale.weights.opening import open_source
from flanscale.weights.vocabulary import check_special, check_vocabulary, special_ids, vocabulary_of

NOT_OF_THE_TREE = ("name", "dropout", "prefix_lm", "bos_id", "max_positions")  # of the model; may differ from a run's


def settle_start(config: RunConfig, planned: RunConfig | None = None) -> None:
    """Make `init.*` absolute, take the weights' own vocabulary where none is given, and fingerprint the start.

    Args:
        config: the cell.
        planned: what runs in the directory `init.run`, where that need not exist yet.

    Raises:
        WeightsError: there are no such weights, or they are not this cell's model or vocabulary.
    """
    if config.init.hf is not None:
        path = Path(config.init.hf).expanduser()
        _inspect(str(path), json.dumps(asdict(config.model)))
        path = path.resolve()
        config.init.hf = str(path)
        if config.tokenizer.name in ("huggingface", "sentencepiece"):
            if config.tokenizer.vocabulary is None:
                own = _vocabulary(path, config.tokenizer.name, Path(config.paths.cache).expanduser())
                config.tokenizer.vocabulary = None if own is None else str(own)
            else:
                _check_vocabulary(path, Path(config.tokenizer.vocabulary).expanduser())
        config.fingerprints["init"] = _fingerprint(path)
    if config.init.run is not None:
        if planned:
            directory, other = Path(config.init.run), planned
        else:
            directory = find_run(config.init.run, Path(config.paths.runs).expanduser())
            other = _configuration(directory)
        _check_run(config, other)
        config.init.run = str(directory.resolve())
        config.fingerprints["init"] = f"run {directory.name.split('-')[0]}"


def models_of(path: Path) -> list[str]:
    """The choices of `conf/model` that weights are of, by their configuration.

    Raises:
        WeightsError: there are no such weights, or none of the models is theirs.
    """
    open_source(str(path))
    found = []
    for name, file in group_files("model").items():
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        try:
            _inspect(str(path), json.dumps(asdict(ModelConfig(**values))))
        except (WeightsError, TypeError):
            continue
        found.append(name)
    if not found:
        raise WeightsError(f"{path}: no model of conf/model has its configuration; say which it is like with model=")
    return found


def check_ids(config: RunConfig) -> None:
    """Holds what the weights say of ids against the vocabulary of the cell, once both are settled.

    Raises:
        WeightsError: the table has other rows, or a special token is another id.
    """
    if config.init.hf is None or "init" not in config.fingerprints:
        return
    from flanscale.pipeline.tokenizers import embedding_rows  # these two bring NumPy in, which most plans do without
    from flanscale.weights.hf import CONFIG

    tokenizer = settled_tokenizer(config.tokenizer)
    said = _ids_said(config.init.hf)
    rows = embedding_rows(config.model, tokenizer)
    table = said[CONFIG].get("vocab_size", rows)
    if table != rows:
        raise WeightsError(
            f"init.hf={config.init.hf}: vocab_size={table} there means model.vocab_size={table}, not {rows}, which is"
            f" what the {tokenizer.vocab_size} ids of the tokenizer are padded to"
        )
    used = special_ids(config.model, tokenizer.eos_id)
    for file, given in said.items():
        check_special(used, given, f"init.hf={config.init.hf}: {file}")


def _check_run(config: RunConfig, other: RunConfig) -> None:
    was, now = asdict(other.model), asdict(config.model)
    of_the_tree = [knob.name for knob in fields(config.model) if knob.metadata["changes_result"]]
    scope = [name for name in of_the_tree if name not in NOT_OF_THE_TREE and was[name] != now[name]]
    if scope:
        told = ", ".join(f"model.{name} was {was[name]} and is {now[name]}" for name in scope[:3])
        raise WeightsError(f"init.run={config.init.run} trained another model: {told}")
    if other.tokenizer.name != config.tokenizer.name:
        raise WeightsError(
            f"init.run={config.init.run} was trained with tokenizer={other.tokenizer.name}, not {config.tokenizer.name}"
        )
    if config.tokenizer.vocabulary is None:
        config.tokenizer.vocabulary = other.tokenizer.vocabulary
    elif other.tokenizer.vocabulary and Path(other.tokenizer.vocabulary).is_file():
        theirs, ours = Path(other.tokenizer.vocabulary), Path(config.tokenizer.vocabulary).expanduser()
        if theirs.read_bytes() != ours.read_bytes():
            raise WeightsError(
                f"init.run={config.init.run} was trained with another vocabulary than"
                f" tokenizer.vocabulary={config.tokenizer.vocabulary}: leave it out to take that run's"
            )


# A plan asks for the same weights cell after cell.


@cache
def _configuration(directory: Path) -> RunConfig:
    from flanscale.config.compose import load

    return load(directory)


@cache
def _ids_said(path: str) -> dict[str, Mapping[str, Any]]:
    """File → what it says, of those that speak of ids."""
    from flanscale.weights.hf import CONFIG, GENERATION, read_json

    source = open_source(path)
    generation = Path(path) / GENERATION
    return {CONFIG: source.config} | ({GENERATION: read_json(generation)} if generation.is_file() else {})


@cache
def _inspect(path: str, model: str) -> None:
    source = open_source(path)
    config = ModelConfig(**json.loads(model))
    family = family_of(source.config, path)
    # Whether a head is its own is only seen in the numbers, which are left to the cell.
    head = homes(family, config, source.tensors)["vocabulary/head"].tensor
    check_head(source.config, head, source.tensors, path)
    own_head = head in source.tensors and not config.tie_embeddings
    rows = config.vocab_size or source.config.get("vocab_size") or 0
    where = path if source.path.is_file() else f"{path}/config.json"
    check_config(config, rows, source.config, own_head=own_head, where=where)


_fingerprint = cache(fingerprint)
_vocabulary = cache(vocabulary_of)
_check_vocabulary = cache(check_vocabulary)
