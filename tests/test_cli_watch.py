"""`flanscale status` and `flanscale logs`: what they show at a prompt, at a terminal and through a pipe."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from little_study import PATIENCE, Workplace, open_workplace
from rich.console import Console
from told import Command

from flanscale.orchestration.dispatch.reserve import create_run_dir
from flanscale.orchestration.planning.finding import find_run
from flanscale.orchestration.planning.ledger import ledger_of, read_ledger, write_ledger
from flanscale.orchestration.running.liveness import this_process
from flanscale.orchestration.watching import live, transcript
from flanscale.orchestration.watching.live import following
from flanscale.orchestration.watching.monitor import Observer
from flanscale.orchestration.watching.transcript import Transcript
from flanscale.run_directory import Failure, RunState, read_state, write_state
from flanscale.schema import PathsConfig

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "flanscale.cli.main"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setattr(transcript, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(transcript, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(transcript, "QUIET_SECONDS", 0.2)
    return open_workplace(tmp_path, monkeypatch)


@contextmanager
def terminal(*arguments: str) -> Iterator[Callable[[str], str]]:
    """A command on a terminal of 100 × 30; gives a function that waits for words and returns all that was shown."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color"}
    seen = ""

    def until(words: str) -> str:
        nonlocal seen
        while words not in seen:
            try:
                seen += os.read(ours, 65_536).decode(errors="replace")
            except OSError:  # the command has ended
                assert words in seen, seen
        return seen

    with subprocess.Popen([*COMMAND, *arguments], stdin=theirs, stdout=theirs, env=os.environ | size) as process:
        os.close(theirs)
        try:
            yield until
            assert process.wait(timeout=PATIENCE) == 0
        finally:
            process.kill()
    os.close(ours)


def one_run(place: Workplace) -> Path:
    """The run directory of one cell that has not begun."""
    return create_run_dir(place.plan("mixture.count=9", "seed=0").cells[0].config)


def running(run: Path) -> None:
    me = this_process()
    write_state(run, read_state(run).running(host=me.host, pid=me.pid, process_started=me.started))


class Heard:
    """What is told of a run: words of its log, and remarks."""

    def __init__(self) -> None:
        self.text, self.notes = b"", list[str]()

    def write(self, words: bytes) -> None:
        self.text += words

    def note(self, line: str) -> None:
        self.notes.append(line)


# --- status ------------------------------------------------------------------------------------------------------


