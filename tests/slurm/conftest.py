"""Where do these tests find Slurm? On the cluster that `tests/slurm/cluster.sh` has started, and on no other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machines

from flanscale.orchestration.running import slurm

SCRIPT = Path(__file__).with_name("cluster.sh")


@pytest.fixture(scope="session", autouse=True)
def machines() -> Iterator[Machines]:
    """The cluster, with `SLURM_CONF` pointing to it; where it is not up, the tests are skipped."""
    said = subprocess.run([SCRIPT, "env"], capture_output=True, text=True, check=True).stdout
    configuration = Path(said.strip().removeprefix("export SLURM_CONF="))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        if not configuration.exists() or not slurm.available() or slurm.known_jobs() is None:
            pytest.skip("the test cluster is not up: tests/slurm/cluster.sh start")
        yield Machines(configuration.parent)


@pytest.fixture(autouse=True)
def _alone(machines: Machines) -> Iterator[None]:
    with machines.alone():
        yield
