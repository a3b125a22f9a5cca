"""Which suite does a cell ask? Its lines, opened on the data that is here, and the name of what is kept of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache

from flanscale.errors import DataError
from flanscale.evaluation.benchmarks import FROM_FILES, open_benchmark
from flanscale.evaluation.benchmarks.held_out import benchmark as held_out
from flanscale.evaluation.item import Benchmark
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.suites import Suite, open_suite
from flanscale.schema import (
    CollectionConfig,
    DataConfig,
    EvaluationConfig,
    MixtureConfig,
    PathsConfig,
    RunConfig,
)
from flanscale.tasks.registry import HELD_OUT, benchmark_folder, open_evaluation, open_wordings


def suite_of(config: RunConfig) -> Suite:
    """The suite of a cell's configuration, opened once for all cells that ask the same; lines that cannot be asked here
    are its faults.

    Raises:
        ConfigError: a line is not written as one, or names what its benchmark does not have.
    """
    mixture = {name: getattr(config.mixture, name) for name in ("templates", "exemplars", "skip_bad")}
    sections = [vars(config.evaluation), vars(config.collection), vars(config.data), mixture]
    return _suite(json.dumps([*sections, config.paths.cache]))


def check_suite(config: RunConfig) -> None:
    """See that something can be asked, where anything is to be: before a model is trained that nobody could ask.

    Raises:
        ConfigError: as `suite_of`.
        DataError: no line of the suite can be asked here.
    """
    if config.evaluation.asks and not (suite := suite_of(config)).lines:
        first, *others = suite.faults
        more = f" (and {len(others)} more)" if others else ""
        raise DataError(f"nothing of the suite {suite.name} can be asked: {first}{more}")


def evaluation_name(config: RunConfig) -> str:
    """Suite and eight hexadecimal characters over all of it, the precision, the context and whose answers count."""
    chosen = ["suite"] if config.evaluation.checkpoint == "suite" else []
    known = json.dumps([suite_of(config).fingerprint, config.trainer.precision, context_of(config), *chosen])
    return f"{config.evaluation.suite}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def context_of(config: RunConfig) -> int:
    """Positions for a prompt, in a decoder with its answer: as asked for, else as many as rows had in training."""
    trainer = config.trainer
    encodes = config.model.architecture == "encoder_decoder"
    return config.evaluation.context or trainer.input_tokens + (0 if encodes else trainer.target_tokens)


@cache
def _suite(key: str) -> Suite:
    evaluation, collection, data, mixture, cached = json.loads(key)
    config = RunConfig(
        evaluation=EvaluationConfig(**evaluation),
        collection=CollectionConfig(**collection),
        data=DataConfig(**data),
        mixture=MixtureConfig(count=0, **mixture),
        paths=PathsConfig(cache=cached),
    )
    return open_suite(
        config.evaluation.suite,
        config.evaluation.asks,
        lambda name: _opened(config, name),
        items=config.evaluation.items,
        average=config.evaluation.average or None,
        sampling=Sampling(config.evaluation.temperature, seed=config.evaluation.seed),
    )


def _opened(config: RunConfig, name: str) -> Benchmark:
    """A benchmark from files, or held-out tasks of a collection in the words of the mixture.

    Raises:
        DataError: it is not here.
    """
    if name in FROM_FILES:
        return open_benchmark(name, benchmark_folder(config.data, name))
    opened = held_out(
        open_evaluation(config, None if name == HELD_OUT else name),
        open_wordings(config.mixture.templates, config.data),
        exemplars=config.mixture.exemplars,
        direct_tokens=config.evaluation.direct_tokens,
        cot_tokens=config.evaluation.cot_tokens,
    )
    return opened if name == HELD_OUT else replace(opened, name=name)
