"""`python -m flanscale.run --multirun` is the same launch in plain Hydra."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from little_study import Workplace, open_workplace

from flanscale import run
from flanscale.config.compose import Composer
from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch import multirun
from flanscale.orchestration.dispatch.multirun import plan_arguments, plan_batch
from flanscale.orchestration.dispatch.plain_hydra import as_typed, main_of
from flanscale.orchestration.planning.ledger import read_ledger
from flanscale.orchestration.planning.plan import Plan, make_cell
from flanscale.orchestration.planning.preview import make_plan


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return open_workplace(tmp_path, monkeypatch)


def hydra(place: Workplace, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flanscale.run", *arguments]
    return subprocess.run(
        command, cwd=place.folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def planned(*arguments: str) -> Plan:
    """What a multirun plans of the arguments as they come out of Hydra."""
    return plan_arguments([as_typed(text, sweeps=True) for text in arguments])


def test_a_named_multirun_plans_exactly_what_launch_plans(place: Workplace) -> None:
    assert planned("+sweep=little", "seed=0,5", "trainer.steps=3") == make_plan(
        "little", ["seed=0,5", "trainer.steps=3"]
    )
    path = str(place.folder / "sweeps" / "little.yaml")
    assert planned(f"+sweep={path}", "seed=0,5").cells == make_plan(path, ["seed=0,5"]).cells


WRITTEN = [
    *("cluster.account=2024_117", "tracker.project=1.10", "tracker.tags=[1.10,true]", 'tracker.notes="it\'s \\\\"'),
    *(
        "mixture.count=9",
        "mixture.proportions={first: 1}",
        "+mixture.caps.first=7",
        "cluster.environment={A-B: 1.0, C: '${seed}'}",
    ),
    *("cluster.environment.D=010", "++trainer={log_every: 7, mesh: {data: 1}}", "optimizer.learning_rate=1e-4"),
    *("cot=no", "model=micro", "init.run=null", "+seed=3", "cluster.by_model={micro: {cpus: 2}}"),
]


@pytest.mark.parametrize("sweeps", [False, True])
def test_what_comes_out_of_hydra_is_the_cell_that_was_asked_for(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, sweeps: bool
) -> None:
    kept: list[str] = []
    monkeypatch.setattr("sys.argv", ["run.py", *WRITTEN, *(["--multirun", "hydra/sweeper=basic"] if sweeps else [])])
    monkeypatch.setattr(multirun, "launch_planned", lambda make: make())
    monkeypatch.setattr(multirun, "plan_batch", lambda batch: kept.extend(batch[0]))
    main_of(kept.extend)
    one, other = (make_cell(Composer(), overrides) for overrides in (WRITTEN, kept))
    assert one == other
    assert (one.config.tracker.project, one.config.cluster.account) == ("1.10", "2024_117")
    assert one.config.mixture.proportions == {"first": 1.0}
    assert one.config.cluster.environment["C"] == "3"
    assert one.config.cluster.cpus == 2
    plan = planned(*WRITTEN)
    assert [(cell.id, cell.config) for cell in plan.cells] == [
        (
            one.id,
            dataclasses.replace(one.config, tracker=dataclasses.replace(one.config.tracker, group=plan.study.name)),
        )
    ]


def test_a_group_of_ones_own_is_found_beside_a_study_and_by_a_single_cell(place: Workplace) -> None:
    for folder, name in (("conf", "mine"), ("elsewhere", "other")):
        (place.folder / folder / "model").mkdir(parents=True)
        (place.folder / folder / "model" / f"{name}.yaml").write_text(
            f"{{name: {name}, architecture: decoder, d_model: 8, n_layers: 1, n_heads: 1, head_dim: 8, d_ff: 8}}"
        )
    there = ["--config-dir", "elsewhere", "model=mine,other", "trainer.steps=1", "paths.runs=sweeps/little.yaml/x"]
    assert "cannot write to" in hydra(place, "--multirun", "+sweep=little", *there).stderr
    assert hydra(place, "--cfg", "job", "model=mine", "--package", "model").stdout.startswith("name: mine\n")
    completed = hydra(place, "--shell-completion", "query=bash", COMP_LINE="python run.py model=mine")
    assert completed.stdout.split() == ["model=mine"]


def test_a_multirun_without_a_name_is_a_study_of_its_sweeps(place: Workplace) -> None:
    plan = planned("mixture.count=9,89", "seed=0,1", "model=nano")
    assert [point.axes for point in plan.points] == [
        {"mixture.count": count, "seed": seed} for count in (9, 89) for seed in (0, 1)
    ]
    assert plan.study.name.startswith("multirun-")
    assert plan.study.name == planned("++seed=range(0,2)", "mixture.count=9,89", "model=nano").study.name
    assert plan.study.name != planned("seed=0,2", "mixture.count=9,89", "model=nano").study.name
    cells = {cell.id for cell in make_plan("little", ["tracker=offline", "trainer.steps=600"]).cells}
    again = planned("mixture.count=9,89", "seed=0,1", "model=nano", "trainer.steps=600")
    assert {cell.id for cell in again.cells} == cells


def test_the_points_of_another_sweeper_are_taken_as_they_are(place: Workplace) -> None:
    plan = plan_batch([["model=nano", "seed=0"], ["model=micro", "seed=1"]])
    assert [point.axes for point in plan.points] == [{"model": "nano", "seed": 0}, {"model": "micro", "seed": 1}]
    assert plan.study.axes == {"model": ("nano", "micro"), "seed": (0, 1)}


def test_one_multirun_is_one_study(place: Workplace) -> None:
    with pytest.raises(ConfigError, match=r"\+sweep is given 2 times"):
        planned("+sweep=little", "+sweep=quickstart")
    with pytest.raises(ConfigError, match=r"\+sweep=NAME is planned by hydra/sweeper=flanscale alone"):
        plan_batch([[as_typed("+sweep=little", sweeps=True), "seed=0"]])


@pytest.mark.parametrize("sweeper", ["flanscale", "basic"])
def test_a_multirun_is_the_launch_starts_nothing_that_is_finished_and_leaves_no_folders_of_hydra(
    place: Workplace, sweeper: str
) -> None:
    place.pretend_finished("trainer.steps=1")
    launched = read_ledger(place.folder / "studies" / "little.json")
    study = "+sweep=little" if sweeper == "flanscale" else "mixture.count=9,89 seed=0,1 model=nano tracker=disabled"
    result = hydra(place, "--multirun", f"hydra/sweeper={sweeper}", *study.split(), "trainer.steps=1")
    assert result.returncode == 0, result.stderr
    assert "4 finished\n" in result.stdout
    assert set(place.statuses().values()) == {"finished"}
    assert not any((run / "log.txt").exists() for run in place.runs())
    assert {path.name for path in place.folder.iterdir()} <= {"sweeps", "runs", "studies", "multirun.yaml"}
    (index,) = [
        path for path in (place.folder / "studies").glob("*.json") if sweeper == "flanscale" or path.stem != "little"
    ]
    hydras = read_ledger(index)
    assert hydras.entries == launched.entries
    assert [point.cell for point in hydras.points] == [point.cell for point in launched.points]
    if sweeper == "flanscale":
        assert hydras.points == launched.points
        assert (hydras.study, hydras.title, hydras.axes) == (launched.study, launched.title, launched.axes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+sweep=litle"], "litle"),
        (["+sweep=little", "seed=zero"], "seed=zero"),
        (["mixture.cuont=1,2"], "did you mean mixture.count"),
    ],
)
def test_a_mistake_is_one_line_before_hydra_sees_it(
    place: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "--multirun", *arguments])
    with pytest.raises(SystemExit) as ended:
        run.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert message in line
    assert not (place.folder / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra/launcher=basic"], "hydra/sweeper=flanscale needs hydra/launcher=flanscale"),
        (["paths.runs=sweeps/little.yaml/runs"], "cannot write to"),
    ],
)
def test_a_mistake_inside_hydra_ends_in_one_line_without_a_traceback(
    place: Workplace, arguments: list[str], message: str
) -> None:
    result = hydra(place, "--multirun", "+sweep=little", *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (place.folder / "runs").exists()


def test_other_programs_and_launchers_of_hydra_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import hydra\n"
        "@hydra.main(version_base='1.3', config_path=None)\n"
        "def app(config):\n"
        "    print('job', config.x)\n"
        "app()\n"
    )
    plugin = tmp_path / "hydra_plugins" / "elsewhere"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(
        "from hydra._internal.core_plugins.basic_launcher import BasicLauncher\n"
        "from hydra.core.config_store import ConfigStore\n"
        "class Elsewhere(BasicLauncher):\n"
        "    def launch(self, *arguments, **more):\n"
        "        print('elsewhere')\n"
        "        return super().launch(*arguments, **more)\n"
        "node = {'_target_': 'hydra_plugins.elsewhere.Elsewhere'}\n"
        "ConfigStore.instance().store(group='hydra/launcher', name='elsewhere', node=node, provider='elsewhere')\n"
    )
    for launcher, said in (("basic", ""), ("elsewhere", "elsewhere\n")):
        done = subprocess.run(
            [sys.executable, "app.py", "--multirun", f"hydra/launcher={launcher}", "+x=1,2"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(said)
        assert [line for line in done.stdout.splitlines() if line.startswith("job")] == ["job 1", "job 2"]
