"""How is a study steered? The verbs `retry`, `cancel` and `prune`."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from flanscale.errors import ConfigError

if TYPE_CHECKING:
    from flanscale.orchestration.steering.cancel import Cancelled
    from flanscale.orchestration.steering.retry import Retry
    from flanscale.orchestration.steering.targets import Seen
    from flanscale.schema import PathsConfig

WITHOUT_ASKING = 10  # cells that are cancelled at one word

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="STUDY|RUN", help="launched studies, or runs by identity, name or directory", show_default=False
    ),
]
Where = Annotated[
    list[str] | None, typer.Option(metavar="AXIS=VALUE[,VALUE]", help="only these points of the grid; repeatable")
]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def retry(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY|RUN|KEY=VALUE",
            help="launched studies or runs, then overrides of what changes no result, e.g. cluster.memory_gb=96",
            show_default=False,
        ),
    ],
    failed: Annotated[bool, typer.Option("--failed", help="short for --state failed")] = False,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="CLASS[,CLASS]", help="only failures of these classes")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE[,STATE]", help="failed, interrupted or preempted; all by default")
    ] = None,
    where: Where = None,
    wait: Annotated[
        bool | None, typer.Option("--wait/--no-wait", help="follow to the end; by default here, but not on Slurm")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start again what ended without a result, from its last checkpoint, with the configuration that it has.

    What is running, finished or not begun is left alone.
    """
    from rich.console import Console

    from flanscale.orchestration.dispatch.closing import print_report
    from flanscale.orchestration.running.liveness import LOST
    from flanscale.orchestration.steering.retry import carry_out, make_retry
    from flanscale.orchestration.watching.live import open_console

    overrides = [name for name in names if "=" in name]
    states = _known_states(state, LOST) | ({"failed"} if failed else set())
    cells = _look([name for name in names if "=" not in name], where, states, classes)
    plan = make_retry([cell for study in cells for cell in study], overrides)
    console = Console(stderr=True) if as_json else open_console()
    console.print(_retry_line(plan), markup=False, highlight=False, soft_wrap=True)
    again = shlex.join(["flanscale", "retry", *names])
    code = carry_out(plan, console, again=again, wait=wait, report=print_report)
    if as_json:
        left = [{"run": left.cell.entry.run, "reason": left.reason} for left in plan.left]
        print(json.dumps({"started": [cell.entry.run for cell in plan.again], "left": left}, indent=1))
    raise typer.Exit(code)