def test_status_filters_maps_and_serves_programs(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished()
    write_state(place.run("nano-9-direct-s1"), RunState("failed", 1, Failure("data", "no instances")))
    whole = flanscale("status", "little").stdout.splitlines()
    assert [line.split()[3] for line in whole[1:5]] == ["finished", "failed", "finished", "finished"]
    assert whole[-1] == "3 finished, 1 failed"
    part = flanscale("status", "little", "--where", "count=9", "--state", "failed", "--map", "seed,count").stdout
    assert part.count("data: no instances") == 1
    assert "seed \\ count" in part
    assert part.splitlines()[-1] == "1 failed, 1 finished"
    document = json.loads(flanscale("status", "little", "--state", "failed", "--json").stdout)
    assert [cell["reason"] for cell in document["cells"]] == ["data: no instances"]
    assert document["counts"] == {"finished": 3, "failed": 1}
    assert document["map"]["axes"] == ["seed", "mixture.count"]


def test_a_damaged_index_does_not_hide_the_other_studies(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished()
    (place.folder / "studies" / "broken.json").write_text("{")
    lines = flanscale("status").stdout.splitlines()
    assert "is not a study index" in lines[0]
    assert lines[1] == "little: 4 finished"


def test_each_study_says_how_long_it_will_take(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished()
    write_state(place.run("nano-9-direct-s1"), RunState())
    assert flanscale("status").stdout == "little: 3 finished, 1 planned; about 1 s left\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--watch"], "are of one study; name it: little"),
        (["status", "little", "--where", "sead=1"], "did you mean seed?"),
        (["status", "little", "--state", "finishd"], "did you mean finished?"),
        (["status", "little", "--map", "seed"], "--map seed: expected two axes, as in --map count,seed"),
        (["logs", "nothing"], "nothing: no such run among the 4 of runs/"),
        (["logs", "procedural"], "procedural: 4 runs are called so: "),
        (["logs", "nano-9-direct-s7"], "; did you mean "),
        (["logs", "elsewhere/run"], "elsewhere/run: no such run directory"),
        (["logs", "nano-9-direct-s0", "--stdout", "-f"], "leave out --follow and --rank"),
    ],
)
def test_a_mistake_is_one_line(place: Workplace, flanscale: Command, arguments: list[str], message: str) -> None:
    place.pretend_finished()
    result = flanscale(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("flanscale: ")
    assert message in line


def test_a_pipe_without_unicode_gets_the_table_all_the_same(place: Workplace) -> None:
    place.pretend_finished()
    metrics = place.run("nano-9-direct-s0") / "metrics.jsonl"
    metrics.write_text('{"step": 20, "eval/normalized_average": 50.0, "eval/normalized_average_stderr": 1.0}\n')
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run([*COMMAND, "status", "little"], capture_output=True, text=True, check=False, env=ascii_only)
    assert result.returncode == 0, result.stderr
    assert "50.0 ? 1.0" in result.stdout


def test_watching_at_a_terminal_ends_with_the_study_and_the_final_table(place: Workplace) -> None:
    place.pretend_finished()
    run = place.run("nano-9-direct-s0")
    running(run)
    with terminal("status", "little", "--watch") as until:
        until("running")
        write_state(run, read_state(run).finished())
        live, final = until("\n4 finished").split("\x1b[?1049l")  # leaves the screen of its own
    assert "\x1b[?1049h" in live
    assert "3/4 cells" in live
    assert final.count("finished") == 4 + 4 + 1  # of the table, the map, the sum


def test_watching_outlasts_the_moment_between_two_cells(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.pretend_finished()
    first, second = place.run("nano-9-direct-s0"), place.run("nano-9-direct-s1")
    running(first)
    write_state(second, RunState())
    after = {
        1: lambda: write_state(first, read_state(first).finished()),  # nobody is at work on any cell
        4: lambda: running(second),
        6: lambda: write_state(second, read_state(second).finished()),
    }
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        after.get(len(naps), lambda: None)()

    monkeypatch.setattr(live, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr("time.sleep", nap)
    output = io.StringIO()
    observer = Observer(read_ledger(place.folder / "studies" / "little.json"))
    live.show_status(observer, Console(file=output, width=200), watch=True)
    assert output.getvalue().count("✔") == 2
    assert output.getvalue().splitlines()[-1] == "4 finished"


def test_through_a_pipe_each_cell_that_ends_is_told_in_a_line(place: Workplace) -> None:
    place.pretend_finished()
    ending, failing = place.run("nano-9-direct-s0"), place.run("nano-9-direct-s1")
    running(ending)
    running(failing)
    output = io.StringIO()
    observer = Observer(read_ledger(place.folder / "studies" / "little.json"))
    with following(observer, Console(file=output, width=200)) as follow:
        follow()
        assert output.getvalue() == ""
        write_state(ending, read_state(ending).finished(59.0))
        follow.show(observer.look())
        follow.show(observer.look())
        write_state(failing, read_state(failing).failed(Failure("data", "no instances")))
    assert output.getvalue().splitlines() == [
        "✔ [3/4] procedural-nano-9-direct-s0: score none in 1 min 00 s",
        "✘ [3/4] procedural-nano-9-direct-s1: failed (data: no instances)",
    ]


def test_through_a_pipe_a_study_of_one_cell_tells_how_far_it_is_now_and_then(place: Workplace) -> None:
    place.pretend_finished("seed=0", "mixture.count=9")
    (run,) = place.runs()
    running(run)
    output = io.StringIO()
    observer = Observer(read_ledger(place.folder / "studies" / "little.json"))
    with following(observer, Console(file=output, width=200)) as follow:
        for step in (5, 6):
            with (run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "train/loss": 2.5, "train/tokens_per_second": 1000.0}) + "\n")
            follow.show(observer.look())
        write_state(run, read_state(run).finished(59.0))
    assert output.getvalue().splitlines() == [
        "procedural-nano-9-direct-s0: step 5/20, loss 2.500, 1 k tokens/s",
        "✔ [1/1] procedural-nano-9-direct-s0: score none in 1 min 00 s",
    ]


def test_ctrl_c_ends_watching_without_a_traceback(place: Workplace) -> None:
    place.pretend_finished()
    running(place.run("nano-9-direct-s0"))
    (place.run("nano-9-direct-s0") / "log.txt").write_text("a word\n")
    for arguments, word in ((["status", "little", "--watch"], "running"), (["logs", "nano-9-direct-s0", "-f"], "word")):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # ignored where tests run in the background
        ) as process:
            os.close(theirs)
            seen = ""
            while word not in seen:
                seen += os.read(ours, 65_536).decode(errors="replace")
            process.send_signal(signal.SIGINT)
            assert "Traceback" not in (process.stderr or io.StringIO()).read()
            assert process.wait(timeout=PATIENCE) == 130
        os.close(ours)


