"""What is installed: a wheel that holds all that a clone does, and exact versions that pyproject.toml allows."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"])]
LOWEST = ROOT / "constraints" / "jax-0.10.0.txt"
EXACT = [ROOT / "constraints.txt", *sorted((ROOT / "constraints").iterdir())]
# Too much for the tests to install, and nothing of it goes with the lowest pyarrow.
HARNESS = [Requirement(text) for text in PROJECT["optional-dependencies"]["lm-eval"]]


def pinned(constraints: Path) -> dict[str, Version]:
    found = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            found[canonicalize_name(name)] = Version(version)
    return found


@pytest.mark.parametrize("constraints", EXACT, ids=lambda path: path.stem)
def test_the_exact_versions_are_of_all_that_is_needed_and_allowed(constraints: Path) -> None:
    exact = pinned(constraints)
    for need in NEEDED if constraints == LOWEST else (*NEEDED, *HARNESS):
        assert exact[canonicalize_name(need.name)] in need.specifier, need


def test_the_lowest_versions_that_are_tested_are_those_that_are_claimed() -> None:
    lowest = pinned(LOWEST)
    for need in NEEDED:
        (bound,) = need.specifier
        assert bound.operator == ">="
        tested = lowest[canonicalize_name(need.name)]
        assert tested.release[: len(Version(bound.version).release)] == Version(bound.version).release, need


def test_the_job_tests_every_exact_jax_under_every_python(tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    make.chmod(0o755)

    def asked(*names: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = [ROOT / ".ci" / "versions", *names]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    jobs = [dict(word.split("=") for word in line.split()[1:]) for line in asked().stdout.splitlines()]
    assert {f"jax-{job['JAX']}" for job in jobs} == {path.stem for path in EXACT[1:]} | {"jax-0.10"}
    for job in jobs:
        path = ROOT / "constraints" / f"jax-{job['JAX']}.txt"
        version = str(pinned(path if path.exists() else EXACT[0])["jax"])
        assert f"{version}.".startswith(f"{job['JAX']}.")
    pythons = {line.rpartition(" ")[2] for line in PROJECT["classifiers"]}
    assert {job["PYTHON"].removeprefix("python") for job in jobs} == pythons
    assert len({job["VENV"] for job in jobs}) == len(jobs)
    assert len(asked("0.11", "0.12").stdout.splitlines()) == 2
    assert asked("0.9").returncode == 2


@pytest.mark.slow
def test_a_wheel_in_a_clean_environment_plans_a_study(tmp_path: Path) -> None:
    def ran(*command: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", str(ROOT))
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "clean", with_pip=True)
    there = tmp_path / "clean" / "bin"
    ran(str(there / "pip"), "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel))
    assert "54 distinct cells" in ran(str(there / "flanscale"), "plan", "quickstart")
    assert "powered by Hydra" in ran(str(there / "python"), "-m", "flanscale.run", "--help")
    assert "quickstart" in ran(
        str(there / "python"), "-c", "from flanscale.cli import completion; print(completion.sweeps(''))"
    )
