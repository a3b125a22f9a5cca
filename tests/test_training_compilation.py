"""Compiled programs are shared by processes, of which any may be killed at any moment."""

import inspect
import logging
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax._src import lru_cache

from flanscale.training import enable_compilation_cache
from flanscale.training.compilation import KNOWN_JAX

PROGRAM = """
import sys; from pathlib import Path
from flanscale.training import enable_compilation_cache
enable_compilation_cache(Path(sys.argv[1]))
{patch}
import jax, jax.numpy as jnp
from jax._src import monitoring
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
print(float(jax.jit(lambda x: jnp.tanh(x) @ x)(jnp.ones((8, 8)))[0, 0]), bool(hits))
"""
# Half of what is to be written, then a kill -9.
KILLED = """
import os, signal
def torn(path, data):
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
Path.write_bytes = torn
"""


def run(cache: Path, patch: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(patch=patch), str(cache)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_a_process_killed_while_writing_leaves_does_not_count(tmp_path: Path) -> None:
    assert run(tmp_path, KILLED).returncode == -9
    assert any(tmp_path.rglob("*.partial")), "or nothing was torn"
    first, second = run(tmp_path), run(tmp_path)
    assert "Error reading" not in first.stderr + second.stderr
    assert (first.stdout.split()[1], second.stdout.split()[1]) == ("False", "True")
    assert first.stdout.split()[0] == second.stdout.split()[0]


@pytest.mark.parametrize(
    ("version", "known"), [("0.9.2", False), ("0.10.0", True), ("0.12.7", True), ("0.13.0", False), ("1.10.0", False)]
)
def test_a_jax_that_is_not_known_is_left_as_it_is_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str, known: bool
) -> None:
    class LRUCache:
        def put(self, key: str, value: bytes) -> None: ...

    theirs = LRUCache.put
    monkeypatch.setattr(lru_cache, "LRUCache", LRUCache)
    monkeypatch.setattr(jax, "__version__", version)
    monkeypatch.setattr(jax, "__version_info__", tuple(map(int, version.split("."))))
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    with caplog.at_level(logging.WARNING, "flanscale"):
        enable_compilation_cache(tmp_path)
    assert (LRUCache.put is not theirs) == known
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (0 if known else 1)
    assert all(f"JAX {version} " in line and "half a file" in line for line in said)


@pytest.mark.skipif(jax.__version_info__[:2] not in KNOWN_JAX, reason="another JAX is left as it is")
def test_the_jax_that_is_known_writes_a_program_in_place_and_under_the_name_that_we_give_it() -> None:
    source = inspect.getsource(lru_cache)  # of the file: another test may have replaced the function
    for line in ("def put(self, key: str, value: bytes) -> None:", "cache_path.write_bytes(value)"):
        assert line in source
    assert source.count('cache_path = self.path / f"{key}{_CACHE_SUFFIX}"') >= 2, "in get and put"
    assert lru_cache._CACHE_SUFFIX == "-cache"


def test_a_folder_that_cannot_be_made_is_said_and_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "flanscale"):
        enable_compilation_cache(tmp_path / "file" / "compiled")
    assert "compiled programs are not kept" in caplog.text
