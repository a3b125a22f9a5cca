"""What happens when a study has ended? Its report is drawn, and whoever wanted to know is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from flanscale.errors import UserError
from flanscale.orchestration.planning.ledger import read_ledger
from flanscale.orchestration.watching.monitor import Observer, StudyStatus

NOTIFY_SECONDS = 60

Report = Callable[[Path, Path, Console], None]  # index, folder of the report's files, where to print
Say = Callable[[str], None]


def close(index: str, reports: str, command: str | None) -> None:
    """The job that comes after all others of a study.

    Args:
        index: path of the study's index.
        reports: folder of the report's files.
        command: of the shell, see `cluster.notify`.
    """
    console = Console(width=120)
    study = Observer(read_ledger(Path(index))).look()
    draw(study, print_report, Path(reports), console)
    if study.settled:
        notify(command, study, console.print)
    else:
        console.print("some of its cells are in the hands of a later launch: nobody is told yet")


def draw(study: StudyStatus, report: Report | None, reports: Path, console: Console) -> None:
    """Draw the report of what is finished; what keeps it from being drawn is one line."""
    if report is None or not study.counts["finished"]:
        return
    try:
        report(study.ledger.path, reports, console)
    except UserError as error:
        console.print(f"no report: {error}", markup=False, highlight=False, soft_wrap=True)


def notify(command: str | None, study: StudyStatus, say: Say) -> None:
    """Run the user's command; that it fails is one line, and nothing else fails for it."""
    if command is None:
        return
    outcome = "finished" if study.counts["finished"] == len(study.cells) else "failed"
    environment = os.environ | {"FLANSCALE_STUDY": study.ledger.study, "FLANSCALE_OUTCOME": outcome}
    try:
        done = subprocess.run(
            command, shell=True, env=environment, capture_output=True, text=True, timeout=NOTIFY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        say(f"cluster.notify: {command}: not over after {NOTIFY_SECONDS} s")
        return
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").split("\n")[-1]
        say(f"cluster.notify: {command}: exit code {done.returncode}: {last}")


def print_report(
    index: Path,
    out: Path,
    console: Console,
    source: str = "directories",
    seed_noise: float | None = None,
    first: Path | None = None,
) -> None:
    """Build the report of a study (see `analysis.report.build`), print its table and where its files are."""
    from analysis import report

    built = report.build(index, out, source, seed_noise, first)
    console.print(built.text)
    for path in (built.figure_png, built.figure_svg, built.csv, built.runs, built.tables, built.html):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
