"""Several processes: they train together what one trains alone, and go on from each other's checkpoints."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import together

from flanscale.models import build_mesh
from flanscale.schema import MeshConfig
from flanscale.training.distributed import host_of


def start(
    folder: Path, mesh: tuple[int, int, int], processes: int, devices: int = 1, stop: int = 0
) -> list[dict[str, Any]]:
    """What the processes said, each of which has so many devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    started = []
    for index in range(processes):
        if processes > 1:
            environment |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(processes)}
            environment |= {"JAX_PROCESS_ID": str(index)}
        command = [sys.executable, together.__file__, str(folder), json.dumps(mesh), str(stop)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))  # type: ignore[call-overload]
    said = []
    for process in started:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-3000:]
        said.append(json.loads(next(line for line in output.splitlines() if line.startswith("SAID"))[5:]))
    return said


def untimed(said: dict[str, Any]) -> list[Any]:
    clock = ("train/tokens_per_second", "train/data_wait_fraction")
    return [[step, {key: value for key, value in row.items() if key not in clock}] for step, row in said["rows"]]


def assert_near(one: dict[str, Any], other: dict[str, Any]) -> None:
    np.testing.assert_allclose(one["first"], other["first"], rtol=1e-4)
    assert one["total"] == pytest.approx(other["total"], rel=1e-5)
    assert [step for step, _ in one["rows"]] == [step for step, _ in other["rows"]]
    for (_, row), (_, expected) in zip(untimed(one), untimed(other), strict=True):
        assert row == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return together.trained(tmp_path_factory.mktemp("alone"), MeshConfig())


@pytest.mark.parametrize(
    "mesh", [(1, 2, 1), *(pytest.param(mesh, marks=pytest.mark.slow) for mesh in ((2, 1, 1), (1, 1, 2)))]
)
def test_two_processes_train_what_one_does(tmp_path: Path, mesh: tuple[int, int, int], alone: dict[str, Any]) -> None:
    said = start(tmp_path, mesh, 2)
    assert [one["host"] for one in said] == ([[0, 2], [1, 2]] if mesh[2] == 1 else [[0, 1], [0, 1]])
    assert untimed(said[0]) == untimed(said[1])
    assert said[0]["first"] == said[1]["first"]
    for one in said:
        assert_near(one, alone)


@pytest.mark.slow
def test_one_process_asked_to_stop_stops_both_and_any_number_goes_on(tmp_path: Path, alone: dict[str, Any]) -> None:
    said = start(tmp_path, (2, 1, 1), 2, stop=2)
    assert {one["total"] for one in said} == {"asked to stop after step 3 of 6"}, "one step after the request"
    (one,) = start(tmp_path, (1, 1, 1), 1)
    np.testing.assert_allclose(one["first"], alone["first"], rtol=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_on_another_number_of_devices(tmp_path: Path, alone: dict[str, Any]) -> None:
    for folder, (first, then) in {"grow": (1, 8), "shrink": (8, 1)}.items():
        meshes = {1: (1, 1, 1), 8: (2, 2, 2)}
        (stopped,) = start(tmp_path / folder, meshes[first], 1, devices=first, stop=3)
        assert stopped["total"] == "asked to stop after step 3 of 6"
        (done,) = start(tmp_path / folder, meshes[then], 1, devices=then)
        assert [step for step, _ in stopped["rows"] + done["rows"]] == [3, 6]
        assert_near(done | {"rows": stopped["rows"] + done["rows"]}, alone)


def test_a_process_alone_feeds_all_rows() -> None:
    assert host_of(build_mesh(MeshConfig()), 6) == (0, 1)
