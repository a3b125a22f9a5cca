"""What does `flanscale tasks fetch` show? Sources, licences and sizes before anything comes, then one progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flanscale.tasks.fetch import Plan
    from flanscale.tasks.sources import Source


def fetch(
    collections: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="what to fetch; flan: all that collection=flan reads; none: what there is"
        ),
    ] = None,
    to: Annotated[Path, typer.Option(help="folder for their folders; data.root of the cells that use them")] = Path(
        "data"
    ),
    weights: Annotated[
        str | None, typer.Option(metavar="MODEL", help="also the LM-adapted T5 of conf/model: t5_small … t5_xxl")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="the terms have been read and are kept to")
    ] = False,
) -> None:
    """Download collections and weights from their public sources; run again, it goes on where it stopped.

    Ends with 1 where something could not be had; the rest is there.
    """
    from flanscale.tasks.fetch import check_space, check_terms, find_sources, plan
    from flanscale.tasks.fetch import fetch as fetch_plans

    if not collections and weights is None:
        _print_what_there_is()
        return
    sources = find_sources(collections or [], weights)
    _print_sources(sources)
    check_terms(sources.values(), accepted=accept_licence)
    plans = {name: plan(source, to) for name, source in sources.items()}
    _print_sizes(plans)
    check_space(list(plans.values()))
    with _Bar(plans.values()) as bar:
        done = fetch_plans(plans.values(), watch=bar.start)
    print()
    for one in done:
        print(f"{one.folder}: {one.fetched:,} fetched, {one.here_before:,} here before, {len(one.failed):,} left out")
    failed = [line for one in done for line in one.failed]
    for line in failed:
        print(f"left out: {line}")
    if any(one.fetched or one.here_before for one in done):
        root = [f"data.root={to}"] if collections else []
        print(f"use it with {' '.join([*root, *_overrides(sources, to, weights)])}")
    if failed:
        print("what was left out is tried again by the same command, and that alone", file=sys.stderr)
        raise typer.Exit(1)


def _print_what_there_is() -> None:
    from flanscale.tasks.sources import FLAN, WEIGHTS, read_sources, weights_source

    print(f"{'flan':<12}all that collection=flan reads: {', '.join(FLAN)}")
    for name, known in read_sources().items():
        print(f"{name:<12}{known.title}; {known.size}; {known.licence}")
    for model in WEIGHTS:
        known = weights_source(model)
        print(f"--weights {model}: {known.title.partition(': ')[2]}; {known.size}; {known.licence}")


def _print_sources(sources: Mapping[str, Source]) -> None:
    """What comes from where, the licences in one list."""
    for source in sources.values():
        print(f"{source.title}\n    from {source.home}\n    licence: {source.licence}\n    size: {source.size}")
        if source.by_hand:
            print(f"    not fetched: {source.by_hand}")
    print()


def _print_sizes(plans: Mapping[str, Plan]) -> None:
    from flanscale.orchestration.planning.sheet import Column, Sheet, plain

    def row(name: str, some: Sequence[Plan]) -> tuple[str, ...]:
        sizes = [item.size for one in some for item in one.missing]
        unknown = sizes.count(None)
        known = sum(size or 0 for size in sizes)
        told = [_bytes(known)] if known or not unknown else []
        told += [f"{unknown:,} of unknown size"] if unknown else []
        return name, f"{sum(one.here_before for one in some):,}", f"{len(sizes):,}", " and ".join(told)

    columns = [Column("to fetch"), Column("here", right=True), Column("files", right=True), Column("size")]
    rows = [row(name, [one]) for name, one in plans.items()]
    print(plain(Sheet(columns, [*rows, row("in all", list(plans.values()))])))


def _bytes(size: int) -> str:
    power = 0 if size < 1000 else 1 if size < 10**6 else 2 if size < 10**9 else 3
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"


def _overrides(sources: Mapping[str, Source], to: Path, weights: str | None) -> list[str]:
    """What to add to a command so that it uses what came and does not find it by itself."""
    collections = [name for name in sources if name in ("cot", "muffin", "t0sf", "niv2", "rendered")]
    given = [f"collection={collections[0] if len(collections) == 1 else 'flan'}"] if collections else []
    if "templates" in sources:
        given.append("mixture.templates=flan")
    if "vocabulary" in sources:
        given.append("tokenizer=t5")
    if weights is not None:
        given.append(f"model={weights} init.hf={to / 'weights' / weights}")
    return given


class _Bar:
    """One progress bar over all that comes; gone at the end."""

    def __init__(self, plans: Iterable[Plan]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self._sizes = {f"{one.source.folder}/{item.name}": item.size or 0 for one in plans for item in one.missing}
        self._here = dict.fromkeys(self._sizes, 0)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=sum(self._sizes.values()))

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, name: str) -> Callable[[int, int | None], None]:
        """The function that is told the bytes of a file; one whose size nobody knew makes the whole longer."""

        def told(here: int, total: int | None) -> None:
            self._here[name], self._sizes[name] = here, max(total or self._sizes[name], here)
            self._progress.update(
                self._task,
                description=name[-40:],
                completed=sum(self._here.values()),
                total=sum(self._sizes.values()),
            )

        return told
