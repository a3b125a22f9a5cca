"""Nothing that may stand in the logs of a study ends in a traceback: numbers, or one clear line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_study import AXES, write_study

from analysis import answers, contrasts, gate, panels, report, sources, tables
from analysis.runs import AnalysisError

SMALL = AXES | {"model": ["nano"], "mixture.count": [0, 9, 89]}
FIELDS = ("score", "stderr", "stderr_tasks", "n", "lower_bound", "normalized", "prompts")
KEYS = [f"eval/procedural/{setting}/{field}" for setting in ("direct", "cot") for field in FIELDS]
KEYS += ["eval/normalized_average", "eval/normalized_average_stderr", "eval/normalized_average_members"]
KEYS += ["mixture/tasks", "train/loss", "eval/new/direct/score", "eval/a/b/c/d", "eval/$^$/direct/score"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        [0, 0.0, 100, 100.0, -1, 1e308, 10**400, "NaN", [], {}, ["procedural/cot"], ["no/such"], [1, None]]
    ),
)
CHANGES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(KEYS), VALUES, st.booleans()), max_size=12)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("fuzz"), axes=SMALL, records=False).parents[1]


def read(index: Path) -> None:
    """Everything that a report says, but for the drawing."""
    study = sources.read(index)
    analysed = panels.analyse(study)
    asked, _ = contrasts.ask(study, analysed)
    gate.in_a_line(gate.findings(study, analysed))
    for panel, found in zip(analysed, asked, strict=True):
        answers.answers(panel, found)
        for table in (tables.scores, tables.forms, tables.parameters, tables.seeds):
            table(panel)
        tables.contrasts(found)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES)
def test_values_of_any_kind_in_the_logs(
    original: Path, tmp_path: Path, changes: list[tuple[int, str, Any, bool]]
) -> None:
    shutil.rmtree(tmp_path / "study", ignore_errors=True)
    root = Path(shutil.copytree(original, tmp_path / "study"))
    runs = sorted((root / "runs").iterdir())
    for number, key, value, remove in changes:
        file = runs[number % len(runs)] / "metrics.jsonl"
        *rows, last = [json.loads(line) for line in file.read_text().splitlines()]
        last.pop(key, None)
        if not remove:
            last[key] = value
        file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, last]))
    read(root / "studies" / "quickstart.json")


INDEX_VALUES = st.one_of(VALUES, st.dictionaries(st.text(max_size=3), VALUES, max_size=2))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["study", "title", "axes", "points", "cells", "runs", "overrides", "flanscale"]), INDEX_VALUES)
def test_values_of_any_kind_in_the_index(original: Path, tmp_path: Path, key: str, value: Any) -> None:
    document = json.loads((original / "studies" / "quickstart.json").read_text())
    index = original / "studies" / f"fuzzed-{tmp_path.name}.json"
    index.write_text(json.dumps(document | {key: value}))
    told = ""
    try:
        read(index)
    except AnalysisError as error:
        told = str(error)
    assert "\n" not in told


@pytest.mark.parametrize(
    "name", ["$^$", "a_b^2$", "<b>", "\\frac", "x" * 200, "模型", "../../escape", "a/b", ".hidden"]
)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    axes = SMALL | {"optimizer.name": [name, "plain"], "seed": [0, 1]}
    index = write_study(tmp_path, axes=axes, records=False, title=name)
    document = json.loads(index.read_text())
    index.write_text(json.dumps(document | {"study": name}))
    built = report.build(index, tmp_path / "out")
    assert built.html.parent == tmp_path / "out"
    assert "plain" in built.html.read_text()
