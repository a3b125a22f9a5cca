"""What the demo copy of a study promises: the same results, nothing about the machine, the same bytes every time."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from synthetic_study import write_study

from analysis import demo, report, sources
from analysis.runs import AnalysisError
from flanscale.run_directory import evaluations, read_records, read_result, read_state, recorded, write_state
from flanscale.run_directory.evaluations import close_records, write_result


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A study whose files name the machine that it ran on."""
    index = write_study(tmp_path / "home", axes={"mixture.count": [9, 89, 282], "cot": [False, True], "seed": [0]})
    document = json.loads(index.read_text()) | {
        "overrides": ["seed=0", "data.niv2=/secret/niv2", "+paths.runs=/secret", "init.hf=/secret/weights.gguf"]
    }
    index.write_text(json.dumps(document))
    for run in (tmp_path / "home" / "runs").iterdir():
        config = yaml.safe_load((run / "config.yaml").read_text())
        config |= {"paths": {"runs": "/secret/runs"}, "data": {"niv2": "/secret"}, "tracker": {"entity": "secret"}}
        config["init"] = {"hf": "/secret/weights.gguf"}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        state = json.loads((run / "state.json").read_text()) | {"host": "secret", "pid": 7}
        (run / "state.json").write_text(json.dumps(state))
        (suite,) = evaluations(run)
        write_result(suite, {**(read_result(suite) or {}), "faults": ["mmlu/cot: /secret/mmlu: no such folder"]})
        for line in recorded(suite):
            records, _ = read_records(suite, line)
            close_records(suite, line, [{**record, "reference": "a secret", "samples": []} for record in records])
    return index


def test_the_copy_gives_the_same_report(index: Path, tmp_path: Path) -> None:
    copy = demo.export(index, tmp_path / "demo")
    one, other = report.build(index, tmp_path / "1"), report.build(copy, tmp_path / "2")
    for name in ("figure_png", "csv", "fits"):
        assert getattr(one, name).read_bytes() == getattr(other, name).read_bytes()
    assert "not paired" not in other.html.read_text()


def test_the_copy_says_nothing_about_the_machine_and_holds_no_texts(index: Path, tmp_path: Path) -> None:
    demo.export(index, tmp_path / "demo")
    files = [path for path in (tmp_path / "demo").rglob("*") if path.is_file()]
    assert len(files) == 1 + 6 * 6
    for path in files:
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        assert "secret" not in text
        assert "reference" not in text
    assert sources.from_directories(tmp_path / "demo" / "studies" / "quickstart.json").overrides == (
        "seed=0",
        "init.hf=weights.gguf",
    )


def test_copying_twice_gives_the_same_bytes(index: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        demo.export(index, folder)
    for path in (path for path in folders[0].rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert content == (folders[1] / path.relative_to(folders[0])).read_bytes()
        assert path.suffix != ".gz" or content[4:8] == bytes(4)  # no time in the head


def test_an_earlier_copy_is_replaced(index: Path, tmp_path: Path) -> None:
    smaller = write_study(tmp_path / "other", axes={"mixture.count": [9], "seed": [7]})
    demo.export(index, tmp_path / "demo")
    demo.export(smaller, tmp_path / "demo")
    assert len(list((tmp_path / "demo" / "runs").iterdir())) == 1


def test_unfinished_runs_keep_their_state(tmp_path: Path) -> None:
    states = {0: "failed", 1: "missing", 2: "running"}
    index = write_study(tmp_path / "home", axes={"mixture.count": [9, 89], "seed": [0, 1]}, states=states)
    here, copy = (sources.from_directories(each) for each in (index, demo.export(index, tmp_path / "demo")))
    assert [(record.state, record.failure) for _, record in copy.incomplete()] == [
        (record.state, record.failure) for _, record in here.incomplete()
    ]
    assert [record.state for _, record in copy.incomplete()] == list(states.values())


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="no study index at"):
        demo.export(tmp_path / "none.json", tmp_path)
    command = [sys.executable, "-m", "analysis.demo", str(tmp_path / "none.json"), str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_answers_of_repeated_runs_are_left_out_and_the_report_is_the_same(tmp_path: Path) -> None:
    index = write_study(tmp_path / "home", axes={"mixture.count": [9, 89, 282], "seed": [0, 1]})
    copy = demo.export(index, tmp_path / "demo")
    assert not list((tmp_path / "demo").rglob("*.gz"))
    one, other = report.build(index, tmp_path / "1"), report.build(copy, tmp_path / "2")
    for file in one.tables.iterdir():
        assert file.read_bytes() == (other.tables / file.name).read_bytes()
    assert ", by task</summary>" in other.html.read_text()


def test_the_copy_knows_what_the_runs_took(tmp_path: Path) -> None:
    index = write_study(tmp_path / "home", axes={"mixture.count": [9], "seed": [0, 1]})
    for run in (tmp_path / "home" / "runs").iterdir():
        write_state(run, replace(read_state(run), seconds=12.5))
    demo.export(index, tmp_path / "demo")
    assert [read_state(run).seconds for run in (tmp_path / "demo" / "runs").iterdir()] == [12.5, 12.5]
