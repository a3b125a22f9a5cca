"""What can be typed? The verbs of the command `flanscale`; each starts in well under a second and imports no JAX."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from flanscale.cli import ask, completion, evaluate, fetch, keep, prefer, prepare, steer, tasks, watch
from flanscale.errors import ending_in_one_line

app = typer.Typer(
    help="Scaling studies of instruction finetuning: from one command to curves with error bars.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

tasks.app.command()(fetch.fetch)
tasks.app.command()(prepare.prepare)
tasks.app.command()(prepare.vocabulary)
app.add_typer(tasks.app, name="tasks")
for verb in (
    *(keep.export, keep.rerun, keep.sync, keep.doctor),
    *(steer.retry, steer.cancel, steer.prune),
    *(watch.status, watch.show, watch.logs, ask.generate),
    *(evaluate.evaluate, prefer.sheet, prefer.preferences),
):
    app.command()(verb)

StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="a file of sweeps/ by name, or the path of one", autocompletion=completion.sweeps
    ),
]
LaunchedName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="a launched study by name, or the path of its index", autocompletion=completion.launched
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Hydra overrides of every cell; for an axis, its new values: seed=0,1,2",
        show_default=False,
        autocompletion=completion.overrides,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="for programs: one document on stdout, words on stderr")]


@app.command()
def plan(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="a study; without one, the overrides are of a single cell")
    ] = None,
    overrides: Overrides = None,
    memory: Annotated[bool, typer.Option("--memory", help="what a step of each size takes on its devices")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="the same from the compiler, on devices that need not exist")
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="the mesh, microbatches and model.remat that are predicted to be fastest")
    ] = False,
    devices: Annotated[
        list[int] | None,
        typer.Option(min=1, help="with --tune: how many; given again for more than one; else those of the job"),
    ] = None,
    order: Annotated[
        str, typer.Option(help="of the cells shown: grid, or as `launch --order` starts them: coarse, longest")
    ] = "grid",
    power: Annotated[
        bool, typer.Option("--power", help="the smallest effects that the study can tell from none")
    ] = False,
    pilot: Annotated[
        str | None, typer.Option(help="with --power: a launched study whose seeds show the noise", metavar="STUDY")
    ] = None,
    seed_noise: Annotated[
        float | None,
        typer.Option(min=0, help="with --power: standard deviation between seeds where half is right, points"),
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="with --power: that a benchmark asks")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every cell of a study: its size, its cost, what is done already. Starts nothing, writes nothing.

    Without a study, show what one cell takes and on which mesh of which chip it fits:
    flanscale plan model=palm_540b optimizer=adafactor cluster.chip=tpu_v4
    """
    from flanscale.errors import ConfigError
    from flanscale.orchestration.planning.preview import make_plan, print_cell, print_plan
    from flanscale.orchestration.watching.live import open_console

    if not power and (pilot is not None or seed_noise is not None or items is not None):
        raise ConfigError("--pilot, --seed-noise and --items are of --power: give it too")
    if devices and not tune:
        raise ConfigError(f"--devices {devices[0]} is of --tune: give both, or set trainer.mesh or cluster.gpus")
    given, counts = [*([study] if study else []), *(overrides or [])], (devices or []) if tune else None
    if as_json:
        if memory or (compiled and not tune):
            raise ConfigError(
                "--json tells the memory of every cell by itself: leave out --memory and, but for --tune, --compile"
            )
        _plan_json(given, order, counts, compiled)
    elif given and "=" in given[0]:
        print_cell(given, open_console(), compiled=compiled, counts=counts)
    elif power:
        from flanscale.cli.power import print_power
        from flanscale.orchestration.planning.finding import find_study
        from flanscale.schema import PathsConfig

        index = None if pilot is None else find_study(pilot, PathsConfig()).path
        made = make_plan(_named(study), overrides or [], insist=False)
        print_power(made, open_console(), pilot=index, noise=seed_noise, items=items)
    else:
        made = make_plan(_named(study), overrides or [], insist=False)
        print_plan(made, open_console(), order=order, with_memory=memory, compiled=compiled, counts=counts)


