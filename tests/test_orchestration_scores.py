"""The table of an evaluation's scores, and what is told beside it: nothing that a reader must know is left out."""

from __future__ import annotations

from typing import Any

from flanscale.orchestration.planning.sheet import plain
from flanscale.orchestration.watching.scores import remarks, score_table

SCORE = {
    "metric": "exact_match",
    "benchmark": "bbh",
    "label": "bbh (2 of 27)",
    "score": 31.25,
    "stderr": 1.5,
    "low": 28.3,
    "high": 34.2,
    "normalized": 12.5,
    "n": 1200,
    "shots": 3.0,
    "failed": 0.25,
    "flagged": True,
    "cut": 1100,
    "dropped": 0,
    "skipped": 0,
    "contaminated": 40,
    "clean": {"score": 30.0, "n": 1160},
}
LINE = {
    "name": "bbh/cot",
    "setting": "cot",
    "scores": [SCORE],
    "missing": ["snarks", "navigate", *"abcdef"],
    "notes": ["Translated."],
    "ceiling": {"share": 70.0, "subtasks": {"dyck": 3.21, "boolean": 100.0}},
}


def result(**changes: Any) -> dict[str, Any]:
    average = {"name": "normalised average of bbh/cot", "score": 12.5, "stderr": 0.5}
    return {"average": average, "flips": None, "lines": [LINE], "faults": ["tydiqa/direct: no data"]} | changes


def cells(text: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell] for line in text.splitlines()]


def test_a_row_says_how_sure_its_score_is_and_what_became_of_the_items() -> None:
    head, row = cells(plain(score_table({"mine": result()})))
    told = dict(zip(map(str.strip, head), map(str.strip, row), strict=True))
    assert told == {
        "benchmark": "bbh (2 of 27)",
        "setting": "cot",
        "metric": "exact_match",
        "score": "31.2 ± 1.5",
        "95 %": "28.3–34.2",
        "normalised": "12.5",
        "items": "1,200",
        "shots": "3",
        "no answer": "25 %",
        "cut": "1,100",
        "seen": "40",
        "ceiling": "70.0",
    }


def test_several_models_are_told_apart() -> None:
    _, *rows = cells(plain(score_table({"one": result(), "two": result()})))
    assert [row[0] for row in rows] == ["one", "two"]


def test_everything_that_qualifies_a_score_is_said() -> None:
    assert list(remarks(result(flips={"bbh/cot": 0.125}), "mine")) == [
        "mine: normalised average of bbh/cot: 12.5 ± 0.5",
        "mine: bbh/cot: 12.5 % of the answers are others in float32",
        "mine: ! bbh/cot: no answer was found in 25 % of the texts",
        "mine: bbh/cot: 30.0 on the 1,160 items that training has not seen",
        "bbh/cot: without snarks, navigate, a, b, c, d, 2 more, of which nothing is here",
        "mine: ! bbh/cot: this vocabulary can write few of the right answers of dyck 3.2 %",
        "bbh/cot: Translated.",
        "✘ not asked: tydiqa/direct: no data",
    ]
    assert list(remarks(result(average=None, lines=[], faults=[]))) == []
