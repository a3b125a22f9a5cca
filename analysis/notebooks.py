"""How are the notebooks made: the sources `notebooks/*.py` run from top to bottom and kept with what they showed.

    python -m analysis.notebooks [NAME …]

executes the named sources, by default all, and writes NAME.ipynb beside them. Unless $STUDY names another study they
read the demo copy, so that a fresh clone gives the same. $SOURCE says where its logs are, as `report --source` does.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from analysis import sources
from analysis.runs import AnalysisError, Study

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
DEMO = "notebooks/demo/studies/quickstart.json"
TIMEOUT_SECONDS = 120


def study() -> tuple[Study, str]:
    """The study that a notebook reads, from $SOURCE (by default its run directories), and a sentence that says which.

    Raises:
        AnalysisError: as `study_index` and `sources.read`.
    """
    index, which = study_index()
    source = os.environ.get("SOURCE", "directories")
    read = sources.read(index, source)
    return read, which if source == "directories" else f"{which} Source: {source}."


def study_index() -> tuple[Path, str]:
    """The study that a notebook reads, and a sentence that says which: $STUDY, else the quickstart, else the demo copy.

    Raises:
        AnalysisError: $STUDY names no file, or there is neither a quickstart study nor a demo.
    """
    asked = os.environ.get("STUDY")
    if asked:
        index = (ROOT / asked).resolve()
        if not index.is_file():
            raise AnalysisError(f"STUDY={asked}: no study index there; give the path of one of studies/*.json")
        return index, f"Reading the study that STUDY names: {asked}."
    local, demo = ROOT / "studies" / "quickstart.json", ROOT / DEMO
    if local.is_file():
        return local, "Reading studies/quickstart.json."
    if demo.is_file():
        return demo, "No studies/quickstart.json here: reading the demo copy in notebooks/demo instead."
    raise AnalysisError(
        "no study to read: run `flanscale launch quickstart`, or set STUDY to the path of a study index"
    )


def build(source: Path) -> Path:
    """Execute one source and write the notebook beside it; the same results give the same bytes.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; nothing is written.
    """
    import jupytext  # type: ignore[import-untyped]
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    client = NotebookClient(notebook, timeout=TIMEOUT_SECONDS, kernel_name="python3", record_timing=False)
    client.create_kernel_manager().transport = "ipc"  # no port to clash over, and nothing to listen in on
    client.execute(cwd=str(ROOT))
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
    out = source.with_suffix(".ipynb")
    nbformat.write(notebook, out)
    return out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m analysis.notebooks", description="Execute the notebooks.")
    parser.add_argument("names", nargs="*", help="e.g. 01_task_scaling; by default all")
    names = parser.parse_args().names
    known = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    os.environ.setdefault("STUDY", DEMO)
    for name in names or known:
        print(build(known[name]).relative_to(ROOT))


if __name__ == "__main__":
    main()
