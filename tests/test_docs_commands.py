"""Every command that README and docs print can be typed: its verb, its options, its study and its overrides exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from flanscale.cli.main import app
from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.planning.preview import make_plan
from flanscale.orchestration.planning.study import available_studies

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"^(?:flanscale (?!\S+\.py)[a-z]|python -m flanscale\.run)")
STUDY_VERBS = ("plan", "launch", "tasks prepare")


def printed() -> list[str]:
    """The commands in fenced blocks, continued lines joined, each once."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(
            r"^```(?:sh|bash)?\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ):
            lines = block.replace("\\\n", " ").splitlines()
            found += [" ".join(line.split()) for line in lines if COMMAND.match(line)]
    return list(dict.fromkeys(found))


def parsed(arguments: list[str]) -> None:
    """Let the command line's own parser read it, and run nothing."""
    command: Any = typer.main.get_command(app)  # of click's classes or of typer's copies of them
    while verbs := getattr(command, "commands", None):
        name = arguments.pop(0)
        assert name in verbs, f"no verb {name}"
        command = verbs[name]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("line", ["lunch quickstart", "launch quickstart --ordre coarse"])
def test_what_cannot_be_typed_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"no verb|No such option"):
        parsed(line.split())


@pytest.mark.parametrize("line", printed())
def test_a_printed_command_can_be_typed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in shlex.split(line, comments=True) if word != "…"]
    if words[0] == "python":
        given = words[3:]
        if "--multirun" in given:
            (study,) = [text.removeprefix("+sweep=") for text in given if text.startswith("+sweep=")]
            make_plan(study, [], insist=False)
        else:
            Composer().compose(given)
        return
    parsed(words[1:])
    verb = next((verb for verb in STUDY_VERBS if " ".join(words[1:]).startswith(f"{verb} ")), None)
    if verb is None:
        return
    study, *rest = words[1 + len(verb.split()) :]
    overrides = [text for text in rest if re.match(r"[+~]?[\w.]+=", text)]
    if "=" in study:
        Composer().compose([study, *overrides])
    elif study in available_studies():
        assert make_plan(study, overrides, insist=False).cells


def test_there_are_commands_of_every_verb() -> None:
    text = "\n".join(printed())
    assert len(printed()) >= 50
    for verb in ("plan", "launch", "status", "logs", "retry", "cancel", "prune", "report", "rerun", "sync", "doctor"):
        assert f"flanscale {verb}" in text, verb


def test_the_mistake_that_the_readme_shows_is_told_in_these_words() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\$ flanscale launch quickstart (\S+)\nflanscale: (.+)$", readme, re.MULTILINE)
    assert len(shown) == 1
    for override, words in shown:
        with pytest.raises(ConfigError, match=re.escape(words)):
            Composer().compose([override])
