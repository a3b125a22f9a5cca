"""`flanscale tasks prepare` and `… vocabulary`: what a sweep needs is made before it, once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = """
title: Two tasks
base:
  - collection=jsonl
  - tokenizer=bytes
  - evaluation.asks=[held_out/direct]
axes:
  mixture.count: [0, 1, 2]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name in ("add", "double", "unseen"):
        lines = [json.dumps({"input": f"{name} {i}", "output": f"the answer to {name} is {i}"}) for i in range(8)]
        (tasks / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (tasks / "held_out.txt").write_text("unseen\n")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "two.yaml").write_text(STUDY)
    return tmp_path


def tasks(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flanscale.cli.main", "tasks", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)


def test_a_study_is_tokenised_ahead_of_its_cells_and_only_once(place: Path) -> None:
    asked = ["prepare", "two", "data.jsonl=tasks", "paths.cache=cache", "mixture.renderings=2", "--workers=1"]
    first = tasks(place, *asked)
    assert first.returncode == 0, first.stderr
    assert "2 of 2 tasks made" in first.stdout
    assert "2 tasks of 2 asked for: 16 examples" in first.stdout
    entries = {path: path.stat().st_mtime_ns for path in (place / "cache" / "store").rglob("*.tokens")}
    assert len(entries) == 2
    again = tasks(place, *asked)
    assert again.returncode == 0
    assert "tasks made" not in again.stdout
    assert entries == {path: path.stat().st_mtime_ns for path in entries}


def test_a_study_that_keeps_nothing_says_so_in_one_line(place: Path) -> None:
    done = tasks(place, "prepare", "two", "data.jsonl=tasks", "paths.cache=cache")
    assert done.returncode == 2
    assert done.stderr == (
        "flanscale: two keeps nothing in the store: its cells render at every draw (mixture.renderings=0)\n"
    )
    assert not (place / "cache").exists()


def test_a_vocabulary_learnt_from_a_mixture_serves_as_a_tokenizer(place: Path) -> None:
    of = ["collection=jsonl", "data.jsonl=tasks", "mixture.count=2"]
    done = tasks(place, "vocabulary", *of, "--size=300", "--to=tokenizer.json")
    assert done.returncode == 0, done.stderr
    assert "learnt from 2 tasks" in done.stdout
    use = ["tokenizer=huggingface", "tokenizer.vocabulary=tokenizer.json"]
    shown = tasks(place, "show", "add", *of, *use)
    assert shown.returncode == 0, shown.stderr
    assert "tokens of 8 examples (huggingface)" in shown.stdout
