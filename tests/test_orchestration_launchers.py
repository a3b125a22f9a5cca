"""A launcher that lives is at work on its study, also between two cells; one that was killed is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from little_study import Workplace, open_workplace
from rich.console import Console

from flanscale.orchestration.dispatch import launch as launching_module
from flanscale.orchestration.dispatch.launch import launch
from flanscale.orchestration.dispatch.local import Done
from flanscale.orchestration.planning.ledger import ledger_of, write_ledger
from flanscale.orchestration.running import launchers as module
from flanscale.orchestration.running.launchers import FOLDER, launchers, launching
from flanscale.orchestration.running.liveness import SILENCE_SECONDS, this_process
from flanscale.orchestration.watching.monitor import Observer
from flanscale.orchestration.watching.status_json import as_json


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


@pytest.fixture
def index(place: Workplace) -> Path:
    """Of a study of which no cell has begun."""
    ledger = ledger_of(place.plan())
    ledger.path.parent.mkdir()
    write_ledger(ledger)
    return ledger.path


def test_a_study_is_not_settled_as_long_as_a_launcher_lives_though_no_cell_runs(place: Workplace, index: Path) -> None:
    observer = Observer(ledger_of(place.plan()))
    with launching(index):
        with launching(index):
            assert not observer.look().settled
        seen = observer.look()
        assert not seen.settled
        assert seen.counts == {"planned": 4}
        document = as_json(seen, seen.cells, None)
        me = this_process()
        assert (document["settled"], document["launchers"]) == (False, [{"host": me.host, "pid": me.pid}])
    assert observer.look().settled
    assert list((index.parent / FOLDER).iterdir()) == []


def test_a_launch_is_known_while_its_queue_runs_and_no_longer(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, seen = place.plan(), []

    def queue(*_: Any, **__: Any) -> Done:
        seen.append(Observer(ledger_of(plan)).look().settled)
        return Done(0, Counter())

    monkeypatch.setattr(launching_module, "run_queue", queue)
    launch(plan, Console(quiet=True), again="")
    assert seen == [False]
    assert Observer(ledger_of(plan)).look().settled


def test_a_killed_launcher_is_no_longer_at_work_and_the_next_one_clears_its_file(index: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from flanscale.orchestration.running.launchers import launching\n"
        "with launching(pathlib.Path(sys.argv[1])):\n"
        "    print('here', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(index)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert [launcher.pid for launcher in launchers(index)] == [process.pid]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert launchers(index) == []
    assert len(list((index.parent / FOLDER).iterdir())) == 1
    with launching(index):
        assert [launcher.pid for launcher in launchers(index)] == [os.getpid()]
        assert len(list((index.parent / FOLDER).iterdir())) == 1


def test_a_launcher_of_another_host_lives_as_long_as_it_beats(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with launching(index) as beat:
        (mine,) = (index.parent / FOLDER).iterdir()
        mine.write_text(json.dumps(json.loads(mine.read_text()) | {"machine": "another", "host": "far"}))
        assert [launcher.host for launcher in launchers(index)] == ["far"]
        long_ago = mine.stat().st_mtime - 2 * SILENCE_SECONDS
        os.utime(mine, (long_ago, long_ago))
        assert launchers(index) == []
        monkeypatch.setattr(module, "HEARTBEAT_SECONDS", -1.0)
        beat()
        assert len(launchers(index)) == 1


def test_launchers_of_other_studies_and_what_is_no_record_do_not_count(index: Path) -> None:
    with launching(index.with_stem("other")), launching(index.with_stem("little.two")):
        (index.parent / FOLDER / f"{index.stem}.torn").write_text('{"host": "a"')
        assert launchers(index) == []
