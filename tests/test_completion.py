"""The shell completes studies, runs and overrides, and a prompt never shows an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flanscale.cli import completion


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("not: [read")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "launched.json").touch()
    (tmp_path / "runs" / "0123-a").mkdir(parents=True)
    (tmp_path / "runs" / ".code").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_studies_runs_and_overrides_are_named(folder: Path) -> None:
    assert {"mine", "quickstart"} <= set(completion.sweeps(""))
    assert completion.sweeps("mine") == ["mine"]
    assert completion.launched("") == ["launched"]
    assert completion.studies_and_runs("") == ["launched", "0123-a"]
    assert "collection=" in completion.overrides("collec")
    assert "t5_small" in {name.removeprefix("model=") for name in completion.overrides("model=t5")}
    assert completion.overrides("trainer.st") == ["trainer.steps="]


def test_folders_that_are_not_there_complete_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert completion.runs("") == []
    assert completion.launched("") == []
    assert completion.overrides("../../etc=") == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("launch mine", "mine"),
        ("report laun", "launched"),
        ("rerun 01", "0123-a"),
        ("plan mine model=nan", "model=nano"),
    ],
)
def test_the_shell_is_offered_them(folder: Path, line: str, offered: str) -> None:
    words = f"flanscale {line}"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'flanscale'; from flanscale.cli.main import main; main()"],
        env=os.environ
        | {"_FLANSCALE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == ([offered], "")
