"""A run that has ended is asked any suite, by a job in its directory, and what came of it is in its log."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from flanscale.cli.main import app
from flanscale.config.compose import Composer, load
from flanscale.errors import ConfigError, NonFiniteWeights
from flanscale.evaluate import flips
from flanscale.evaluation.answering import Answered
from flanscale.evaluation.opening import suite_of
from flanscale.evaluation.records import Record, kept
from flanscale.inference.weights import fingerprint
from flanscale.run_directory import (
    Failure,
    evaluations,
    read_records,
    read_result,
    read_rows,
    read_state,
    recorded,
    write_state,
)
from flanscale.run_directory.evaluations import close_records

SMALL = [
    *("model=nano", "trainer.steps=4", "trainer.batch_rows=8", "tracker=disabled", "evaluation.items=1"),
    *("trainer.checkpoint_every=2", "trainer.keep_checkpoints=2"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run that has been asked its own suite."""
    from flanscale.orchestration.dispatch.reserve import create_run_dir
    from flanscale.orchestration.planning.plan import make_cell
    from flanscale.orchestration.running.job import start

    folder = tmp_path_factory.mktemp("evaluated")
    places = [f"paths.{name}={folder / name}" for name in ("runs", "studies", "reports")]
    cell = make_cell(Composer(), [*SMALL, *places, "mixture.count=9"])
    start(str(create_run_dir(cell.config)))
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which one works."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app([*arguments], standalone_mode=True)
    return int(ended.value.code or 0)


def the_run(home: Path) -> Path:
    (run,) = (home / "runs").iterdir() if not (home / "runs" / ".lease").exists() else [
        path for path in (home / "runs").iterdir() if not path.name.startswith(".")
    ]  # fmt: skip
    return run


def logged(run: Path) -> dict[str, Any]:
    return {key: value for row in read_rows(run) for key, value in row.items()}


def test_a_cell_asks_itself_when_it_has_trained(home: Path) -> None:
    run = the_run(home)
    (folder,) = evaluations(run)
    result = read_result(folder)
    assert result is not None
    assert [line["name"] for line in result["lines"]] == ["procedural/direct", "procedural/cot"]
    assert result["source"] == f"step 4 of {run.name}"
    row = logged(run)
    for line in result["lines"]:
        (score,) = line["scores"]
        assert row[f"eval/{line['name']}/score"] == score["score"]
        assert row[f"eval/{line['name']}/n"] == len(read_records(folder, line["name"])[0]) == score["n"]
    assert row["eval/normalized_average"] == result["average"]["score"]
    assert row["eval/suite"] == "procedural"


def test_another_suite_is_asked_by_a_job_in_its_directory_and_trains_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(home)
    before, state = read_rows(run), read_state(run)
    assert typed("evaluate", run.name[:6], "--suite", "held_out/direct", "evaluation.items=2") == 0
    own, other = sorted(evaluations(run), key=lambda folder: folder.name.startswith("held_out"))
    assert read_state(other).state == "finished"
    assert read_state(run) == state
    result = read_result(other)
    assert result is not None
    assert result["weights"] == (read_result(own) or {})["weights"]
    (new,) = read_rows(run)[len(before) :]
    assert new["step"] == 4
    assert {key.split("/")[2] for key in new if key.startswith("eval/procedural")} == {"direct@held_out_direct"}
    assert new["eval/normalized_average@held_out_direct"] == result["average"]["score"]
    assert "procedural  direct" in capsys.readouterr().out


def test_what_has_been_asked_is_not_asked_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = the_run(home)
    rows, folders = read_rows(run), evaluations(run)
    assert typed("evaluate", run.name) == 0
    assert "1 runs to ask, 1 of them done" in capsys.readouterr().out
    assert (read_rows(run), evaluations(run)) == (rows, folders)


