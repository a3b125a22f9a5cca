"""How are the notebooks made: the sources `notebooks/*.py` run from top to bottom and kept with what they showed.

    python -m analysis.notebooks [NAME …]

executes the named sources, by default all, and writes NAME.ipynb beside them. Unless $STUDY names another study they
read one of our own, whose logs are in notebooks/demo. $SOURCE says where its logs are, as `report --source` does.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from analysis import sources
from analysis.runs import AnalysisError, Study

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
DEMO = "notebooks/demo/studies/{}.json"
TIMEOUT_SECONDS = 120


def study(name: str = "quickstart", variable: str = "STUDY") -> tuple[Study, str]:
    """The study that a notebook reads, from $SOURCE (by default its run directories), and a sentence that says which.

    Args:
        name: of the one that is shipped with the notebooks.
        variable: of the environment, which names another.

    Raises:
        AnalysisError: as `study_index` and `sources.read`.
    """
    index, which = study_index(name, variable)
    source = os.environ.get("SOURCE", "directories") if variable in os.environ else "directories"
    read = sources.read(index, source)
    return read, which if source == "directories" else f"{which} Source: {source}."


def study_index(name: str = "quickstart", variable: str = "STUDY") -> tuple[Path, str]:
    """The index of the study that a notebook reads, and a sentence that says which: the one named, else the shipped.

    Raises:
        AnalysisError: there is none.
    """
    asked = os.environ.get(variable)
    index = (ROOT / (asked or DEMO.format(name))).resolve()
    if not index.is_file():
        raise AnalysisError(f"{variable}={asked or ''}: no study index at {index}; give the path of studies/NAME.json")
    if asked:
        return index, f"Reading the study that {variable} names: {asked}."
    return index, f"Reading our own {name}, in notebooks/demo; {variable}=studies/NAME.json names another."


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
    for name in names or known:
        print(build(known[name]).relative_to(ROOT))


if __name__ == "__main__":
    main()
