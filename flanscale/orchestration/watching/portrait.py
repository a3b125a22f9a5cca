"""What is there to know of one run? What makes it special, how it learnt, what it answered, where it ran.

Every part is read for itself: one whose file is damaged is replaced by the sentence that says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from flanscale.config.difference import difference
from flanscale.errors import UserError
from flanscale.orchestration.planning.figures import duration
from flanscale.orchestration.running.liveness import View, look
from flanscale.orchestration.watching.answers import prompts_of, some_answers, verdict
from flanscale.orchestration.watching.curve import drawn
from flanscale.orchestration.watching.words import COLOURS, one_line
from flanscale.run_directory import Attempt, read_attempts, read_config, read_rows
from flanscale.tracking.keys import AVERAGE, eval_key, scored

PROMPT_CHARS = 160  # of its end, where the question stands
ANSWER_CHARS = 240
DAMAGED = "red"

Lines = Iterator[Text]


def show_run(run_dir: Path, console: Console, answers: int) -> None:
    """Everything, part by part, with so many answers."""
    console.print(Text(run_dir.name, "bold"), soft_wrap=True)
    parts: dict[str, Callable[[], Lines]] = {
        "its state": lambda: _state(run_dir),
        "its configuration": lambda: _config(run_dir),
        "what it has logged": lambda: _learning(run_dir, min(console.width, 100)),
        "what it has answered": lambda: _answers(run_dir, answers),
        "where it ran": lambda: _attempts(run_dir),
    }
    for what, part in parts.items():
        for line in _told(what, part):
            console.print(line, soft_wrap=True)


def _told(what: str, part: Callable[[], Lines]) -> Lines:
    try:
        yield from part()
    except (UserError, OSError) as error:
        yield Text(f"✘ {one_line(str(error))}", DAMAGED)
    except (ValueError, KeyError, TypeError) as error:  # a record that is whole, but not what a run writes
        yield Text(f"✘ {what} cannot be read ({type(error).__name__}: {one_line(str(error))})", DAMAGED)


def _state(run_dir: Path) -> Lines:
    view = look(run_dir)
    state, status = view.state, view.status
    spent = state.seconds + (state.age if status == "running" else 0.0)
    after = f", attempt {state.attempt}, {duration(spent)} in all" if state.attempt else ""
    yield Text.assemble((status, COLOURS.get(status, "default")), f"{_place(view)}{after}")
    if state.failure:
        yield Text(one_line(f"{state.failure.kind}: {state.failure.message}"), COLOURS.get(status, "default"))


def _place(view: View) -> str:
    if not view.alive:
        return ""
    return f" as Slurm job {view.state.job}" if view.state.job else f" on {view.state.host}, process {view.state.pid}"


def _config(run_dir: Path) -> Lines:
    overrides = difference(read_config(run_dir))
    yield Text(f"differs from the defaults in: {' '.join(overrides) or 'nothing'}")


def _learning(run_dir: Path, width: int) -> Lines:
    rows = read_rows(run_dir)
    newest = next((row for row in reversed(rows) if AVERAGE in row), None)
    yield from _scores(newest) if newest else iter([Text("no score yet")])
    losses = [(row["step"], float(row["train/loss"])) for row in rows if "train/loss" in row]
    if losses:
        validated = [row for row in rows if "validation/loss" in row]
        last = f", validation {float(validated[-1]['validation/loss']):.3f}" if validated else ""
        yield Text(f"\nloss by step: {losses[-1][1]:.3f} at step {losses[-1][0]:,}{last}")
        yield from map(Text, drawn(losses, width=width - 12))


def _scores(row: Mapping[str, Any]) -> Lines:
    yield Text(f"score {_with_error(row, AVERAGE, f'{AVERAGE}_stderr')}, the normalised average", "bold")
    for benchmark, setting in scored(row):
        score, error, n = (eval_key(benchmark, setting, field) for field in ("score", "stderr", "n"))
        yield Text(f"  {benchmark}/{setting}: {_with_error(row, score, error)} of {row.get(n, '?')} examples")


def _with_error(row: Mapping[str, Any], key: str, error: str) -> str:
    return f"{float(row[key]):.1f}" + (f" ± {float(row[error]):.1f}" if error in row else "")


def _answers(run_dir: Path, most: int) -> Lines:
    shown = some_answers(run_dir, most)
    if not shown:
        return
    prompts: Mapping[str, str] = {}
    yield Text(f"\n{len(shown)} of its answers, wrong ones first")
    try:
        prompts = prompts_of(run_dir)
    except (UserError, OSError) as error:
        yield Text(f"their prompts cannot be made again here: {one_line(str(error))}", "yellow")
    for answer in shown:
        mark, colour = verdict(answer)
        yield Text.assemble("\n", (mark, colour), f" {answer.task}, {answer.setting}, {answer.id}")
        if prompt := prompts.get(answer.prompt_hash):
            yield Text(f"  asked      {_end(prompt)}")
        yield Text(f"  answered   {_start(answer.prediction) or '(nothing)'}")
        if answer.extracted != answer.prediction.strip():
            yield Text(f"  taken as   {'(no answer)' if answer.extracted is None else _start(answer.extracted)}")
        yield Text(f"  reference  {_start(answer.reference)}")


def _start(text: str) -> str:
    said = one_line(text)
    return said if len(said) <= ANSWER_CHARS else f"{said[:ANSWER_CHARS]}…"


def _end(text: str) -> str:
    said = one_line(text)
    return said if len(said) <= PROMPT_CHARS else f"…{said[-PROMPT_CHARS:]}"


def _attempts(run_dir: Path) -> Lines:
    attempts = read_attempts(run_dir)
    if attempts:
        yield Text("\nattempts")
    for attempt in attempts:
        yield Text(f"  {_attempt(attempt)}")


def _attempt(attempt: Attempt) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.started))
    job = (attempt.slurm or {}).get("job")
    parts = [
        f"{attempt.attempt}: {began} on {attempt.host}{f', Slurm job {job}' if job else ''}",
        ", ".join(attempt.devices or ["devices not recorded"]),
        f"flanscale {attempt.flanscale}",
        f"commit {attempt.code.commit[:10]}{' with changes' if attempt.code.dirty else ''}"
        if attempt.code and attempt.code.commit
        else "",
    ]
    return "; ".join(filter(None, parts))
