"""How is a model asked benchmarks? The verb `evaluate`."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flanscale.cli import completion
from flanscale.errors import ConfigError

Out = Annotated[Path, typer.Option(help="folder for what is asked of weights that are no run; runs keep it themselves")]


def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY|RUN|CHECKPOINT|WEIGHTS|KEY=VALUE",
            help="launched studies or runs; or a checkpoint's folder, a Hugging Face folder, a GGUF file; then"
            " overrides of evaluation, cluster and data",
            show_default=False,
            autocompletion=completion.studies_and_runs,
        ),
    ],
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="SUITE|LINES",
            help="a file of conf/evaluation, or lines such as mmlu/letters-0shot,bbh/cot; by default what a run asks",
        ),
    ] = None,
    wait: Annotated[
        bool | None, typer.Option("--wait/--no-wait", help="follow to the end; by default here, but not on Slurm")
    ] = None,
    out: Out = Path("evaluations"),
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Ask models a suite of benchmarks; of runs, those that have ended, without training anything.

    What is answered is kept, and not asked again.
    """
    from flanscale.orchestration.steering.evaluating import suite_overrides

    overrides = [*(suite_overrides(suite) if suite else []), *(name for name in names if "=" in name)]
    named = [name for name in names if "=" not in name]
    weights = [name for name in named if _is_weights(Path(name).expanduser())]
    runs = [name for name in named if name not in weights]
    if not weights and not runs:
        raise ConfigError("evaluate what? a study, a run, or weights")
    results: dict[str, Any] = {}
    code = _runs(runs, names, suite, overrides, wait, results, as_json) if runs else 0
    for name in weights:
        results[name] = _weights(Path(name).expanduser(), overrides, out)
    if as_json:
        print(json.dumps(results, allow_nan=False))
    else:
        _show(results)
    raise typer.Exit(code)


def _is_weights(path: Path) -> bool:
    """Whether it is a checkpoint, a Hugging Face folder or a GGUF file, and not a run."""
    from flanscale.run_directory import CHECKPOINTS

    return path.suffix == ".gguf" or (path / "config.json").is_file() or path.parent.name == CHECKPOINTS


def _runs(
    names: Sequence[str],
    typed: Sequence[str],
    suite: str | None,
    overrides: Sequence[str],
    wait: bool | None,
    results: dict[str, Any],
    as_json: bool,
) -> int:
    from rich.console import Console

    from flanscale.orchestration.planning.finding import find
    from flanscale.orchestration.steering.evaluating import carry_out, make_asking
    from flanscale.orchestration.watching.live import open_console
    from flanscale.run_directory import read_result, run_of_evaluation
    from flanscale.schema import PathsConfig

    asking = make_asking(find(names, PathsConfig()), overrides)
    console = Console(stderr=True) if as_json else open_console()
    todo = sum(len(plan.cells) for _, plan in asking.plans)
    words = f"{len(asking.folders)} runs to ask, {len(asking.folders) - todo} of them done"
    unfinished = f"; {len(asking.left)} have not finished" if asking.left else ""
    console.print(f"{words}{unfinished}", markup=False, highlight=False)
    again = shlex.join(["flanscale", "evaluate", *typed, *(["--suite", suite] if suite else [])])
    code = carry_out(asking, console, again=again, wait=wait)
    for folder in asking.folders:
        if (result := read_result(folder)) is not None:
            results[run_of_evaluation(folder).name] = result
    return code


def _weights(path: Path, overrides: Sequence[str], out: Path) -> dict[str, Any]:
    from flanscale.evaluate import evaluate_weights  # JAX comes in here

    logging.basicConfig(level=logging.INFO, format="flanscale: %(message)s", stream=sys.stderr)
    return evaluate_weights(path, overrides, out)


def _show(results: dict[str, Any]) -> None:
    from flanscale.orchestration.planning.sheet import show
    from flanscale.orchestration.watching.live import open_console
    from flanscale.orchestration.watching.scores import remarks, score_table

    if not results:
        return
    console = open_console()
    show(score_table(results), console)
    told: dict[str, None] = {}
    for name, result in results.items():
        for line in remarks(result):
            text = f"{name}: {line}" if len(results) > 1 and line.startswith(("normalised", "!")) else line
            told.setdefault(text)
    for text in told:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
