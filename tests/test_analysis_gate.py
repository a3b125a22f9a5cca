"""What makes numbers incomparable is named, with its cells; nothing that a log may hold ends the analysis."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic_study import AXES, write_study

from analysis import gate, panels, report, sources
from analysis.gate import Finding

SMALL = AXES | {"model": ["nano"], "mixture.count": [9, 89, 282]}


def rewrite(root: Path, number: int, change: Callable[[dict[str, Any]], object]) -> str:
    """Change the evaluated row of one run; its cell."""
    run = sorted((root / "runs").iterdir())[number]
    file = run / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    change(rows[-1])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run.name.split("-")[0]


def findings(index: Path) -> dict[str, Finding]:
    study = sources.read(index)
    return {each.kind: each for each in gate.findings(study, panels.analyse(study))}


def test_a_sound_study_has_no_findings(tmp_path: Path) -> None:
    assert findings(write_study(tmp_path, axes=SMALL, records=False)) == {}


def test_averages_over_other_members_are_made_those_over_what_is_common(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL, records=False)
    cell = rewrite(tmp_path, 3, lambda row: row.update({"eval/normalized_average_members": ["procedural/cot"]}))
    found = findings(index)["averages over different members"]
    assert found.cells == (cell,)
    study = sources.read(index)
    assert study.members == (("procedural", "cot"),)
    for scores in study.scored.values():
        average, member = scores.found["normalized_average", "all"], scores.found["procedural", "cot"]
        assert average["normalized"] == pytest.approx(member["normalized"], abs=1e-9) or cell


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "different lower bounds": lambda row: row.update({"eval/procedural/cot/lower_bound": 10.0}),
    "different items": lambda row: row.update({"eval/procedural/cot/n": 24}),
    "unreadable scores": lambda row: row.update({"eval/procedural/cot/score": None}),
    "unreadable scores ": lambda row: row.update({"eval/procedural/cot/score": "many"}),
    "unreadable scores  ": lambda row: row.update({"eval/procedural/cot/score": 5000}),
    "unreadable scores   ": lambda row: row.update({"eval/procedural/cot/lower_bound": 100}),
    "unreadable scores    ": lambda row: row.pop("eval/procedural/cot/lower_bound"),
    "unreadable scores     ": lambda row: row.update({"eval/normalized_average_members": ["mmlu/direct"]}),
    "unreadable scores      ": lambda row: row.update({"eval/normalized_average_members": None}),
    "unreadable scores       ": lambda row: row.update({"eval/procedural/cot/score": float("nan")}),
    "unreadable scores        ": lambda row: row.update({"eval/procedural/cot/normalized": 10**400}),
    "no standard error": lambda row: row.pop("eval/procedural/cot/stderr"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_it_is_named_with_its_cell_and_the_report_is_made(tmp_path: Path, kind: str) -> None:
    index = write_study(tmp_path, axes=SMALL, records=False)
    cell = rewrite(tmp_path, 3, CHANGES[kind])
    assert findings(index)[kind.strip()].cells == (cell,)
    built = report.build(index, tmp_path / "reports")
    assert kind.strip() in built.html.read_text()


def test_other_prompts_and_data_are_named(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL, records=False)
    for number in range(12):
        rewrite(tmp_path, number, lambda row, n=number: row.update({"eval/procedural/cot/prompts": str(n == 5)}))
    run = sorted((tmp_path / "runs").iterdir())[7]
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("5eed5eed", "0000"))
    found = findings(index)
    assert len(found["different prompts"].cells) == 1
    assert found["different data"].cells == (run.name.split("-")[0],)


def test_data_that_follow_an_axis_have_not_changed(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL | {"model": ["nano", "micro"]}, records=False)
    runs = sorted((tmp_path / "runs").iterdir())

    def give(run: Path, tasks: str, init: str) -> None:
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["fingerprints"] |= {"tasks": tasks, "init": init}
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    for run in runs:
        _, model, count, arm, _ = run.name.split("-")
        give(run, f"{count} {arm}", f"weights of {model}")
    assert "different data" not in findings(index)
    for run in runs:
        give(run, "0", f"run {run.name}")
    assert "different data" not in findings(index)
    _, model, count, arm, _ = runs[5].name.split("-")
    give(runs[5], "others", "0")
    assert findings(index)["different data"].cells == (runs[5].name.split("-")[0],)


def test_items_without_an_answer_are_told(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL, records=False)
    cell = rewrite(tmp_path, 3, lambda row: row.update({"eval/procedural/cot/failures": 500}))
    rewrite(tmp_path, 4, lambda row: row.update({"eval/procedural/cot/failures": 60}))
    found = findings(index)["items without an answer"]
    assert found.cells == (cell,)
    assert "up to 83 % of the items" in found.text


def test_questions_that_were_too_long_to_be_asked_are_told(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL, records=False)
    cell = rewrite(
        tmp_path, 3, lambda row: row.update({"eval/procedural/cot/skipped": 40, "eval/procedural/cot/n": 600})
    )
    rewrite(tmp_path, 4, lambda row: row.update({"eval/procedural/cot/skipped": 6, "eval/procedural/cot/n": 634}))
    found = findings(index)["questions that were not asked"]
    assert found.cells == (cell,)
    assert "up to 6.2 % of the questions are longer than evaluation.context" in found.text


def test_fractions_are_not_taken_for_percent(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL, records=False, truth=lambda axes, setting: 0.9 + axes["seed"] / 10)
    for number in range(12):
        rewrite(
            tmp_path,
            number,
            lambda row: row.update({"eval/procedural/cot/score": row["eval/procedural/cot/score"] / 100}),
        )
    assert "fractions in place of percent" in findings(index)


def test_copies_of_a_run_are_no_replicates(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL, records=False)
    one, other = sorted((tmp_path / "runs").iterdir())[:2]
    (other / "metrics.jsonl").write_text((one / "metrics.jsonl").read_text())
    assert findings(index)["copies"].cells == (one.name.split("-")[0], other.name.split("-")[0])


def test_a_collapsed_seed_is_flagged(tmp_path: Path) -> None:
    index = write_study(tmp_path, axes=SMALL | {"seed": [0, 1, 2]}, records=False)

    def collapse(row: dict[str, Any]) -> None:
        for name in ("score", "normalized"):
            row[f"eval/procedural/cot/{name}"] = 1.0

    cell = rewrite(tmp_path, 17, collapse)
    found = findings(index)["outlying runs"]
    assert found.cells == (cell,)


def test_what_missing_arms_leave_unanswered_is_said(tmp_path: Path) -> None:
    without = {number: "queued" for number in range(12) if number % 4 >= 2}
    found = findings(write_study(tmp_path, axes=SMALL, states=without, records=False))["missing arms"]
    assert "Δ CoT, mean over task counts" in found.text
    assert len(found.cells) == 6


def test_all_findings_fit_in_one_line() -> None:
    found = [Finding("copies", "a", ()), Finding("no standard error", "b", ()), Finding("copies", "c", ())]
    assert gate.in_a_line(found) == "copies (2 times), no standard error"