@app.command()
def launch(
    study: StudyName,
    overrides: Overrides = None,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--no-wait", help="follow to the end and report; by default here, but not on Slurm"),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="HOURS", min=0, help="refuse if what it starts needs more device-hours")
    ] = None,
    order: Annotated[
        str,
        typer.Option(help="of starting: longest (soonest done), coarse (soonest useful) or grid (as listed)"),
    ] = "longest",
    as_json: AsJson = False,
) -> None:
    """Run what is missing of a study, here or on Slurm (cluster=slurm), then draw its curves.

    Launching again starts nothing that is finished or running and resumes what was interrupted; what failed for
    another reason waits for `flanscale retry`.
    """
    from rich.console import Console

    from flanscale.orchestration.dispatch import launch as launching
    from flanscale.orchestration.dispatch.closing import print_report
    from flanscale.orchestration.planning.ledger import ledger_of
    from flanscale.orchestration.planning.preview import check_budget, make_plan
    from flanscale.orchestration.watching.live import open_console
    from flanscale.orchestration.watching.monitor import Observer
    from flanscale.orchestration.watching.status_json import as_json as as_document

    made = make_plan(study, overrides or [])
    if budget is not None:
        check_budget(made, budget)
    again = shlex.join(["flanscale", "launch", study, *(overrides or [])])
    console = Console(stderr=True) if as_json else open_console()
    code = launching.launch(made, console, again=again, wait=wait, report=print_report, order=order)
    if as_json:
        seen = Observer(ledger_of(made)).look()
        print(json.dumps({"exit_code": code, **as_document(seen, seen.cells, None)}, allow_nan=False))
    raise typer.Exit(code)


@app.command()
def report(
    study: LaunchedName,
    out: Annotated[Path | None, typer.Option(help="folder for its files; by default reports/")] = None,
    source: Annotated[
        str, typer.Option(help="where its logs are: directories, wandb, api:ENTITY/PROJECT or csv:FILE")
    ] = "directories",
    seed_noise: Annotated[
        float | None,
        typer.Option(help="standard deviation between seeds where half is right, in points; for a study of one seed"),
    ] = None,
    replicates: Annotated[
        str | None, typer.Option(help="an earlier study: which of its findings hold again in this one", metavar="STUDY")
    ] = None,
) -> None:
    """Draw the curves of a launched study and print its table."""
    from flanscale.orchestration.dispatch.closing import print_report
    from flanscale.orchestration.planning.finding import find_study
    from flanscale.orchestration.watching.live import open_console
    from flanscale.schema import PathsConfig

    paths = PathsConfig()
    index = find_study(study, paths).path
    first = None if replicates is None else find_study(replicates, paths).path
    print_report(index, out or Path(paths.reports), open_console(), source, seed_noise, first)


def _plan_json(given: list[str], order: str, counts: list[int] | None, compiled: bool) -> None:
    from flanscale.orchestration.planning.plan_json import cell_document, plan_document
    from flanscale.orchestration.planning.preview import make_plan

    if given and "=" in given[0]:
        document = cell_document(given, counts, compiled=compiled)
    else:
        study, *overrides = given or [_named(None)]
        document = plan_document(make_plan(study, overrides, insist=False), order, counts, compiled=compiled)
    print(json.dumps(document, allow_nan=False))


def _named(study: str | None) -> str:
    """Raises `ConfigError` where no study is named."""
    from flanscale.errors import ConfigError
    from flanscale.orchestration.planning.study import available_studies

    if study is None:
        raise ConfigError(f"plan what? a study ({', '.join(sorted(available_studies()))}) or a cell's overrides")
    return study


def main() -> None:
    """The entry point: mistakes of the user end in one line and exit code 2."""
    with ending_in_one_line():
        app()


if __name__ == "__main__":
    main()
