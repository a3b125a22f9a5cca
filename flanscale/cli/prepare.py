"""How is a mixture made ready before a sweep? The verbs `flanscale tasks prepare` and `… tasks vocabulary`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flanscale.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from flanscale.schema import RunConfig

LINES_EVERY = 100  # tasks, where the output is no terminal

Workers = Annotated[int | None, typer.Option(min=1, help="processes; all cores when left out", show_default=False)]


def prepare(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="a file of sweeps/ by name, or the path of one")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="as for `flanscale launch`", show_default=False),
    ] = None,
    workers: Workers = None,
) -> None:
    """Tokenise every mixture of a study into the store, so that its cells start at once."""
    from flanscale.orchestration.planning.preview import make_plan
    from flanscale.orchestration.watching.live import open_console
    from flanscale.pipeline.feed import open_feed
    from flanscale.pipeline.spelling import warning
    from flanscale.pipeline.tokenizers import load_tokenizer

    mixtures = _mixtures([cell.config for cell in make_plan(study, overrides or []).cells])
    if not mixtures:
        raise ConfigError(f"{study} keeps nothing in the store: its cells render at every draw (mixture.renderings=0)")
    console = open_console()
    for config in mixtures:
        with _bar(console, f"{config.collection.name}, {config.mixture.count:,} tasks") as advance:
            feed = open_feed(config, load_tokenizer(config.tokenizer), workers=workers, on_progress=advance)
        assert feed.tokens_per_draw is not None
        tokens = float(feed.tokens_per_draw @ feed.mixture.sizes)
        left_out = "".join(f", {number:,} {why} left out" for why, number in feed.left_out.items())
        console.print(
            f"✔ {config.collection.name}, {(feed.mixture.sizes > 0).sum():,} tasks of {config.mixture.count:,}"
            f" asked for: {feed.mixture.sizes.sum():,} examples, {tokens:,.0f} tokens a pass,"
            f" {len(feed.contamination):,} overlaps with benchmarks{left_out}"
        )
        if line := warning(feed.unspelt, len(feed.mixture.names)):
            console.print(line)


def vocabulary(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="the mixture to learn from: collection=…, data.root=…, mixture.count=…"
        ),
    ] = None,
    to: Annotated[Path, typer.Option(help="the file to write")] = Path("tokenizer.json"),
    size: Annotated[int, typer.Option(help="ids at most")] = 32_000,
) -> None:
    """Learn a byte-level BPE vocabulary from a mixture's training texts, for tokenizer=huggingface."""
    from flanscale.cli.tasks import compose_loosely
    from flanscale.pipeline.feed import Renderer
    from flanscale.pipeline.vocabulary import train_bpe
    from flanscale.tasks.mixture import select_tasks

    config = compose_loosely(overrides or [])
    config = dataclasses.replace(config, mixture=dataclasses.replace(config.mixture, renderings=1))
    renderer = Renderer(config)
    names = select_tasks(renderer.collection, config.mixture, cot=config.cot)

    def texts() -> Iterator[str]:
        for name in names:
            made = renderer(name)
            yield from made.inputs
            yield from made.targets

    learnt = train_bpe(texts(), size, to)
    print(f"{to}: {learnt:,} ids learnt from {len(names):,} tasks; use it with")
    print(f"  tokenizer=huggingface tokenizer.vocabulary={to}")


@contextmanager
def _bar(console: Console, title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on a terminal, a line now and then elsewhere; call what it gives with (done, total, task)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=None)

        def advance(done: int, total: int, task: str) -> None:
            progress.update(bar, completed=done, total=total)
            if not console.is_terminal and (done == total or done % LINES_EVERY == 0):
                console.print(f"{title}: {done:,} of {total:,} tasks made")

        yield advance


def _mixtures(configs: list[RunConfig]) -> list[RunConfig]:
    """One configuration for each different mixture in the store, largest first: smaller ones are then there already."""
    stored = [config for config in configs if config.mixture.renderings and config.mixture.count]
    distinct = {repr((c.collection, c.mixture, c.cot, c.tokenizer)): c for c in stored}
    return sorted(distinct.values(), key=lambda config: -config.mixture.count)
