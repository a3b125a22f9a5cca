"""Which suite does a cell ask? Its lines opened on the data that is here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from flanscale.errors import DataError
from flanscale.evaluation.benchmarks import FROM_FILES, open_benchmark
from flanscale.evaluation.benchmarks.held_out import benchmark as held_out
from flanscale.evaluation.item import Benchmark
from flanscale.evaluation.protocol import Sampling
from flanscale.evaluation.suites import Suite, open_suite
from flanscale.schema import RunConfig
from flanscale.tasks.registry import HELD_OUT, benchmark_folder, open_evaluation, open_wordings


def suite_of(config: RunConfig, learned: Collection[str] = ()) -> Suite:
    """The suite of a cell's configuration; lines that cannot be asked here are its faults.

    Args:
        learned: names of the tasks that the cell learnt; a line that asks one of them is a fault.

    Raises:
        ConfigError: a line is not written as one, or names what its benchmark does not have.
    """

    def opened(name: str) -> Benchmark:
        if name in FROM_FILES:
            return open_benchmark(name, benchmark_folder(config.data, name))
        return _held_out(config, name, learned)

    evaluation = config.evaluation
    return open_suite(
        evaluation.suite,
        evaluation.asks,
        opened,
        items=evaluation.items,
        average=evaluation.average or None,
        sampling=Sampling(evaluation.temperature, seed=evaluation.seed),
    )


def _held_out(config: RunConfig, name: str, learned: Collection[str]) -> Benchmark:
    """Held-out tasks of a collection, in the words of the mixture.

    Raises:
        DataError: it is not here, or some of them were learnt.
    """
    collection = open_evaluation(config, None if name == HELD_OUT else name)
    if known := sorted(set(collection.held_out) & set(learned)):
        raise DataError(f"{len(known)} of the held-out tasks of {name} were learnt, the first of them {known[0]}")
    opened = held_out(
        collection,
        open_wordings(config.mixture.templates, config.data),
        exemplars=config.mixture.exemplars,
        direct_tokens=config.evaluation.direct_tokens,
        cot_tokens=config.evaluation.cot_tokens,
    )
    return opened if name == HELD_OUT else replace(opened, name=name)
