"""`flanscale generate` answers as the run's own evaluation did, and says in one line why a run cannot answer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from told import Command

from flanscale.config.compose import Composer, load, save
from flanscale.identity import resolve, run_name
from flanscale.orchestration.watching.answers import prompts_of
from flanscale.run import run
from flanscale.run_directory import evaluations, read_records
from flanscale.schema import RunConfig

SMALL = [
    *("tracker=disabled", "model=nano", "trainer.steps=4", "trainer.batch_rows=4", "mixture.count=9"),
    *("evaluation.items=1", "evaluation.asks=[held_out/direct]", "evaluation.direct_tokens=4"),
    *("evaluation.cot_tokens=4", "evaluation.batch_size=16"),
]


def made(folder: Path, *overrides: str) -> tuple[RunConfig, Path]:
    cell = resolve(Composer().compose([*SMALL, f"paths.cache={folder}/cache", *overrides]))
    directory = folder / run_name(cell)
    directory.mkdir(parents=True)
    save(cell, directory)
    return cell, directory


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cell, directory = made(tmp_path_factory.mktemp("runs"))
    run(cell, directory, attempt=1, should_stop=lambda: False)
    return directory


def test_it_answers_as_the_evaluation_did(trained: Path, flanscale: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (suite,) = evaluations(trained)
    rows = read_records(suite, "procedural/direct")[0][:5]
    said = [row["samples"][0]["text"] for row in rows]
    prompts = prompts_of(trained)
    asked = [prompts[row["prompt_hash"]] for row in rows]
    told = flanscale("generate", str(trained), "--json", *asked)
    assert json.loads(told.stdout) == [{"prompt": p, "answer": text} for p, text in zip(asked, said, strict=True)]
    assert set(said) != {""}
    assert flanscale("generate", str(trained), asked[0]).stdout == f"{said[0]}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{asked[1]}\n\n{asked[2]}\n"))
    lines = flanscale("generate", str(trained), "-").stdout.splitlines()
    assert lines == [f"> {asked[1]}", said[1], f"> {asked[2]}", said[2]]


def test_tokens_limit_an_answer_and_a_long_prompt_is_told(
    trained: Path, flanscale: Command, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = next(iter(prompts_of(trained).values()))
    (short,) = json.loads(flanscale("generate", str(trained), prompt, "--tokens", "1", "--json").stdout)
    (longer,) = json.loads(flanscale("generate", str(trained), prompt, "--json").stdout)
    assert len(short["answer"].split()) <= 1
    assert longer["answer"].startswith(short["answer"])
    trainer = load(trained).trainer
    room = trainer.input_tokens + trainer.target_tokens - 4  # of a row in training, where the answer takes 4 tokens
    assert not caplog.messages
    flanscale("generate", str(trained), "1 " * (room + 1), "1 2")
    (told,) = caplog.messages
    assert told.startswith(f"1 of 2 prompts are longer than the {room} tokens that training left for them (up to ")


def test_a_run_that_trained_nothing_answers_by_what_it_started_from(tmp_path: Path, flanscale: Command) -> None:
    cell, untrained = made(tmp_path, "trainer.steps=0")
    run(cell, untrained, attempt=1, should_stop=lambda: False)
    (suite,) = evaluations(untrained)
    row = read_records(suite, "procedural/direct")[0][0]
    prompt = prompts_of(untrained)[row["prompt_hash"]]
    assert flanscale("generate", str(untrained), prompt).stdout == f"{row['samples'][0]['text']}\n"


def test_a_run_without_a_checkpoint_or_a_prompt_is_one_line(tmp_path: Path, flanscale: Command) -> None:
    _, empty = made(tmp_path)
    told = flanscale("generate", str(empty), "1 2 3")
    assert (told.returncode, told.stdout) == (2, "")
    (line,) = told.stderr.splitlines()
    assert line.endswith(": no checkpoint: it has trained nothing, or not long enough yet")
    assert flanscale("generate", str(empty), " ").stderr == "flanscale: generate what? a prompt is empty\n"
