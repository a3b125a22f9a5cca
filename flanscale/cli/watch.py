"""How is a study watched? The verbs `flanscale status` and `flanscale logs`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from flanscale.cli.run_name import RunName

if TYPE_CHECKING:
    from flanscale.orchestration.planning.ledger import Ledger

EXIT_INTERRUPTED = 130


def status(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="a launched study, or its index; all of them when left out"),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="live, until all cells have ended")] = False,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="list cells of this state alone; may be repeated")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="AXIS=VALUE", help="this part of the grid alone; may be repeated")
    ] = None,
    map_: Annotated[
        str | None, typer.Option("--map", metavar="AXIS,AXIS", help="axes of the map; by default the two longest")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show how far the cells of a study are, from their run directories alone."""
    from flanscale.orchestration.planning.finding import find_study
    from flanscale.orchestration.planning.ledger import launched_studies
    from flanscale.schema import PathsConfig

    if study is not None:
        _one(find_study(study, PathsConfig()), watch, state, where, map_, as_json)
    elif watch or state or where or map_:
        from flanscale.errors import ConfigError

        names = ", ".join(path.stem for path in launched_studies(PathsConfig())) or "none launched yet"
        raise ConfigError(f"--watch, --state, --where and --map are of one study; name it: {names}")
    else:
        _all(as_json)


def _one(
    index: Ledger, watch: bool, state: list[str] | None, where: list[str] | None, map_: str | None, as_json: bool
) -> None:
    from flanscale.orchestration.watching import heatmap, live, selection
    from flanscale.orchestration.watching.monitor import Observer
    from flanscale.orchestration.watching.status_json import as_json as document

    states, axes = selection.states(state or []), heatmap.map_axes(index, map_)
    observer = Observer(selection.part_of(index, where or []))
    if as_json:
        study = observer.look()
        print(json.dumps(document(study, selection.only(study, states), axes), allow_nan=False))
        return
    choice = live.Choice(states, axes, wants_map=map_ is not None)
    try:
        live.show_status(observer, live.open_console(), choice, watch=watch)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _all(as_json: bool) -> None:
    """Every launched study, in a line each."""
    from flanscale.errors import ConfigError
    from flanscale.orchestration.planning.ledger import launched_studies, read_ledger
    from flanscale.orchestration.watching import heatmap, words
    from flanscale.orchestration.watching.monitor import Observer
    from flanscale.orchestration.watching.status_json import as_json as document
    from flanscale.schema import PathsConfig

    documents, paths = [], PathsConfig()
    indexes = launched_studies(paths)
    for path in indexes:
        try:
            seen = Observer(read_ledger(path)).look()
        except ConfigError as error:
            if as_json:
                raise
            print(f"{path.stem}: {error}")
            continue
        if as_json:
            documents.append(document(seen, [*seen.cells, *seen.removed], heatmap.map_axes(seen.ledger, None)))
        else:
            print("; ".join(filter(None, [f"{seen.ledger.study}: {words.counts(seen)}", words.left(seen)])))
    if as_json:
        print(json.dumps(documents, allow_nan=False))
    elif not indexes:
        print(f"nothing launched yet: no index in {paths.studies}/; try `flanscale launch quickstart`")


def logs(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the run has ended")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="from the end, so many")] = 50,
    stdout: Annotated[
        bool, typer.Option("--stdout", help="what its processes printed outside of the log, as far as it was kept")
    ] = False,
    rank: Annotated[int, typer.Option(min=0, help="of a run of several processes")] = 0,
) -> None:
    """Show the log of a run, of all its attempts."""
    from flanscale.errors import ConfigError
    from flanscale.orchestration.planning.finding import find_run
    from flanscale.orchestration.watching import transcript
    from flanscale.run_directory import read_state
    from flanscale.schema import PathsConfig

    found = transcript.Transcript(find_run(run, PathsConfig()), rank)
    how = (lines, transcript.to_stdout, transcript.to_stderr)
    if stdout and (follow or rank):
        raise ConfigError("--stdout shows what was kept, of all ranks: leave out --follow and --rank")
    try:
        if stdout:
            transcript.show_kept(found, read_state(found.run_dir), *how)
        elif follow:
            transcript.follow(found, *how)
        else:
            transcript.show(found, *how)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def show(
    run: RunName,
    answers: Annotated[int, typer.Option("--answers", "-n", min=0, help="how many of them")] = 10,
) -> None:
    """Show one run: what makes it special, its score and loss curve, some of its answers, and where it ran.

    Works on running, failed and damaged runs; what cannot be read is said in one sentence, in its place.
    """
    from flanscale.errors import ConfigError
    from flanscale.orchestration.planning.finding import find_run
    from flanscale.orchestration.watching.live import open_console
    from flanscale.orchestration.watching.portrait import show_run
    from flanscale.schema import PathsConfig

    run_dir = find_run(run, PathsConfig())
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir.name}: has not begun, so there is nothing to show")
    show_run(run_dir, open_console(), answers)