def test_what_failed_or_lost_its_result_is_asked_again_when_it_is_typed_again(home: Path) -> None:
    run, asked = the_run(home), ("--suite", "held_out/direct", "evaluation.items=1")
    assert typed("evaluate", run.name, *asked) == 0
    (folder,) = [each for each in evaluations(run) if each.name.startswith("held_out_direct")]
    result = read_result(folder)
    for file in (folder / "result.json", *folder.glob("*.jsonl*")):
        file.unlink()
    assert typed("evaluate", run.name, *asked) == 0
    assert read_result(folder) == result
    (folder / "result.json").unlink()
    state = read_state(folder)
    write_state(folder, replace(state, state="failed", failure=Failure("unknown", "No space left on device")))
    assert typed("evaluate", run.name, *asked) == 0
    assert read_result(folder) == result


def test_damaged_records_are_told_with_what_to_delete(home: Path) -> None:
    run, asked = the_run(home), ("--suite", "held_out/direct", "evaluation.items=1")
    assert typed("evaluate", run.name, *asked) == 0
    (folder,) = [each for each in evaluations(run) if each.name.startswith("held_out_direct")]
    rows, _ = read_records(folder, "procedural/direct")
    for damage in ({"status": "fine"}, {"scores": {"exact_match": 1e5}}, {"scores": {"exact_match": "a"}}, {"note": 1}):
        close_records(folder, "procedural/direct", [{**rows[0], **damage}, *rows[1:]])
        with pytest.raises(ConfigError, match=r"record 1 of procedural/direct is damaged .* delete the files"):
            kept(folder, "procedural/direct")
    (folder / "result.json").unlink()
    close_records(folder, "procedural/direct", rows[:-1])
    assert typed("evaluate", run.name, *asked) == 1
    failure = read_state(folder).failure
    assert failure is not None
    assert "lacks 1 of 48 items" in failure.message
    assert "delete" in failure.message


