"""What the notebooks promise: they run on any study, show what their sources say, and stay short."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from synthetic_study import write_study

from analysis import notebooks
from analysis.runs import AnalysisError

SOURCES = sorted(notebooks.FOLDER.glob("*.py"))
NAMES = [source.stem for source in SOURCES]
JUDGE_THE_FORM = ("01_task_scaling", "05_published_results")
FIGURES = {  # one, unless it says otherwise
    "00_read_a_study": 0,
    "04_replication": 2,
    "06_plan_with_power": 0,
    "07_families": 4,
}
STUDIES = ("STUDY", "FIRST", "SECOND", "THIRD", "FOURTH")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), states={5: "failed"})


def shown(notebook: Any) -> str:
    """All texts that the cells put out."""
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(str(each.get("text/markdown", each.get("text/plain", ""))) for each in data)


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_it_runs_on_a_study_that_is_not_even_complete(
    source: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in STUDIES:
        monkeypatch.setenv(variable, str(study))
    built = notebooks.build(Path(shutil.copy(source, tmp_path)))
    notebook = nbformat.read(built, as_version=4)
    text = shown(notebook)
    assert str(study) in text
    if source.stem in JUDGE_THE_FORM:
        assert re.search(r"(is preferred|are tied|is not identifiable): ", text)
    images = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(images) == FIGURES.get(source.stem, 1)
    assert not [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_the_executed_notebook_is_its_source_with_outputs(source: Path) -> None:
    kept = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    written = jupytext.read(source)
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == [
        (cell.cell_type, cell.source) for cell in written.cells
    ], f"run `python -m analysis.notebooks {source.stem}`"
    numbers = [cell.execution_count for cell in kept.cells if cell.cell_type == "code"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert not [output for cell in kept.cells for output in cell.get("outputs", []) if output.output_type == "error"]


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_it_stays_thin(source: Path) -> None:
    cells = jupytext.read(source).cells
    assert len(cells) <= 25
    assert sum(cell.cell_type == "markdown" for cell in cells) >= 0.4 * len(cells)
    for block in re.findall(r"^(?:def|class) .*\n(?:(?:    .*)?\n)*", source.read_text(), flags=re.MULTILINE):
        assert len(block.strip().splitlines()) <= 5


def test_the_study_is_the_one_asked_for_else_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.delenv("STUDY", raising=False)
    with pytest.raises(AnalysisError, match="STUDY=: no study index at"):
        notebooks.study_index()
    for name in ("notebooks/demo/studies/quickstart.json", "notebooks/demo/studies/other.json", "studies/mine.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert notebooks.study_index()[0].name == "quickstart.json"
    assert notebooks.study_index("other")[0].name == "other.json"
    monkeypatch.setenv("STUDY", "studies/mine.json")
    found, which = notebooks.study_index("other")
    assert found == tmp_path / "studies/mine.json"
    assert which == "Reading the study that STUDY names: studies/mine.json."
    assert "our own other" in notebooks.study_index("other", "FIRST")[1]
    monkeypatch.setenv("STUDY", "studies/typo.json")
    with pytest.raises(AnalysisError, match=r"STUDY=studies/typo.json: no study index at"):
        notebooks.study_index()


def test_the_papers_curve_is_shown_without_a_study_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY", "studies/none-such.json")
    [source] = [source for source in SOURCES if source.stem == "05_published_results"]
    text = shown(nbformat.read(notebooks.build(Path(shutil.copy(source, tmp_path))), as_version=4))
    assert "Only the paper's curve is shown: STUDY=studies/none-such.json" in text
