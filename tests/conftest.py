"""What every test runs under: the CPU, no network, and compiled programs kept between runs."""

import getpass
import os
import tempfile
from pathlib import Path

import pytest
from told import Command, Told
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, LoadScopeScheduling

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"flanscale-tests-{getpass.getuser()}" / "compiled")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Programs here run for milliseconds: compiling them well would take longer. 0 compiles as a user's runs do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


class OneWorkerForSlurm(LoadFileScheduling):
    """A file's tests stay together, and those of the one test cluster, which only wait for each other elsewhere."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "tests/slurm" if file.startswith("tests/slurm/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return OneWorkerForSlurm(config, log)


@pytest.fixture
def flanscale(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command `flanscale`, typed in this process."""
    from flanscale.cli.main import main

    def run(*arguments: str) -> Told:
        monkeypatch.setattr("sys.argv", ["flanscale", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Told(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; tests that use it carry the marker `data`."""
    folder = Path(os.environ.get("FLANSCALE_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set FLANSCALE_SHARED_DATA")
    return folder.resolve()
