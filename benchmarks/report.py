"""What does `flanscale report` take: of the shipped quick study, and of a thousand cells, read cold and again?

One command: `python benchmarks/report.py` (`--cells 1000`; about two minutes); it needs nothing but the project. The
cells are run directories with 200 rows of losses each and the scores of one benchmark asked two ways, without recorded
answers. Every report is a new process from its start to its end, with the files in the page cache; again means that the
cache of the rows is there. Reading alone is `analysis.sources.read`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
ROWS = 200
COUNTS = [0, 9, 20, 45, 89, 150, 282, 500, 1000, 1836]
READ = "import sys; from pathlib import Path; from analysis import sources; sources.read(Path(sys.argv[1]))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000, help="a multiple of 100")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    print(f"medians of {options.repeat}; seconds of the processor, most memory:")
    quick = ROOT / "notebooks" / "demo" / "studies" / "quickstart.json"
    with tempfile.TemporaryDirectory(prefix="flanscale-report-") as folder:
        out = Path(folder)
        show("quick study: flanscale report", [measured(report(quick, out)) for _ in range(options.repeat)])
        index = make_study(out / "large", options.cells)
        cold, again = [], []
        for _ in range(options.repeat):
            (index.parent / ".cache" / index.name).unlink(missing_ok=True)
            cold.append(measured(read(index)))
            again.append(measured(read(index)))
        name = f"{options.cells:,} cells × {ROWS} rows"
        show(f"{name}: read cold", cold)
        show(f"{name}: read again", again)
        show(f"{name}: flanscale report", [measured(report(index, out)) for _ in range(options.repeat)])


def make_study(root: Path, cells: int) -> Path:
    """Five sizes × ten counts × two arms × seeds; the untouched checkpoint is one cell in both arms."""
    import synthetic_study

    axes = {"model": ["nano", "micro", "mini", "small", "base"], "mixture.count": COUNTS, "cot": [False, True]}
    index = synthetic_study.write_study(root, axes=axes | {"seed": list(range(cells // 100))}, records=False)
    for run in (root / "runs").iterdir():
        first, *_, last = (run / "metrics.jsonl").read_text().splitlines()
        losses = [
            json.dumps({"step": step, "train/loss": 3.0 / step**0.1, "attempt": 1, "time": 1.0 + step})
            for step in range(1, ROWS)
        ]
        (run / "metrics.jsonl").write_text("\n".join([first, *losses, last]) + "\n")
    return index


def report(index: Path, out: Path) -> list[str]:
    return ["-m", "flanscale.cli.main", "report", str(index), "--out", str(out / "reports")]


def read(index: Path) -> list[str]:
    return ["-c", READ, str(index)]


def measured(arguments: list[str]) -> tuple[float, float]:
    """Seconds of the processor and MiB of memory at most, of a new process."""
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=file)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def show(name: str, found: list[tuple[float, float]]) -> None:
    seconds, memory = (statistics.median(values) for values in zip(*found, strict=True))
    print(f"  {name:45} {seconds:6.2f} s  {memory:6.0f} MiB")


if __name__ == "__main__":
    main()
