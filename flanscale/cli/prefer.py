"""How do people compare two models' answers? The verbs `sheet` and `preferences`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flanscale.errors import ConfigError


def sheet(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVALUATION EVALUATION",
            help="two folders of evaluations, each with a result.json",
            show_default=False,
        ),
    ],
    line: Annotated[str, typer.Option(help="of which line the answers are shown")] = "open_ended/direct-sc5",
    out: Annotated[Path, typer.Option(help="name of the files, without ending")] = Path("sheet"),
    seed: Annotated[int, typer.Option(help="by which it is drawn whose answer stands first")] = 0,
) -> None:
    """Write a sheet on which people compare the answers of two models, without knowing whose they are."""
    from flanscale.config.compose import Composer, load
    from flanscale.evaluation.opening import suite_of
    from flanscale.evaluation.records import Record
    from flanscale.evaluation.side_by_side import Contender, write_sheet
    from flanscale.evaluation.suites import prompt_hash
    from flanscale.run_directory import is_run, read_records, run_of_evaluation

    if len(folders) != 2:
        raise ConfigError(f"a sheet compares two evaluations, not {len(folders)}")
    contenders = []
    for folder in folders:
        rows, whole = read_records(folder, line)
        if not whole:
            raise ConfigError(f"{folder}: {line} has not been asked to the end there")
        contenders.append(Contender(run_of_evaluation(folder.absolute()).name, list(map(Record.of, rows))))
    home = run_of_evaluation(folders[0].absolute())
    config = load(home) if is_run(home) else Composer().compose(["mixture.count=0"])
    config.evaluation.asks, config.evaluation.items = [line], None
    items = [item for opened in suite_of(config).lines for item in opened.asked.items]
    prompts = {prompt_hash(item): item.prompt.text() for item in items}
    one, other = contenders
    made = write_sheet(out, one, other, prompts, seed)
    told = f", {made.left_out} left out that one of them gave no answer to" if made.left_out else ""
    print(f"{made.html}, {made.pairs}: {made.items} pairs{told}; keep {made.key} from those who judge")


def preferences(
    judgements: Annotated[list[Path], typer.Argument(metavar="JUDGEMENTS.jsonl...", help="what the page saved")],
    key: Annotated[Path, typer.Option(help="the sheet's key")] = Path("sheet.key.json"),
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say which of two models people prefer, and how sure that is."""
    from dataclasses import asdict

    from flanscale.evaluation.preference import win_rates
    from flanscale.evaluation.side_by_side import read_judgements

    judged = read_judgements(judgements, key)
    rates = win_rates(judged.judgements)
    if as_json:
        document: dict[str, Any] = {"models": judged.models, "rates": [asdict(rate) for rate in rates]}
        print(json.dumps(document))
        return
    one, other = judged.models
    for rate in rates:
        print(
            f"{rate.subtask or 'all items'}: {one} is preferred to {other} in {rate.share:.1f} %"
            f" ({rate.low:.1f}–{rate.high:.1f}) of {rate.items} items, {rate.judgements} judgements:"
            f" {rate.wins} wins, {rate.ties} ties, {rate.losses} losses;"
            f" no answer at all {rate.failed[0]:.1f} % and {rate.failed[1]:.1f} %"
        )
