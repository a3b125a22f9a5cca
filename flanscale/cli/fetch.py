"""What does `flanscale tasks fetch` show? Where a collection comes from and under which licence, then its progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flanscale.errors import DataError


def fetch(
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLLECTION]", help="what to fetch; left out: what there is")
    ] = None,
    to: Annotated[Path, typer.Option(help="folder for its folder; data.root of the cells that use it")] = Path("data"),
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="its terms have been read and are kept to")
    ] = False,
) -> None:
    """Download a collection from its public source; run again, it goes on where it stopped."""
    from flanscale.tasks.fetch import fetch as fetch_source
    from flanscale.tasks.fetch import find_source
    from flanscale.tasks.sources import read_sources

    if collection is None:
        for name, known in read_sources().items():
            print(f"{name:<12}{known.title}; {known.size}; {known.licence}")
        return
    source = find_source(collection)
    print(f"{source.title}\nfrom {source.home}\nlicence: {source.licence}\nsize: {source.size}")
    if source.by_hand:
        print(f"not fetched: {source.by_hand}")
    with _Bar() as bar:
        done = fetch_source(source, to, accept_licence=accept_licence, watch=bar.start)
    for line in done.failed:
        print(f"left out: {line}")
    print(f"{done.folder}: {done.fetched:,} fetched, {done.here_before:,} here before, {len(done.failed):,} left out")
    if done.failed:
        raise DataError(f"{len(done.failed)} files of {collection} could not be had; the others are in {done.folder}")
    print(f"use it with data.root={to}")


class _Bar:
    """The progress bar of the file that is coming down; gone at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, name: str) -> Callable[[int, int | None], None]:
        self._progress.reset(self._task, description=name[-40:], total=None)
        return lambda here, total: self._progress.update(self._task, completed=here, total=total)
