"""`flanscale show`: one run in a page, whatever state it is in and whichever of its files is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from little_study import Workplace, open_workplace
from told import Command

from flanscale.config.difference import difference
from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.planning.ledger import ledger_of, write_ledger
from flanscale.orchestration.running.liveness import this_process
from flanscale.orchestration.watching.answers import prompts_of, some_answers
from flanscale.orchestration.watching.curve import drawn
from flanscale.run_directory import (
    Attempt,
    Failure,
    RunState,
    read_config,
    write_attempts,
    write_state,
)
from flanscale.run_directory.evaluations import close_records

SMALL = ("mixture.count=9", "seed=0", "evaluation=procedural", "evaluation.items=2")
SUITE = Path("evaluations", "procedural-0")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


@pytest.fixture
def run(place: Workplace) -> Path:
    """A finished run with a loss that falls, a score, twelve answers of which three are right, and one attempt."""
    run = create_run_dir(place.plan(*SMALL).cells[0].config)
    write_state(run, RunState(state="finished", attempt=1, seconds=61.0))
    score = {
        "eval/normalized_average": 25.0,
        "eval/normalized_average_stderr": 4.5,
        "eval/procedural/direct/score": 25.0,
        "eval/procedural/direct/stderr": 4.5,
        "eval/procedural/direct/n": 12,
    }
    rows = [{"step": step, "train/loss": 4.0 - step / 10} for step in range(1, 21)] + [{"step": 20, **score}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    close_records(run / SUITE, "procedural/direct", answers(run))
    write_attempts(run, [Attempt(1, 0.0, "0.1.0", "3.11", "node17", "Linux", [], devices=["cpu:0"])])
    return run


def answers(run: Path, **scores: float) -> list[Mapping[str, Any]]:
    """Records of its first prompts; every fourth of them is right by exact match."""
    return [
        {
            "key": f"reverse/{number}",
            "subtask": "reverse",
            "prompt_hash": digest,
            "samples": [{"text": f"said {number}"}],
            "answer": f"took {number}",
            "reference": f"meant {number}",
            "scores": {"exact_match": 100.0 if number % 4 == 3 else 0.0, **scores},
        }
        for number, digest in enumerate(list(prompts_of(run))[:12])
    ]


def test_a_finished_run_is_told_in_a_page(run: Path, flanscale: Command) -> None:
    told = flanscale("show", run.name[:10])
    assert (told.returncode, told.stderr) == (0, "")
    lines = told.stdout.splitlines()
    assert lines[:3] == [
        run.name,
        "finished, attempt 1, 1 min 01 s in all",
        "differs from the defaults in: model=nano tracker=disabled mixture.count=9 trainer.steps=20 evaluation.items=2",
    ]
    assert lines[3:5] == [
        "score 25.0 ± 4.5, the normalised average",
        "  procedural/direct: 25.0 ± 4.5 of 12 examples",
    ]
    assert "loss by step: 2.000 at step 20" in lines
    assert [line for line in lines if "█" in line]
    assert "10 of its answers, wrong ones first" in lines
    verdicts = [line[0] for line in lines if line.startswith(("✔", "✘"))]
    assert verdicts == ["✘"] * 7 + ["✔"] * 3
    prompt = next(iter(prompts_of(run).values()))
    place = lines.index("✘ reverse, direct, reverse/0")
    assert lines[place + 1 : place + 5] == [
        f"  asked      {prompt}",
        "  answered   said 0",
        "  taken as   took 0",
        "  reference  meant 0",
    ]
    assert lines[-1].endswith(" on node17; cpu:0; flanscale 0.1.0")


def test_as_many_answers_as_asked_for(run: Path, flanscale: Command) -> None:
    assert flanscale("show", run.name, "-n", "3").stdout.count("answered") == 3
    assert "answers" not in flanscale("show", run.name, "-n", "0").stdout
    wrong_first = [*"012", *"456", "8", "9", "10", "3", "7", "11"]
    assert [one.id for one in some_answers(run, 99)] == [f"reverse/{number}" for number in wrong_first]


def test_an_answer_under_two_metrics_is_shown_once_under_the_kinder(run: Path) -> None:
    close_records(run / SUITE, "procedural/direct", answers(run, rouge_l=40.0))
    shown = some_answers(run, 99)
    assert len(shown) == 12
    assert [one.score for one in shown] == [40.0] * 9 + [100.0] * 3


def test_what_two_suites_asked_alike_is_shown_once(run: Path) -> None:
    before = some_answers(run, 99)
    close_records(run / SUITE.with_name("other-1"), "procedural/direct", answers(run))
    assert some_answers(run, 99) == before


def test_where_options_are_ranked_the_chosen_one_is_shown_and_what_has_no_score_is_not(
    run: Path, flanscale: Command
) -> None:
    ranked = {"samples": [], "answer": "B", "reference": "C", "subtask": "anatomy", "scores": {"exact": 0.0}}
    skipped = {**ranked, "answer": None, "scores": {}}
    unranked = {**ranked, "answer": None}
    rows = [
        {**row, "key": f"test/anatomy/{n}", "prompt_hash": "0"} for n, row in enumerate((ranked, skipped, unranked))
    ]
    close_records(run / SUITE, "mmlu/letters", rows)
    (run / SUITE / "procedural.direct.jsonl.gz").unlink()
    lines = flanscale("show", run.name).stdout.splitlines()
    place, other = (lines.index(f"✘ anatomy, letters, test/anatomy/{n}") for n in (0, 2))
    assert lines[place + 1 : place + 3] == ["  answered   B", "  reference  C"]
    assert lines[other + 1 : other + 4] == ["  answered   (nothing)", "  taken as   (no answer)", "  reference  C"]
    assert "test/anatomy/1" not in "".join(lines)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.yaml", b"model: [", "config.yaml cannot be read ("),
        ("state.json", b"{", "state.json cannot be read ("),
        ("metrics.jsonl", b"torn}\n", "metrics.jsonl:1 cannot be read ("),
        ("metrics.jsonl", b'{"step": 1, "train/loss": [1]}\n', "what it has logged cannot be read (TypeError"),
        (f"{SUITE}/procedural.direct.jsonl.gz", b"\x1f\x8bcut", "procedural.direct.jsonl.gz cannot be read"),
        ("provenance.json", b"[]", "provenance.json cannot be read"),
    ],
)
def test_what_is_damaged_is_one_sentence_and_the_rest_is_shown(
    run: Path, flanscale: Command, file: str, content: bytes, said: str
) -> None:
    whole = flanscale("show", run.name).stdout.splitlines()
    (run / file).write_bytes(content)
    told = flanscale("show", run.name)
    assert told.returncode == 0
    lines = told.stdout.splitlines()
    (sentence,) = [line for line in lines if said in line and not line.startswith("their prompts")]
    assert sentence.startswith("✘ ")
    left = {line for line in lines if line in whole and line.strip()}
    assert len(left) > 5
    assert lines[0] == run.name


def test_without_its_data_the_answers_are_shown_without_prompts(
    run: Path, flanscale: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (run / "config.yaml").read_text().replace("name: procedural\n", "name: niv2\n", 1)
    (run / "config.yaml").write_text(text)
    out = flanscale("show", run.name).stdout
    assert "their prompts cannot be made again here: " in out
    assert "asked" not in out
    assert "answered   said 0" in out


def test_running_and_failed_runs_and_those_that_have_not_begun(place: Workplace, run: Path, flanscale: Command) -> None:
    me = this_process()
    write_state(run, RunState().running(host=me.host, pid=me.pid, process_started=me.started))
    assert f"running on {me.host}, process {me.pid}, attempt 1, " in flanscale("show", run.name).stdout
    write_state(run, RunState(state="failed", attempt=2, failure=Failure("data", "no\ninstances")))
    (run / "metrics.jsonl").unlink()
    lines = flanscale("show", run.name).stdout.splitlines()
    assert lines[1:3] == ["failed, attempt 2, 0 s in all", "data: no instances"]
    assert "no score yet" in lines
    ledger = ledger_of(place.plan("seed=5", "mixture.count=9"))
    ledger.path.parent.mkdir()
    write_ledger(ledger)
    told = flanscale("show", ledger.entries[0].id)
    assert (told.returncode, told.stderr.splitlines()) == (
        2,
        [f"flanscale: {ledger.entries[0].run}: has not begun, so there is nothing to show"],
    )


def test_it_loads_no_jax(run: Path) -> None:
    code = (
        "import sys\nfrom flanscale.cli.main import main\n"
        f"sys.argv = ['flanscale', 'show', {run.name!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('jax', 'flax', 'matplotlib', 'pandas') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_configuration_is_told_by_its_groups_and_what_differs_from_them(place: Workplace) -> None:
    cell = place.plan("mixture.count=9", "seed=1", "optimizer=adafactor", "optimizer.learning_rate=1e-4").cells[0]
    (place.folder / "runs").mkdir()
    found = difference(read_config(create_run_dir(cell.config)))
    assert set(found) == {
        *("model=nano", "optimizer=adafactor", "tracker=disabled", "evaluation=none"),
        *("seed=1", "mixture.count=9", "trainer.steps=20", "optimizer.learning_rate=0.0001"),
    }


def test_a_curve_has_its_range_and_falls_where_the_values_do() -> None:
    lines = drawn([(step, 8.0 - step) for step in range(8)], width=8, height=2)
    assert lines == ["8 ┤█▆▄▂", "1 ┤████▇▅▃▁", "   0      7"]
    assert drawn([(0, float("nan")), (1, 2.0)]) == []
    assert "2 ┤" in drawn([(0, 2.0), (1, float("inf")), (2, 2.0)], height=1)[0]