# --- logs --------------------------------------------------------------------------------------------------------


def test_logs_shows_the_last_lines_of_a_run_by_any_of_its_names(place: Workplace, flanscale: Command) -> None:
    run = one_run(place)
    (run / "log.txt").write_text("".join(f"line {number}\n" for number in range(100)) + "torn")
    identity = run.name.split("-")[0]
    for name in (identity, identity[:6], run.name, f"runs/{run.name}", str(run), "nano-9-direct-s0", run.name[11:]):
        assert find_run(name, PathsConfig()) == run
    told = flanscale("logs", identity, "-n", "3").stdout
    assert told.splitlines() == ["line 98", "line 99", "torn"]
    assert flanscale("logs", identity, "-n", "0").stdout == ""


def test_the_end_of_a_large_log_is_found_from_its_end(tmp_path: Path) -> None:
    lines = [f"{number:05d} {'x' * (number % 300)}".encode() + b"\xff\n" for number in range(20_000)]
    (tmp_path / "log.txt").write_bytes(b"".join(lines))
    for number in (1, 7, 5_000, 19_999, 20_000, 30_000):
        heard = Heard()
        transcript.show(Transcript(tmp_path), number, heard.write, heard.note)
        assert heard.text == b"".join(lines[-number:])


def test_several_ranks_have_logs_of_their_own(place: Workplace, flanscale: Command) -> None:
    run = one_run(place)
    for name in ("log.txt", "log.1.txt", "log.10.txt"):
        (run / name).write_text(f"{name}\n")
    assert flanscale("logs", "s0").stdout == "log.txt\n"
    assert flanscale("logs", "s0", "--rank", "10").stdout == "log.10.txt\n"
    assert "no log of that rank; there are 0, 1, 10" in flanscale("logs", "s0", "--rank", "2").stderr


def test_a_run_that_has_not_started_says_so(place: Workplace, flanscale: Command) -> None:
    ledger = ledger_of(place.plan())
    ledger.path.parent.mkdir()
    write_ledger(ledger)
    result = flanscale("logs", "nano-89-direct-s1")
    assert (result.returncode, result.stdout) == (0, "")
    assert "has not started yet: planned" in result.stderr


def test_a_run_that_died_before_its_log_shows_what_was_kept(place: Workplace, flanscale: Command) -> None:
    run = one_run(place)
    failure = Failure("unknown", "its process ended before it began")
    write_state(run, RunState("failed", 0, failure, job="77_3", job_ids=("70", "77_3")))
    kept = {
        f"{run.name}-1/words.log": "local words\n",
        "little-1/70_submitted.pkl": "pickle",
        "little-1/70_0_log.err": "first job\n",
        "little-2/77_3_0_log.err": "slurmstepd: error: gone\n",
        "little-2/77_3_0_log.out": "",
        "little-2/77_30_0_log.err": "another cell\n",
    }
    for name, text in kept.items():
        file = run.parent / ".submitit" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    result = flanscale("logs", "s0")
    told = [line for line in result.stdout.splitlines() if not line.startswith("==>")]
    assert sorted(told) == ["first job", "local words", "slurmstepd: error: gone"]
    assert "its process ended before it began" in result.stderr
    (run / "log.txt").write_text("a log\n")
    assert flanscale("logs", "s0").stdout == "a log\n"
    assert "slurmstepd: error: gone" in flanscale("logs", "s0", "--stdout").stdout


