"""An item is called the same by the benchmark that asks it and by the guard that finds it in training data."""

from pathlib import Path

import pytest

from flanscale.evaluation.benchmarks import FROM_FILES, open_benchmark
from flanscale.evaluation.item import Ask
from flanscale.tasks.benchmark_texts import load_benchmarks


@pytest.mark.data
@pytest.mark.parametrize("name", FROM_FILES)
def test_every_item_that_is_asked_is_one_that_the_guard_knows(name: str, shared_data: Path) -> None:
    known = {text.item for text in load_benchmarks(shared_data) if text.benchmark == name}
    benchmark = open_benchmark(name, shared_data / name)
    for setting in benchmark.settings:
        keys = [item.key for item in benchmark.asked(Ask(name, setting.name)).items]
        assert keys
        assert set(keys) <= known
        assert len(set(keys)) == len(keys)