def test_a_checkpoint_is_asked_by_itself_and_leaves_the_run_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(home)
    rows = read_rows(run)
    assert typed("evaluate", str(run / "checkpoints" / "4"), "--suite", "held_out/direct", "--json") == 0
    (document,) = json.loads(capsys.readouterr().out).values()
    assert document["source"] == f"step 4 of {run.name}"
    assert document["lines"][0]["scores"][0]["n"] == 48
    assert read_rows(run) == rows
    assert len(list((home / "evaluations").glob("*/*/result.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["evaluate"], "evaluate what? a study, a run, weights, or --outputs of another program"),
        (["evaluate", "RUN", "--suite", "held_out/letters"], "held_out has no setting 'letters'"),
        (["evaluate", "RUN", "--suite", "mmlux"], "no benchmark 'mmlux'; did you mean mmlu?"),
        (["evaluate", "RUN", "model=micro"], "model=micro: an evaluation takes overrides of evaluation, cluster, data"),
        (["evaluate", "RUN", "--suite", "held_out/direct,"], "lines with commas between, none of them empty"),
        (["evaluate", "RUN/checkpoints/61"], "no such checkpoint; "),
        (["evaluate", "RUN/checkpoints/foo"], "no such checkpoint; "),
        (["evaluate", "RUN", "--suite", "none"], "asks nothing by itself: say what with --suite"),
        (["evaluate", "RUN", "--suite", "mmlu"], "no data of mmlu: give data.benchmarks="),
        (["evaluate", "RUN/checkpoints/4", "--suite", "held_out/direct", "--out", "RUN/log.txt"], "not a folder"),
        (["evaluate", "--outputs", "gone.jsonl"], "--outputs FILE --benchmark LINE go together"),
        (
            ["evaluate", "--outputs", "gone.jsonl", "--benchmark", "held_out/direct"],
            "gone.jsonl: no such file of outputs",
        ),
    ],
)
def test_a_mistake_is_one_line(
    home: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flanscale.cli.main import main

    run = the_run(home)
    before = evaluations(run)

    def spelt(word: str) -> str:
        return run.name if word == "RUN" else word.replace("RUN/", f"runs/{run.name}/")

    monkeypatch.setattr(sys, "argv", ["flanscale", *(spelt(word) for word in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert why in said
    assert len(said.strip().splitlines()) == 1
    assert evaluations(run) == before, "nothing half-made"


def test_weights_are_known_by_their_numbers_and_places() -> None:
    params = {"a": jax.numpy.arange(6.0).reshape(2, 3), "b": {"c": jax.numpy.ones(4, jax.numpy.bfloat16)}}
    known = fingerprint(params)
    assert known == fingerprint(jax.tree.map(lambda x: x + 0, params))
    others = [
        params | {"a": params["a"].at[1, 2].add(1e-6)},
        params | {"a": params["a"][::-1]},
        params | {"a": params["a"].reshape(3, 2)},
        {"a": params["a"], "b": {"d": params["b"]["c"]}},
        params | {"b": {"c": params["b"]["c"].astype(jax.numpy.float16)}},
    ]
    assert len({known, *map(fingerprint, others)}) == 1 + len(others)


def test_weights_that_are_no_numbers_are_named_before_anything_is_asked() -> None:
    params = {"layers": {"query": jax.numpy.ones((2, 2)).at[0, 1].set(np.inf), "key": jax.numpy.full(3, np.nan)}}
    with pytest.raises(NonFiniteWeights, match=r"in layers\.key \(and 1 other tensors\): nothing is asked"):
        fingerprint(params)


def test_the_checkpoint_that_a_suite_scores_highest_is_called_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scores have names of their own, beside those of the parameters that nothing chose."""
    run = the_run(home)
    (untouched,) = evaluations(run)
    before = {key: value for row in read_rows(run) for key, value in row.items()}
    assert typed("evaluate", run.name, "evaluation.checkpoint=suite", "evaluation.items=2") == 0
    (folder,) = set(evaluations(run)) - {untouched}
    result = read_result(folder)
    assert result
    of = {step: read_result(folder / f"step-{step}") for step in (2, 4)}
    assert len({own["weights"] for own in of.values() if own}) == 2
    scores = {str(step): own["average"]["score"] for step, own in of.items() if own}
    best = result["chosen"]["step"]
    assert result["chosen"] == {"step": best, "scores": scores}
    assert scores[str(best)] == max(scores.values())
    assert {**result, "chosen": None} == {**(of[best] or {}), "chosen": None}
    for line in recorded(folder):
        assert read_records(folder, line) == read_records(folder / f"step-{best}", line)
    assert f"! chosen by these very scores: step {best}, the best of 2 checkpoints" in capsys.readouterr().out
    after = {key: value for row in read_rows(run) for key, value in row.items()}
    assert {key: after[key] for key in before if key.startswith("eval/")} == {
        key: value for key, value in before.items() if key.startswith("eval/")
    }
    assert after["eval/normalized_average@best_checkpoint"] == scores[str(best)]
    assert after["eval/procedural/direct@best_checkpoint/n"] == 2 * before["eval/procedural/direct/n"]
    # What is there is told again, and nothing is asked.
    marks = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert typed("evaluate", run.name, "evaluation.checkpoint=suite", "evaluation.items=2") == 0
    assert marks == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_where_there_is_nothing_to_choose_from_no_checkpoint_is_chosen(home: Path) -> None:
    checkpoint = the_run(home) / "checkpoints" / "2"
    with pytest.raises(ConfigError, match="chooses among the checkpoints of a run: name the run itself"):
        app(["evaluate", str(checkpoint), "evaluation.checkpoint=suite"], standalone_mode=False)
    with pytest.raises(ConfigError, match=r"trainer\.keep_checkpoints=1 keeps the last one alone"):
        Composer().compose([*SMALL, "mixture.count=9", "trainer.keep_checkpoints=1", "evaluation.checkpoint=suite"])


def other_model(run: Path, change: Callable[[dict[str, Any], int], dict[str, Any]]) -> Path:
    """A second run beside one, with the records of its first evaluation changed."""
    other = run.with_name("0123456789-other")
    shutil.copytree(run, other)
    folder = evaluations(other)[0]
    for line in recorded(folder):
        records, _ = read_records(folder, line)
        close_records(folder, line, [change(record, place) for place, record in enumerate(records)])
    return folder


def test_the_share_of_answers_that_a_precision_changes_is_told(home: Path) -> None:
    """Of the same weights in float32, whatever else was asked of others."""
    run = the_run(home)
    (mine,) = evaluations(run)
    exact = other_model(run, lambda record, place: record | {"answer": "else" if place % 4 == 0 else "the same"})
    suite = suite_of(load(run))
    answered = [
        Answered(
            line,
            tuple(Record.of(record | {"answer": "the same"}) for record in read_records(mine, line.name)[0]),
        )
        for line in suite.lines
    ]
    beside = mine.with_name("in_float32")
    shutil.move(exact, beside)
    result = read_result(beside) or {}
    about = {"weights": result["weights"], "precision": "bfloat16"}
    assert result["precision"] == "float32"
    assert flips(mine, suite, answered, about) == {"procedural/direct": 0.25, "procedural/cot": 0.25}
    assert flips(mine, suite, answered, about | {"precision": "float32"}) is None
    assert flips(mine, suite, answered, about | {"weights": "others"}) is None


def test_how_many_items_tell_two_models_apart_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, asked = the_run(home), ["--suite", "held_out/direct", "evaluation.items=2"]
    assert typed("evaluate", run.name, *asked) == 0
    other = other_model(
        run, lambda record, place: record | {"scores": dict.fromkeys(record["scores"], 100.0 * (place % 2))}
    )
    assert typed("evaluate", run.name, other.parents[1].name, *asked, "--detect", "25") == 0
    # Of the two items of each of 48 tasks one differs by 100 points: 2.8² · 5,000 / 25², and 2.8 · √(5,000 / 96).
    expected = (
        "procedural/direct: 25 points take 96 items (63 by the formula); the 96 here tell 20.22 points apart, 80 % of"
        " the time at the 5 % level"
    )
    assert expected in capsys.readouterr().out.splitlines()


def test_people_compare_two_runs_without_knowing_whose_answers_they_read(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(home)
    folders = [*evaluations(run), other_model(run, lambda record, _: record)]
    assert typed("sheet", *map(str, folders), "--line", "procedural/direct", "--out", "mine") == 0
    assert "mine.html, mine.jsonl: 48 pairs; keep mine.key.json from those who judge" in capsys.readouterr().out
    key = json.loads((home / "mine.key.json").read_text())
    judged = [
        {
            "sheet": key["sheet"],
            "rater": "Ann",
            "key": name,
            "better": "1" if item["first"] == 0 else "2",
            "failed": [False, False],
        }
        for name, item in key["items"].items()
    ]
    (home / "ann.jsonl").write_text("".join(json.dumps(line) + "\n" for line in judged))
    assert typed("preferences", "ann.jsonl", "--key", "mine.key.json") == 0
    said = capsys.readouterr().out
    assert f"{run.name} is preferred to 0123456789-other in 100.0 %" in said
    assert "48 wins, 0 ties, 0 losses" in said


@pytest.mark.slow
def test_a_cell_that_asks_itself_chooses_among_its_checkpoints_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flanscale.orchestration.dispatch.reserve import create_run_dir
    from flanscale.orchestration.planning.plan import make_cell
    from flanscale.orchestration.running.job import start

    monkeypatch.chdir(tmp_path)
    run = create_run_dir(make_cell(Composer(), [*SMALL, "mixture.count=9", "evaluation.checkpoint=suite"]).config)
    start(str(run))
    (folder,) = evaluations(run)
    result = read_result(folder)
    assert result
    assert result["chosen"]["scores"].keys() == {"2", "4"}
    last = {key: value for row in read_rows(run) for key, value in row.items()}
    assert last["eval/normalized_average@best_checkpoint"] == result["average"]["score"]
    assert "eval/normalized_average" not in last
