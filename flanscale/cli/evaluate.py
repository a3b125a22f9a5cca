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
        list[str] | None,
        typer.Argument(
            metavar="[STUDY|RUN|CHECKPOINT|WEIGHTS|KEY=VALUE]...",
            help="launched studies or runs; or a checkpoint's folder, a Hugging Face folder, a GGUF file; then"
            " overrides of evaluation, cluster and data",
            show_default=False,
            autocompletion=completion.studies_and_runs,
        ),
    ] = None,
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
    outputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl", help='score what another program answered: lines of "key" or "question", and "output"'
        ),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="LINE", help="with --outputs: what was asked, e.g. bbh/direct")
    ] = None,
    detect: Annotated[
        float | None,
        typer.Option(metavar="POINTS", min=0, help="how many items would tell two of the models so far apart"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Ask models a suite of benchmarks; of runs, those that have ended, without training anything.

    What is answered is kept, and not asked again.
    """
    from flanscale.orchestration.steering.evaluating import suite_overrides

    typed = names or []
    overrides = [*(suite_overrides(suite) if suite is not None else []), *(name for name in typed if "=" in name)]
    named = [name for name in typed if "=" not in name]
    weights = [name for name in named if _is_weights(Path(name).expanduser())]
    runs = [name for name in named if name not in weights]
    if (outputs is None) != (benchmark is None) or (outputs and named):
        raise ConfigError("--outputs FILE --benchmark LINE go together, and name no run or weights")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: a file is there, not a folder")
    if not named and outputs is None:
        raise ConfigError("evaluate what? a study, a run, weights, or --outputs of another program")
    results: dict[str, Any] = {}
    folders: list[Path] = []
    code = _runs(runs, typed, suite, overrides, wait, results, folders, as_json) if runs else 0
    try:
        for name in weights:
            results[name], folder = _weights(Path(name).expanduser(), overrides, out)
            folders.append(folder)
        if outputs is not None and benchmark is not None:
            results[outputs.name] = _outputs(outputs, benchmark, overrides, out)
    except OSError as error:  # a full disk, a folder that nobody may write to: what is answered is kept
        raise ConfigError(f"{error.filename or out}: {error.strerror or error}") from None
    if as_json:
        print(json.dumps(results, allow_nan=False))
    else:
        _show(results)
    if detect is not None:
        _detect(folders, detect)
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
    folders: list[Path],
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
            folders.append(folder)
    return code


def _weights(path: Path, overrides: Sequence[str], out: Path) -> tuple[dict[str, Any], Path]:
    from flanscale.evaluate import evaluate_weights  # JAX comes in here

    logging.basicConfig(level=logging.INFO, format="flanscale: %(message)s", stream=sys.stderr)
    return evaluate_weights(path, overrides, out)


def _outputs(path: Path, line: str, overrides: Sequence[str], out: Path) -> dict[str, Any]:
    from flanscale.config.compose import Composer
    from flanscale.evaluation.opening import suite_of
    from flanscale.evaluation.recorded import score_recorded

    given = ["evaluation=none", *overrides, "evaluation.suite=outputs", f"evaluation.asks=[{line}]"]
    suite = suite_of(Composer().compose([*given, "mixture.count=0"]))
    if suite.faults:
        raise ConfigError(suite.faults[0])
    return score_recorded(path, suite, out)


def _detect(folders: Sequence[Path], points: float) -> None:
    """Says it line by line."""
    from flanscale.evaluation.needed import records_of

    records, metrics = records_of(folders)
    told = [line for line, models in records.items() if _detect_line(line, models, metrics, points)]
    if not told:
        raise ConfigError("no line tells two models apart: see above")


def _detect_line(line: str, models: Any, metrics: dict[str, str], points: float) -> bool:
    """Whether anything can be said of a line."""
    from flanscale.evaluation.needed import needed

    try:
        answers = list(needed({line: models}, metrics, points))
    except ConfigError as error:
        print(f"{line}: {error}")
        return False
    for enough in answers:
        found = enough.needed
        amount = f"{found.total:,} items" if found.enough else f"more than the {enough.here:,} items here"
        print(
            f"{enough.line}: {points:g} points take {amount} ({found.formula:,} by the formula);"
            f" the {enough.here:,} here tell {found.detectable:.2f} points apart, 80 % of the time at the 5 % level"
        )
    return True


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
        told |= dict.fromkeys(remarks(result, name if len(results) > 1 else ""))
    for text in told:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
