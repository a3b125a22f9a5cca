"""How are results kept? The verbs `rerun`, `sync`, `export` and `doctor`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flanscale.cli import completion
from flanscale.cli.run_name import RunName
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.sheet import Column, Sheet, plain
from flanscale.run_directory import identity_of
from flanscale.schema import DataConfig, PathsConfig

MARKS = {"ok": "✔", "warn": "!", "missing": "✘"}


def rerun(
    run: RunName,
    to: Annotated[Path | None, typer.Option(help="the new folder; by default rerun-<identity>")] = None,
    check: Annotated[bool, typer.Option("--check", help="only say what differs here; code 1 if anything does")] = False,
    execute: Annotated[
        bool, typer.Option("--run", help="run the cell again with what is installed, and compare the results")
    ] = False,
) -> None:
    """Recreate a run: what differs here today, and a folder with its packages, configuration, code and commands."""
    from flanscale.orchestration.keeping import replay
    from flanscale.orchestration.keeping.rerun import differences, last_attempt, write_folder
    from flanscale.orchestration.planning.finding import find_run

    run_dir = find_run(run, PathsConfig())
    attempt = last_attempt(run_dir)
    found = differences(run_dir, attempt)
    if found:
        rows = [(one.what, one.then, one.now) for one in found]
        print(plain(Sheet([Column("differs"), Column("then"), Column("now")], rows)))
    else:
        print(f"{run_dir.name}: nothing differs here from the attempt that made it")
    if check:
        raise typer.Exit(1 if found else 0)
    folder = to or Path(f"rerun-{identity_of(run_dir)}")
    if not (execute and (folder / "cell.sh").is_file()):
        write_folder(run_dir, attempt, found, folder)
        print(f"{folder}: how to make this run again; bash {folder}/cell.sh does all of it")
    if execute:
        again = replay.run_again(run_dir, folder)
        deviations = replay.deviations(run_dir, again)
        for one in deviations:
            print(f"✘ {one}")
        print(f"{again}: {f'{len(deviations)} keys differ' if deviations else 'equal bit for bit'}")
        raise typer.Exit(1 if deviations else 0)


def sync(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY|RUN]",
            help="a launched study or a run; left out: all runs",
            autocompletion=completion.studies_and_runs,
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="[TEAM/]PROJECT", help="by default that of each run", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be sent, and send nothing")] = False,
) -> None:
    """Send to W&B what it does not have yet, from the rows of the run directories; as often as one likes.

    Without a W&B login on this machine it only says what it would send.
    """
    from flanscale.orchestration.keeping import sync as syncing
    from flanscale.orchestration.running.liveness import asking_rarely

    known_jobs = asking_rarely()
    parcels, going_on, unread = [], 0, 0
    for run_dir in syncing.runs_of(name, PathsConfig()):
        try:
            parcel = syncing.parcel(run_dir, project, known_jobs)
        except ConfigError as error:
            print(f"✘ {run_dir.name}: {error}")
            unread += 1
            continue
        going_on += parcel is None
        parcels += [parcel] if parcel else []
    lacking = [parcel for parcel in parcels if not parcel.complete]
    left = f", {going_on:,} going on" if going_on else ""
    print(f"{len(parcels) - len(lacking):,} runs are complete at W&B, {len(lacking):,} are not{left}")
    login = syncing.login()
    if dry_run or login is None:
        for parcel in lacking:
            print(f"  {parcel.run_dir.name}: {parcel.size:,} steps to {parcel.where}")
        if login is None and not dry_run:
            print("nothing was sent: no W&B login here; `wandb login` or WANDB_API_KEY, then the same command")
    else:
        syncing.send(lacking, lambda sent: print(f"✔ {sent.run_dir.name}: {sent.size:,} steps to {sent.where}"))
    if unread:
        raise typer.Exit(1)


def doctor(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="of data.* and paths.*: data.root=/data", show_default=False),
    ] = None,
    devices: Annotated[bool, typer.Option("--devices", help="ask JAX too, which takes seconds")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say what this machine has and lacks, and what to do about it; code 1 if something necessary is missing."""
    from flanscale.orchestration.keeping.doctor import examine

    findings = examine(*_places(overrides or []), devices=devices)
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        for line in findings:
            advice = f"  → {line.advice}" if line.advice else ""
            print(f"{MARKS[line.state]} {line.state:<8}{line.item:<20}{line.found}{advice}")
    raise typer.Exit(1 if any(line.necessary and line.state == "missing" for line in findings) else 0)


def _places(overrides: Sequence[str]) -> tuple[PathsConfig, DataConfig]:
    """Folders from overrides such as `data.root=/data`, without the seconds that a whole configuration takes.

    Raises:
        ConfigError: another key.
    """
    from flanscale.config.checks import check_key

    paths, data = PathsConfig(), DataConfig()
    sections: dict[str, PathsConfig | DataConfig] = {"paths": paths, "data": data}
    for text in overrides:
        key, _, value = text.partition("=")
        section, _, field = key.partition(".")
        check_key(key)
        if section not in sections or not value:
            raise ConfigError(f"{text}: doctor takes data.*=<folder> and paths.*=<folder>")
        setattr(sections[section], field, value)
    return paths, data


def export(
    run: RunName,
    to: Annotated[Path, typer.Option(help="the new folder", show_default=False)],
    precision: Annotated[str, typer.Option(help="float32 (bit for bit), bfloat16 or float16")] = "float32",
) -> None:
    """Write a run as a folder that transformers and vLLM load: weights, configuration, tokenizer and model card."""
    from flanscale.orchestration.planning.finding import find_run

    run_dir = find_run(run, PathsConfig())
    if precision not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"--precision {precision}: must be float32, bfloat16 or float16")
    from flanscale.weights.export import export_run  # JAX comes in here

    folder = export_run(run_dir, to, precision=precision)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:,.1f} MB of {run_dir.name}; load it with transformers' from_pretrained('{folder}')")
