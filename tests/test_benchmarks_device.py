"""One command measures all on a borrowed card: no case takes others with it, and what is wrong is found out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from little_study import wait_until

from flanscale.run_directory import METRICS_FILE
from flanscale.run_directory.evaluations import close_records

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
import attention  # noqa: E402
import device  # noqa: E402
import recovery  # noqa: E402

SHAPE = attention.Shape("GQA", 2, 4, 2, 64, width=16)


def told(folder: Path, code: str, *, limit: int = 60, left: float = 60, **of_case: Any) -> list[dict[str, Any]]:
    """What is recorded of a case that runs this code."""
    script = folder / "script.py"
    script.write_text(code)
    return list(device.told_by(device.Case("part", "case", [str(script)], limit, **of_case), folder / "log", left, 1.0))


def test_a_case_tells_its_lines_and_then_why_it_failed(tmp_path: Path) -> None:
    code = """print('{"what": "first", "ms": 1.5}')\nprint("not JSON")\nraise ValueError("no such card")"""
    line, failure = told(tmp_path, code)
    assert (line["what"], line["ms"]) == ("first", 1.5)
    assert failure["failed"] == "ended with 1: ValueError: no such card"
    assert device.shown(line).split() == ["part", "first", "ms", "1.5"]
    assert "FAILED: ended with 1: ValueError: no such card" in device.shown(failure)


def test_a_case_that_hangs_is_ended_with_all_that_it_started_and_its_lines_are_kept(tmp_path: Path) -> None:
    code = (
        "import json, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(json.dumps({'child': child.pid}), flush=True)\n"
        "signal.pause()"
    )
    line, failure = told(tmp_path, code, limit=5)
    assert failure["failed"] == "not done after 5 s"
    wait_until(lambda: ended(line["child"]))


def ended(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_case_that_is_killed_or_says_nothing_or_is_not_reached_tells_so(tmp_path: Path) -> None:
    assert told(tmp_path, "import os; os.kill(os.getpid(), 9)")[0]["failed"].startswith(f"ended with -{signal.SIGKILL}")
    assert told(tmp_path, "")[0]["failed"] == "it printed nothing"
    assert told(tmp_path, "print('{}')", left=1)[0]["failed"] == "not reached in the whole time"


def test_a_side_is_asked_for_its_rounds_and_told_in_medians(tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "print(json.dumps({'device': 'NVIDIA H100 80GB HBM3'}))\n"
        "for line in sys.stdin:\n"
        "    n = int(line) + 1\n"
        "    print(json.dumps({'seconds': 0.1 * n, 'calls': 2, 'tokens': 1000, 'peak_gib': n}))"
    )
    trained = device.CARD.trained[0]
    (line,) = told(tmp_path, code, rounds=3, tell=lambda lines: device.rates(trained, lines))
    assert line["tokens/s"] == pytest.approx(5000)
    assert line["ms"] == pytest.approx(100)
    assert line["peak GiB"] == 3
    assert line["TFLOP/s"] == pytest.approx(5000 * 7.8e9 / 1e12, rel=0.05)  # 1.24e9 parameters, and attention
    assert line["MFU"] == pytest.approx(line["TFLOP/s"] / 989.4)


def test_what_hinders_the_start_is_said_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/device.py", "--out", str(tmp_path)]
    bare = os.environ | {"PATH": str(tmp_path)}
    without = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True)
    assert without.returncode == 2
    assert "nvidia-smi shows no card here" in without.stderr
    wrong = subprocess.run([*command, "--tiny", "--only", "attentoin"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "--only attentoin: the parts are recovery, attention, training" in wrong.stderr


# --- recovery -----------------------------------------------------------------------------------------------------


def finished(folder: Path, losses: list[float], answers: list[str]) -> Path:
    folder.mkdir()
    rows = [{"step": n, "time": id(folder), "attempt": 1, "train/loss": loss} for n, loss in enumerate(losses)]
    (folder / METRICS_FILE).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    close_records(
        folder / "evaluations" / "procedural-0", "procedural/cot", [{"key": text, "answer": text} for text in answers]
    )
    return folder


def test_runs_differ_in_rows_losses_and_answers_but_not_in_the_clock(tmp_path: Path) -> None:
    one = finished(tmp_path / "one", [3.0, 2.0], ["a", "b"])
    same = recovery.differences(one, finished(tmp_path / "same", [3.0, 2.0], ["a", "b"]))
    assert (same["rows that differ"], same["answers that differ"]) == (0, 0)
    other = recovery.differences(one, finished(tmp_path / "other", [3.0, 2.5], ["a", "c"]))
    assert (other["rows that differ"], other["answers that differ"]) == (1, 1)
    assert other["largest difference of losses"] == 0.5
    assert recovery.differences(one, finished(tmp_path / "short", [3.0], ["a", "b"]))["rows that differ"] == 1


# --- attention ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, name="T5", kv_heads=4, t5=True)])
def test_the_projects_attention_passes_and_what_ignores_segments_or_scale_does_not(shape: attention.Shape) -> None:
    ours = attention.OURS["xla"]
    assert "error" not in attention._checked(ours, shape, "float32")
    unsegmented = replace(ours, attend=lambda shape, inputs, segments: ours.attend(shape, inputs, segments * 0 + 1))
    assert attention.leak(unsegmented, shape, "float32") > 0.1
    doubled = replace(ours, attend=lambda shape, given, rows: ours.attend(shape, given._replace(q=2 * given.q), rows))
    assert "error" in attention._checked(doubled, shape, "float32")


def test_a_peer_that_cannot_says_why() -> None:
    cudnn = next(variant for variant in attention.PEERS if variant.name == "cuDNN, mask")
    line = attention._tried(attention._timed, cudnn, SHAPE, "float32", 1)
    assert line["what"] == "GQA 2×64, cuDNN, mask"
    assert "cuDNN" in line["error"]
    assert json.dumps(line)
