"""The built wheel holds all that a clone does: it plans and composes in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
    assert "36 distinct cells" in ran(str(there / "flanscale"), "plan", "quickstart")
    assert "powered by Hydra" in ran(str(there / "python"), "-m", "flanscale.run", "--help")
    assert "quickstart" in ran(
        str(there / "python"), "-c", "from flanscale.cli import completion; print(completion.sweeps(''))"
    )
