"""How do people compare two models' answers? The verbs `sheet` and `preferences`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flanscale.errors import ConfigError
from flanscale.run_directory import EVALUATIONS


def sheet(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="EVALUATION EVALUATION [KEY=VALUE]...",
            help="two folders of evaluations, each with a result.json; then where data are, as data.root=<folder>",
            show_default=False,
        ),
    ],
    line: Annotated[str, typer.Option(help="of which line the answers are shown")] = "open_ended/direct-sc5",
    out: Annotated[Path, typer.Option(help="name of the files, without ending")] = Path("sheet"),
    seed: Annotated[int, typer.Option(help="by which it is drawn whose answer stands first")] = 0,
) -> None:
    """Write a sheet on which people compare the answers of two models, without knowing whose they are."""
    from flanscale.config.compose import Composer, load
    from flanscale.config.overrides import parse_override
    from flanscale.evaluation.opening import suite_of
    from flanscale.evaluation.records import kept
    from flanscale.evaluation.side_by_side import Contender, write_sheet
    from flanscale.evaluation.suites import prompt_hash
    from flanscale.orchestration.steering.retry import changed
    from flanscale.run_directory import is_run, recorded, run_of_evaluation

    overrides = [parse_override(text) for text in folders if "=" in text]
    places = [Path(text).absolute() for text in folders if "=" not in text]
    if len(places) != 2:
        raise ConfigError(f"a sheet compares two evaluations, not {len(places)}")
    contenders = []
    for place in places:
        if not (there := recorded(place)):
            raise ConfigError(f"{place}: no evaluation that is over; expected a folder with a result.json and records")
        if line not in there:
            raise ConfigError(f"{place}: {line} has not been asked to the end there; there are {', '.join(there)}")
        contenders.append(Contender(_model(place, places), kept(place, line)[0]))
    homes = [home for place in places for home in (place, run_of_evaluation(place)) if is_run(home)]
    config = changed(load(homes[0]) if homes else Composer().compose(["mixture.count=0"]), overrides)
    config.evaluation.asks, config.evaluation.items = [line], None
    suite = suite_of(config)
    if suite.faults:
        raise ConfigError(f"{suite.faults[0]}; say where with data.root=<folder>")
    items = [item for opened in suite.lines for item in opened.asked.items]
    prompts = {prompt_hash(item): item.prompt.text() for item in items}
    one, other = contenders
    made = write_sheet(out, one, other, prompts, seed)
    told = f", {made.left_out} left out that one of them gave no answer to" if made.left_out else ""
    print(f"{made.html}, {made.pairs}: {made.items} pairs{told}; keep {made.key} from those who judge")


def _model(place: Path, places: list[Path]) -> str:
    """The name of the run or the weights that were asked; with the evaluation's where it was asked twice."""
    names = [each.parent.name if each.parent.name != EVALUATIONS else each.parent.parent.name for each in places]
    own = names[places.index(place)]
    return own if names.count(own) == 1 else f"{own}/{place.name}"


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
