"""What people see of a study is whole and readable: on any terminal, without colours, through a pipe, for programs."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from flanscale.errors import ConfigError
from flanscale.orchestration.planning.ledger import Entry, Ledger
from flanscale.orchestration.planning.plan import Point
from flanscale.orchestration.planning.sheet import Column, Sheet, fitted, plain
from flanscale.orchestration.running.liveness import View
from flanscale.orchestration.running.progress import Progress
from flanscale.orchestration.watching.heatmap import heat_map, make_map, map_axes
from flanscale.orchestration.watching.live import Choice, picture, print_status
from flanscale.orchestration.watching.monitor import STATUSES, CellStatus, StudyStatus
from flanscale.orchestration.watching.selection import only, part_of, states
from flanscale.orchestration.watching.status_json import as_json
from flanscale.orchestration.watching.tables import hidden, shown, status_table
from flanscale.run_directory import Failure, RunState

AXES = {"model": ["nano", "micro"], "mixture.count": [0, 9, 89], "cot": [False, True]}
DOCUMENT = Path(__file__).parents[1] / "docs" / "watching.md"


def cell(number: int, status: str = "finished", **progress: Any) -> CellStatus:
    """A cell in this state; an attempt has taken 60 s."""
    entry = Entry(f"{number:04x}", f"{number:04x}-cell-s{number}", 20, 1000, 1e9)
    failure = Failure("data", "task0001: no\ninstances \x1b[31m", None, 3) if status == "failed" else None
    state = {"interrupted": "running", "damaged": "planned"}.get(status, status)
    begun = status not in ("planned", "queued", "damaged")
    record = RunState(state, int(begun), failure, seconds=60.0 * begun, updated=4e9 if status == "running" else 1.0)
    view = View(record, alive=status in ("running", "queued"))
    return CellStatus(entry, view, Progress(**progress), "state.json cannot be read" if status == "damaged" else None)


def study_of(cells: Sequence[CellStatus], axes: dict[str, list[Any]] = AXES) -> StudyStatus:
    """A study of these cells, at the points of the axes in their order."""
    values = itertools.product(*axes.values())
    points = tuple(
        Point(dict(zip(axes, here, strict=True)), one.entry.id) for here, one in zip(values, cells, strict=False)
    )
    entries = tuple(one.entry for one in cells)
    return StudyStatus(Ledger(Path("little.json"), "little", "", (), axes, points, entries, Path("runs")), cells)


def one_of_each() -> StudyStatus:
    """A study of twelve cells with every state."""
    told = [cell(0, score=50.0, stderr=1.0, step=20, loss=0.1, mfu=0.25), cell(1, score=60.0, step=20)]
    told.append(cell(2, "running", step=5, loss=float("nan"), tokens_per_second=12_345.6, steps_per_second=0.1))
    others = ["failed", "interrupted", "preempted", "queued", "damaged", *["planned"] * 4]
    return study_of([*told, *(cell(number, status) for number, status in enumerate(others, start=3))])


def printed(study: StudyStatus, choice: Choice | None = None, **console: Any) -> list[str]:
    output = io.StringIO()
    print_status(study, Console(file=output, **console), choice or Choice())
    return output.getvalue().splitlines()


# --- tables ------------------------------------------------------------------------------------------------------


def test_a_pipe_gets_every_cell_in_one_line_each_and_the_sums() -> None:
    lines = printed(one_of_each(), width=60)
    head = "cell model count cot state step loss score tok/s MFU time ETA try reason"
    assert " ".join(lines[0].split()) == head
    assert [line.split()[4] for line in lines[1:13]] == [one.status for one in one_of_each().cells]
    assert re.search(r"nano +0 +false +finished +20/20 +0\.100 +50\.0 ± 1\.0 +25\.0% +1 min 00 s +1$", lines[1])
    assert re.search(r"running +5/20 +nan +12\.3 k +1 min 00 s +\S.* +1$", lines[3])
    assert lines[4].endswith("data: task0001: no instances  [31m")
    assert lines[8].endswith("state.json cannot be read")
    assert lines[-2].startswith("device-hours: 0.1 used, ")
    assert lines[-1] == ("4 planned, 2 finished, 1 damaged, 1 failed, 1 interrupted, 1 preempted, 1 queued, 1 running")
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("width", [1, 10, 30, 45, 60, 80, 120, 300])
@pytest.mark.parametrize("height", [3, 12, 60])
def test_the_live_picture_fits_every_terminal(width: int, height: int) -> None:
    study = one_of_each()
    text = picture(study, Choice(axes=("model", "mixture.count")), width, height)
    lines = text.plain.split("\n")
    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= max(height, 5)
    if width >= 45:
        assert any("running" in line for line in lines[2:])


def test_narrow_terminals_keep_the_columns_that_matter() -> None:
    study = one_of_each()
    (head, *_) = fitted(status_table(study, study.cells), 60).plain.splitlines()
    assert {"cell", "state", "step", "reason"} <= set(head.split())
    assert not {"MFU", "tok/s"} & set(head.split())


def test_a_short_terminal_shows_what_runs_and_what_failed_first_and_counts_the_rest() -> None:
    cells = [cell(number, STATUSES[number % len(STATUSES)]) for number in range(800)]
    seen = [one.status for one in shown(cells, 300)]
    assert seen[:200] == ["running"] * 100 + ["failed"] * 100
    assert hidden(cells, shown(cells, 300)).startswith(
        "… 500 more: 100 interrupted, 100 preempted, 100 queued, 100 planned, 100 finished"
    )
    few = [one.status for one in shown(cells, 20)]
    assert (few.count("running"), few.count("failed")) == (10, 10)
    assert shown(cells[:20], 20) == cells[:20]
    assert hidden(cells[:20], shown(cells[:20], 20)) == ""


def test_on_a_terminal_the_table_leaves_room_and_says_what_it_hides() -> None:
    study = study_of([cell(number, "planned") for number in range(100)], {"seed": list(range(100))})
    lines = printed(study, width=80, height=24, force_terminal=True, color_system=None)
    assert len(lines) <= 24
    assert any(re.match(r"… \d\d more: \d\d planned", line) for line in lines)
    assert len(printed(study, width=80)) > 100


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def codes() -> set[str]:
        lines = printed(one_of_each(), Choice(axes=("model", "cot")), width=150, height=60, force_terminal=True)
        return set(re.findall(r"\x1b\[[0-9;]*m", "\n".join(lines)))

    monkeypatch.setenv("TERM", "xterm-256color")
    assert any("3" in code for code in codes())
    monkeypatch.setenv("NO_COLOR", "1")
    assert codes() <= {"\x1b[1m", "\x1b[0m"}


def test_a_study_without_cells_is_shown_as_such() -> None:
    study = study_of([])
    assert printed(study, Choice(axes=("model", "cot")))[-1] == "no cells"
    assert "0/0 cells" in picture(study, Choice(axes=("model", "cot")), 80, 24).plain


def test_cells_that_wait_for_others_say_so_and_have_a_stage() -> None:
    parent, child = cell(0, "running"), cell(1, "queued")
    child = replace(child, entry=replace(child.entry, parents=(parent.entry.id,)))
    study = study_of([parent, child], {"seed": [0, 1]})
    lines = plain(status_table(study, study.cells)).splitlines()
    assert [line.split()[1] for line in lines] == ["stage", "1", "2"]
    assert lines[2].endswith("after 0000 (running)")
    done = study_of([replace(parent, view=View(RunState("finished", 1), alive=False)), child], {"seed": [0, 1]})
    assert "after" not in plain(status_table(done, done.cells))


def test_cells_that_left_the_sweep_are_listed_and_summed_apart() -> None:
    study = one_of_each()
    gone = replace(study, removed=[replace(cell(99, "running"), removed=True)])
    lines = printed(gone)
    assert any(line.startswith("0063 ") and line.endswith("no longer in the sweep") for line in lines)
    assert "no longer in the sweep: 1 running" in lines


def test_columns_line_up_whatever_the_script() -> None:
    rows = [["a", "1"], ["任务", "22"], [("é", "red"), ("333", "green")]]
    sheet = Sheet([Column("name"), Column("n", right=True)], rows)
    lines = plain(sheet).splitlines()
    assert {cell_len(line) for line in lines} == {9}
    assert fitted(sheet, 80).plain.splitlines() == lines


# --- map ---------------------------------------------------------------------------------------------------------


def test_the_map_says_the_mean_score_what_is_missing_and_the_state() -> None:
    sheet, said = heat_map(make_map(one_of_each(), ("model", "mixture.count")))
    lines = [re.split(r" {2,}", line) for line in plain(sheet).splitlines()]
    assert lines[0] == ["model \\ count", "0", "9", "89"]
    assert lines[1] == ["nano", "55.0", "running 12%!", "interrupted"]
    assert lines[2] == ["micro", "damaged", "planned", "planned"]
    assert said == ["mean score of the finished cells of each place; !: one ended without a result"]


def test_a_place_with_some_of_its_cells_finished_counts_them() -> None:
    cells = [cell(0, score=40.0), cell(1, "failed"), cell(2, "running", step=5), cell(3, "planned")]
    study = study_of(cells, {"model": ["nano", "micro"], "seed": [0, 1]})
    sheet, said = heat_map(make_map(study, ("seed", "model")))
    assert plain(sheet).split("\n")[1].split() == ["0", "40.0", "running", "25%"]
    twice = study_of(cells, {"model": ["nano"], "seed": [0], "cot": [False, True], "x": [0, 1]})
    sheet, said = heat_map(make_map(twice, ("model", "seed")))
    assert plain(sheet).split("\n")[1].split() == ["nano", "40.0", "1/4!"]
    assert said == [
        "mean score of the finished cells of each place; k/n: so many of them are finished; "
        "!: one ended without a result"
    ]


def test_a_narrow_map_says_how_many_columns_are_missing() -> None:
    study = study_of([cell(n, score=1.0 * n) for n in range(40)], {"model": ["a", "b"], "seed": list(range(20))})
    sheet, said = heat_map(make_map(study, ("model", "seed")), width=40)
    assert max(map(len, plain(sheet).splitlines())) <= 40
    missing = 20 - (len(sheet.columns) - 1)
    assert said[-1].startswith(f"… {missing} more columns")


def test_the_two_longest_axes_make_the_map_unless_others_are_asked_for() -> None:
    ledger = one_of_each().ledger
    assert map_axes(ledger, None) == ("model", "mixture.count")
    assert map_axes(ledger, "count,cot") == ("mixture.count", "cot")
    assert map_axes(replace(ledger, axes={"seed": [0, 1], "model": ["nano"]}), None) is None
    for asked, message in (("count", "two axes"), ("cot,cot", "two axes"), ("cot,seeds", "no axis of that name")):
        with pytest.raises(ConfigError, match=message):
            map_axes(ledger, asked)


# --- filters -----------------------------------------------------------------------------------------------------


def test_where_takes_a_part_of_the_grid() -> None:
    ledger = one_of_each().ledger
    assert [entry.id for entry in part_of(ledger, ["count=9", "cot=true"]).entries] == ["0003", "0009"]
    assert len(part_of(ledger, ["mixture.count=0,9", "model=nano"]).entries) == 4
    assert len(part_of(ledger, ["count=0", "count=9"]).entries) == 8
    assert part_of(ledger, []) is ledger


@pytest.mark.parametrize(
    ("text", "message"),
    [("count", "expected AXIS=VALUE"), ("cont=9", "did you mean count"), ("cot=True", "'True' is no value of cot")],
)
def test_a_wrong_condition_is_told_with_what_there_is(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        part_of(one_of_each().ledger, [text])


def test_state_lists_cells_of_these_states_alone() -> None:
    study = one_of_each()
    assert [one.status for one in only(study, states(["failed,running", "damaged"]))] == [
        "running",
        "failed",
        "damaged",
    ]
    assert only(study, states([])) == study.cells
    lines = printed(study, Choice(states(["failed"])))
    assert sum("failed" in line for line in lines) == 2  # its row, and the sums of the whole study
    with pytest.raises(ConfigError, match="did you mean running"):
        states(["runing"])


# --- programs ----------------------------------------------------------------------------------------------------


def test_the_document_for_programs_is_strict_json_and_has_every_cell() -> None:
    study = one_of_each()
    text = json.dumps(as_json(study, study.cells, ("model", "cot")), allow_nan=False)
    document = json.loads(text)
    assert document["format"] == 1
    assert document["counts"] == dict(study.counts)
    assert [one["status"] for one in document["cells"]] == [one.status for one in study.cells]
    assert document["cells"][2]["loss"] == "nan"
    assert document["cells"][3]["failure"]["class"] == "data"
    assert document["cells"][0]["points"] == [{"model": "nano", "mixture.count": 0, "cot": False}]
    places = {tuple(place["values"]): place for place in document["map"]["places"]}
    assert places["nano", "false"]["score"] == 50.0


def test_every_key_for_programs_is_documented_and_no_other() -> None:
    study = one_of_each()
    document = as_json(study, study.cells, None)
    of_status = DOCUMENT.read_text().split("## plan --json")[0]
    _, whole, of_cell = of_status.split("\n| key")
    for keys, table in ((document, whole), (document["cells"][0], of_cell)):
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(keys)