def cancel(
    names: Names,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE[,STATE]",
            help="running, planned, interrupted, preempted, or queued: these and what waits in Slurm",
        ),
    ] = None,
    where: Where = None,
    removed: Annotated[bool, typer.Option("--removed", help="only what has left the study's file")] = False,
    yes: Annotated[bool, typer.Option("--yes", help=f"do not ask, however many (above {WITHOUT_ASKING})")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop cells: those that wait are planned again, those that run save a checkpoint first and are not requeued."""
    from flanscale.orchestration.steering.cancel import ASKED_FOR, cancel, cancellable

    if removed and where:
        raise ConfigError("--removed --where: what has left a study's file has no place in its grid; leave out --where")
    states = _known_states(state, tuple(ASKED_FOR))
    cells = _look(names, where, frozenset().union(*(ASKED_FOR[state] for state in states)), removed=removed)
    found = [cancellable(study) for study in cells]
    _confirm(sum(map(len, found)), yes)
    results = [cancel(study) for study in found]
    if as_json:
        print(json.dumps([vars(result) for result in results], indent=1))
        return
    for seen, result in zip(cells, results, strict=True):
        for line in _told(seen, result, removed):
            print(line)


def prune(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="a launched study", show_default=False)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="all studies, runs of no study, and what launches have left behind")
    ] = False,
    keep: Annotated[
        str, typer.Option(metavar="POLICY", help="of a finished run: best,last; final, which it stands for; or none")
    ] = "best,last",
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="only of runs that finished so long ago")
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="delete, or only show what would be")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete checkpoints that no policy keeps, of finished runs that nobody starts from; show how much that frees.

    What an unfinished run goes on from is never touched.
    """
    from flanscale.orchestration.planning.sheet import show
    from flanscale.orchestration.steering.prune import pruned_table, survey
    from flanscale.orchestration.watching.live import open_console

    if everything == (study is not None):
        raise ConfigError("prune what? one study, or --all")
    found = survey(study, _paths(), keep=keep, days=older_than)
    problems = [spare.problem for spare in found.spares.values() if spare.problem]
    in_use = found.delete() if yes else []
    if as_json:
        print(
            json.dumps(
                {
                    "deleted": yes,
                    "studies": found.rows(),
                    "bytes_left_over": found.bytes_left_over,
                    "in_use": in_use,
                    "problems": problems,
                },
                indent=1,
            )
        )
        return
    console = open_console()
    show(pruned_table(found, yes), console)
    for line in (*problems, *(f"{run}: somebody is at it" for run in in_use)):
        print(f"left: {line}")
    if not yes and found.bytes:
        print("nothing has been deleted; --yes does it")


# --- common to them -----------------------------------------------------------------------------------------------


def _paths() -> PathsConfig:
    from flanscale.schema import PathsConfig

    return PathsConfig()


def _known_states(texts: list[str] | None, known: tuple[str, ...]) -> frozenset[str]:
    from flanscale.orchestration.watching.selection import known_words

    return known_words("--state", texts or [], known)


def _look(
    names: list[str],
    where: list[str] | None,
    states: frozenset[str],
    classes: list[str] | None = None,
    *,
    removed: bool = False,
) -> list[list[Seen]]:
    """The cells of every study that is meant, as they are now.

    Raises:
        ConfigError: no name is given, or something that is not there.
    """
    from flanscale.orchestration.planning.finding import find
    from flanscale.orchestration.running.liveness import asking_rarely
    from flanscale.orchestration.steering.targets import look_at
    from flanscale.orchestration.watching.selection import Filter, known_classes

    if not names:
        raise ConfigError("no study or run is named; `flanscale status` lists the studies")
    which = Filter(tuple(where or ()), states, known_classes(classes or []))
    targets = find(names, _paths())
    known_jobs = asking_rarely()
    return [look_at(target.removed if removed else target, which, known_jobs) for target in targets]


def _cells(number: int) -> str:
    return f"{number} cell{'' if number == 1 else 's'}"


def _several(words: Iterable[str]) -> str:
    """The most frequent first: `2 config, 1 data`."""
    return ", ".join(f"{number} {word}" for word, number in Counter(words).most_common())


def _retry_line(plan: Retry) -> str:
    from flanscale.orchestration.watching.selection import failure_class

    why = _several(failure_class(cell.view) or cell.view.status for cell in plan.again)
    left = _several(left.reason for left in plan.left)
    return (f"starts {_cells(len(plan.again))} again ({why})" if plan.again else "starts nothing again") + (
        f"; leaves {len(plan.left)}: {left}" if plan.left else ""
    )


def _confirm(number: int, yes: bool) -> None:
    """Ask before many cells are stopped; raises `ConfigError` where nobody can answer."""
    if yes or number <= WITHOUT_ASKING:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"this would cancel {number} cells; add --yes, since there is no terminal to ask on")
    typer.confirm(f"cancel {number} cells?", abort=True)


def _told(cells: list[Seen], result: Cancelled, removed: bool) -> Iterator[str]:
    """One line for every kind of cell, and what brings them back."""
    for cell in cells:
        if cell.problem:
            yield f"left: {cell.problem}"
    kinds = [
        (result.running_jobs, "running in Slurm: saving a checkpoint, preempted then, and not requeued"),
        (result.processes, "running on this host: saving a checkpoint, preempted then, and not taken up again"),
        (result.queued_jobs, "waiting in Slurm: taken out of the queue"),
        (result.waiting, "waiting or stopped: no launch that is under way starts them"),
        (result.ended, "ended by themselves meanwhile"),
        (result.starting, "being started at this moment: left, cancel them once more"),
        (result.other_jobs, "whose job's number is another job's by now: left"),
        *((runs, f"at work on {host}: left, cancel them there") for host, runs in result.other_hosts.items()),
    ]
    for runs, told in kinds:
        if runs:
            yield f"{_cells(len(runs))} {told}"
    if not result.stopped:
        seen = _several(cell.view.status for cell in cells if not cell.problem)
        yield f"nothing cancelled{f': {seen}' if seen else ''}"
    elif removed:
        yield "they come back when the study's file has them again, with flanscale launch"
    else:
        ledger = cells[0].ledger
        launch = shlex.join(["flanscale", "launch", ledger.study, *ledger.overrides])
        yield f"they come back with: {launch}"
