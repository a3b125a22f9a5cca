"""The command line answers in well under a second, loads nothing heavy, and says what is wrong in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from little_study import Workplace, open_workplace
from synthetic_study import write_study
from told import Command

from flanscale.run_directory import Failure, RunState, write_state

HEAVY = ("jax", "flax", "pandas", "scipy", "matplotlib", "wandb", "submitit", "numpy")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["status"], ["plan", "quickstart"], ["tasks", "list"], ["tasks", "show", "cot_gsm8k"]),
        ["plan", "model=palm_540b", "optimizer=adafactor", "cluster.chip=tpu_v4"],
    ],
    ids=" ".join,
)
def test_a_verb_loads_nothing_heavy(place: Workplace, arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from flanscale.cli.main import main\n"
        f"sys.argv = ['flanscale', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('\\n', loaded, file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-1].strip() == "[]"


def test_plan_shows_every_cell_and_the_sum_and_touches_nothing(place: Workplace, flanscale: Command) -> None:
    result = flanscale("plan", "little", "seed=0")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "a little study"
    assert lines[1].split() == ["cell", "count", "seed", "params", "tokens", "FLOPs", "time", "action"]
    assert [line.split()[1] for line in lines[2:4]] == ["9", "89"]
    assert lines[-1].startswith("2 points, 2 distinct cells, 0 done; to do: ")
    assert sorted(path.name for path in place.folder.iterdir()) == ["sweeps"]


def test_plan_status_and_launch_agree_about_what_is_done(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished()
    for end_of_name in ("nano-9-direct-s1", "nano-89-direct-s1"):
        failed = RunState(state="failed", attempt=1, failure=Failure("data", "no instances"))
        write_state(place.run(end_of_name), failed)
    planned = flanscale("plan", "little").stdout
    assert planned.count("done") == 2 + 1
    assert planned.count("failed: attempt 1 failed: data") == 2
    status = json.loads(flanscale("status", "little", "--json").stdout)
    assert status["counts"] == {"finished": 2, "failed": 2}
    assert flanscale("status").stdout == "little: 2 failed, 2 finished\n"
    assert [study["study"] for study in json.loads(flanscale("status", "--json").stdout)] == ["little"]
    elsewhere = flanscale("status", str(place.folder / "studies" / "little.json"))
    assert elsewhere.stdout.endswith("2 failed, 2 finished\n")


def test_launching_a_finished_study_reports_at_once(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished("trainer.steps=2")
    result = flanscale("launch", "little", "trainer.steps=2")
    assert result.stdout.splitlines()[-1] == "little: 4 finished"
    assert not any((run / "log.txt").exists() for run in place.runs())


def test_watching_a_settled_study_ends(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished("seed=0")
    assert flanscale("status", "little", "--watch").stdout.endswith("2 finished\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan"], "plan what? a study ("),
        (["plan", "model=micro", "cluster.chip=h10"], "did you mean h100 "),
        (["launch", "little", "--budget", "1"], "--budget 1: nothing says how long these cells take"),
        (["launch", "little", "--budget", "0", "cluster.chip=h100"], "--budget 0: the 4 cells to start need"),
        (["plan", "quikstart"], "no study 'quikstart'; did you mean quickstart"),
        (["plan", "little", "sead=1"], "unknown key 'sead'; did you mean seed"),
        (["plan", "little", "trainer.steps=many"], "trainer.steps=many"),
        (["plan", "little", "model=mikro"], "model=mikro: no such choice; did you mean micro"),
        (["launch", "little", "seed=-1"], "seed=-1: must be at least 0"),
        (["launch", "little", "cluster=slurm"], "cluster=slurm: no sbatch on this host"),
        (["launch", "niv2_local", "tokenizer=bytes", "data.niv2=nowhere"], "nowhere"),
        (["launch", "niv2_local", "data.niv2=sweeps"], "no folder tasks/ there"),
        (["launch", "little", "tokenizer=t5"], "tokenizer.vocabulary is not set"),
        (["launch", "little", "paths.studies=sweeps/little.yaml"], "cannot write to"),
        (["status", "little"], "no study 'little' in studies/; `flanscale launch little` makes one"),
        (["report", "little"], "no study 'little' in studies/"),
        (["status", "none.json"], "no study index at none.json"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_leaves_nothing_behind(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, flanscale: Command, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("PATH", str(place.folder))  # no Slurm to be found
    told = flanscale(*arguments)
    assert (told.returncode, told.stdout) == (2, "")
    (line,) = told.stderr.splitlines()
    assert line.startswith("flanscale: ")
    assert message in line
    assert not any((place.folder / "runs").glob("*-*"))


def test_plan_json_is_one_document_of_what_a_launch_would_do(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished("seed=0")
    told = flanscale("plan", "little", "--json", "--order", "coarse")
    assert told.stderr == ""
    document = json.loads(told.stdout)
    assert (document["format"], document["study"], document["points"]) == (1, "little", 4)
    cells = {cell["run"].split("-", 1)[1]: cell for cell in document["cells"]}
    assert cells["procedural-nano-9-direct-s0"]["action"] == "done"
    assert cells["procedural-nano-9-direct-s1"]["action"] == "start"
    assert cells["procedural-nano-9-direct-s1"]["points"] == [{"mixture.count": 9, "seed": 1}]
    assert document["flops"] == pytest.approx(2 * cells["procedural-nano-9-direct-s1"]["flops"])
    alone = json.loads(flanscale("plan", "model=palm_8b", "cluster.chip=tpu_v4", "--json").stdout)
    assert alone["parameters"] > 8e9
    assert {fit["chip"] for fit in alone["fits"]} == {"tpu_v4"}
    assert flanscale("plan", "little", "--json", "--memory").returncode == 2


def test_launch_json_is_one_document_and_words_go_to_stderr(place: Workplace, flanscale: Command) -> None:
    place.pretend_finished("trainer.steps=2")
    told = flanscale("launch", "little", "trainer.steps=2", "--json")
    document = json.loads(told.stdout)
    assert (document["exit_code"], document["study"], document["settled"]) == (0, "little", True)
    assert document["counts"] == {"finished": 4}
    assert len(document["cells"]) == 4
    assert told.stderr.splitlines()[-1] == "little: 4 finished"
    wrong = flanscale("launch", "little", "seed=-1", "--json")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert len(wrong.stderr.splitlines()) == 1


def test_plan_power_says_what_a_study_sees_and_what_more_runs_buy(place: Workplace, flanscale: Command) -> None:
    result = flanscale("plan", "little", "--power", "--seed-noise", "2")
    assert result.returncode == 0
    [volume] = [line for line in result.stdout.splitlines() if "Δ volume, 9 → 89 tasks" in line]
    planned, *more = map(float, volume.split()[-5:])
    assert planned == pytest.approx(more[0])  # two seeds
    assert more == sorted(more, reverse=True)
    assert "a scatter between seeds of 2 points where half is right" in result.stdout
    once = flanscale("plan", "little", "seed=0", "--power")
    assert "none" in next(line for line in once.stdout.splitlines() if "Δ volume" in line)


def test_plan_power_takes_its_noise_from_a_pilot_and_shows_its_signal(place: Workplace, flanscale: Command) -> None:
    write_study(place.folder, name="pilot", records=False)
    damaged = min(place.folder.glob("runs/*")) / "evaluations" / "suite-0" / "step-600" / "result.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    result = flanscale("plan", "little", "--power", "--pilot", "pilot")
    assert "suite-0/step-600/result.json cannot be read" in result.stdout
    assert (result.returncode, result.stderr) == (0, "")
    assert "Signal and noise in pilot" in result.stdout
    assert "No run of pilot has scores of several checkpoints" in result.stdout
    assert "as in pilot, where half is right" in result.stdout


def test_plan_power_takes_no_loss_for_points(place: Workplace, flanscale: Command) -> None:
    settings = {"procedural": ["direct"]}
    write_study(place.folder / "pilot", name="pilot", settings=settings, records=False)
    pilot = str(place.folder / "pilot" / "studies" / "pilot.json")

    def noise() -> str:
        said = flanscale("plan", "little", "--power", "--pilot", pilot)
        assert said.returncode == 0, said.stderr
        return next(line for line in said.stdout.splitlines() if "where half is right" in line)

    before = noise()
    for number, file in enumerate(sorted((place.folder / "pilot" / "runs").glob("*/metrics.jsonl"))):
        *rows, last = file.read_text().splitlines()
        loss = {"score": 2.0 + number / 10, "stderr": 0.01, "n": 40, "higher_is_better": False}
        own = json.loads(last) | {f"eval/zz/cloze/{name}": value for name, value in loss.items()}
        file.write_text("\n".join([*rows, json.dumps(own)]) + "\n")
    assert "zz" in flanscale("plan", "little", "--power", "--pilot", pilot).stdout
    assert noise() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed-noise", "2"], "--pilot, --seed-noise and --items are of --power"),
        (["--power", "--pilot", "little"], "no study 'little' in studies"),
    ],
)
def test_plan_power_says_what_it_lacks(
    place: Workplace, flanscale: Command, arguments: list[str], message: str
) -> None:
    result = flanscale("plan", "little", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