def test_what_an_evaluation_printed_is_its_own(tmp_path: Path) -> None:
    one, other = (tmp_path / run / "evaluations" / "flan-0" for run in ("a-s0", "b-s0"))
    for run, name in ((one, "a-s0.evaluations.flan-0-1/words.log"), (one.parents[1], "a-s0-1/words.log")):
        file = tmp_path / ".submitit" / name
        file.parent.mkdir(parents=True)
        file.write_text("words\n")
        assert list(transcript.kept(run, RunState())) == [file]
    assert list(transcript.kept(other, RunState())) == []


def test_following_waits_for_the_start_and_goes_through_attempts_to_the_end(place: Workplace) -> None:
    run, heard = one_run(place), Heard()
    log = run / "log.txt"

    def say(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    def stage(number: int) -> None:
        """What happens to the run, step by step; each step waits until the one before has been heard."""
        match number:
            case 0:
                write_state(run, RunState().queued(host="here", pid=1, process_started=1.0, job="7"))
            case 1:
                running(run)
                say("attempt 1 begins\n")
            case 2:
                write_state(run, read_state(run).preempted(Failure("preempted", "asked to stop")))
                say("attempt 1 stopped\n")
            case 3:
                running(run)
                say("attempt 2 ends")
            case 4:
                write_state(run, read_state(run).finished())

    heard_of = ["has not started yet: planned", "queued (Slurm job 7)", "attempt 1 begins", "preempted", "attempt 2"]
    stages = iter(range(5))

    def jobs() -> dict[str, str]:
        return {"7": "None"}

    def notice() -> None:
        told = heard.text.decode() + "".join(heard.notes)
        if heard_of and heard_of[0] in told:
            heard_of.pop(0)
            stage(next(stages))

    def write(words: bytes) -> None:
        heard.write(words)
        notice()

    def note(line: str) -> None:
        heard.note(line)
        notice()

    transcript.follow(Transcript(run), 10, write, note, jobs)
    assert heard.text.decode() == "attempt 1 begins\nattempt 1 stopped\nattempt 2 ends"
    assert heard.notes[-1].endswith("finished, attempt 2")


def test_following_a_run_that_nobody_is_at_ends_and_says_so(place: Workplace) -> None:
    run, heard = one_run(place), Heard()
    write_state(run, RunState("running", 1, host=this_process().host, pid=2**22 + 1, process_started=1.0))
    (run / "log.txt").write_text("last words\n")
    transcript.follow(Transcript(run), 10, heard.write, heard.note, lambda: None)
    assert heard.text == b"last words\n"
    assert heard.notes == [f"{run.name}: interrupted, attempt 1; nobody is at it"]  # once


def test_a_log_put_in_place_of_another_is_read_from_its_beginning(place: Workplace) -> None:
    run, heard = one_run(place), Heard()
    running(run)
    (run / "log.txt").write_text("a long first log\n")

    def write(words: bytes) -> None:
        heard.write(words)
        if words == b"a long first log\n":
            (run / "log.new").write_text("the second is longer\n")
            (run / "log.new").replace(run / "log.txt")
        elif words == b"the second is longer\n":
            write_state(run, read_state(run).finished())

    transcript.follow(Transcript(run), 10, write, heard.note, lambda: None)
    assert heard.text == b"a long first log\nthe second is longer\n"


def test_the_benchmark_of_status_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "status.py"), "--cells", "20", "--repeat", "1"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    assert lines[1] == "20 run directories, medians of 1:"
    assert len([line for line in lines if " s, of which processor" in line]) == 5
