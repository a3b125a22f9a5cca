"""What came of an evaluation? Its scores as a table, with everything that a reader must know beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flanscale.evaluation.ceiling import LOW
from flanscale.orchestration.planning.figures import some
from flanscale.orchestration.planning.sheet import Column, Place, Sheet

MOST_NAMED = 6  # subtasks in a sentence
COLUMNS = (
    Column("model", optional=True, worth=8),
    Column("benchmark"),
    Column("setting"),
    Column("metric", worth=3),
    Column("score", right=True),
    Column("95 %", right=True, worth=8),
    Column("normalised", right=True, worth=7),
    Column("items", right=True, worth=6),
    Column("shots", right=True, worth=5),
    Column("no answer", right=True, worth=6),
    Column("cut", right=True, worth=4, optional=True),
    Column("fewer shots", right=True, worth=4, optional=True),
    Column("skipped", right=True, worth=4, optional=True),
    Column("seen", right=True, worth=4, optional=True),
    Column("ceiling", right=True, worth=5, optional=True),
)


def score_table(results: Mapping[str, Mapping[str, Any]]) -> Sheet:
    """One row for each model, line and metric.

    Args:
        results: name of the model → its document, see `flanscale.evaluation.results`.
    """
    several = len(results) > 1
    rows = [row for name, result in results.items() for row in _rows(name if several else "", result)]
    return Sheet(COLUMNS, rows)


def remarks(result: Mapping[str, Any], model: str = "") -> Iterator[str]:
    """What else is to be said, a line each: the average and its members, what is missing, notes and faults.

    Args:
        model: its name, where there are several, before what is true of it alone.
    """
    own = f"{model}: " if model else ""
    if (average := result["average"]) is not None:
        yield f"{own}{average['name']}: {average['score']:.1f} ± {average['stderr']:.1f}"
    if (chosen := result.get("chosen")) is not None:
        many, step = len(chosen["scores"]), chosen["step"]
        yield f"{own}! chosen by these very scores: step {step:,}, the best of {many} checkpoints"
    for name, share in (result.get("flips") or {}).items():
        yield f"{own}{name}: {100 * share:.1f} % of the answers are others in float32"
    for line in result["lines"]:
        for score in line["scores"][:1]:
            if score["flagged"]:
                share = f"{100 * score['failed']:.0f} %"
                ranked = "smooth" in line
                what = f"{share} of the items have no option that is likelier than all others"
                yield f"{own}! {line['name']}: {what if ranked else f'no answer was found in {share} of the texts'}"
            if score["clean"] is not None:
                clean = score["clean"]
                unseen = f"on the {clean['n']:,} items that training has not seen"
                yield f"{own}{line['name']}: {clean['score']:.1f} {unseen}"
        if line["missing"]:
            yield f"{line['name']}: without {some(line['missing'], MOST_NAMED)}, of which nothing is here"
        if (low := _low(line)) is not None:
            yield f"{own}! {line['name']}: {low}"
        yield from (f"{line['name']}: {note}" for note in line["notes"])
    yield from (f"✘ not asked: {fault}" for fault in result["faults"])


def _rows(name: str, result: Mapping[str, Any]) -> Iterator[list[Place]]:
    for line in result["lines"]:
        for score in line["scores"]:
            failed: Place = f"{100 * score['failed']:.0f} %"
            ceiling = line.get("ceiling", {}).get("share")
            yield [
                name,
                score["label"],
                line["setting"],
                score["metric"],
                f"{score['score']:.1f} ± {score['stderr']:.1f}",
                f"{score['low']:.1f}–{score['high']:.1f}",
                f"{score['normalized']:.1f}",
                f"{score['n']:,}",
                f"{score['shots']:.3g}",
                (str(failed), "red") if score["flagged"] else failed,
                *(
                    f"{score[count]:,}" if score[count] else ""
                    for count in ("cut", "dropped", "skipped", "contaminated")
                ),
                "" if ceiling is None or ceiling >= 99.95 else f"{ceiling:.1f}",
            ]


def _low(line: Mapping[str, Any]) -> str | None:
    """Which subtasks have right answers that this vocabulary cannot write."""
    shares = line.get("ceiling", {}).get("subtasks", {})
    low = [f"{name} {share:.1f} %" for name, share in shares.items() if share < LOW]
    return f"this vocabulary can write few of the right answers of {some(low, MOST_NAMED)}" if low else None
