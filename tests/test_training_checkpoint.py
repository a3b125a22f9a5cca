"""Checkpoints: what comes back is what was saved, or is not used."""

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanscale.training.checkpoint import Checkpoints

# Orbax leaves the coroutines of a failed read to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

State = dict[str, Any]


def state_of(step: int) -> State:
    rng = np.random.default_rng(step)
    return {
        "step": jnp.asarray(step, jnp.int32),
        "layers": [jnp.asarray(rng.normal(size=(50, 60)), jnp.float32) for _ in range(3)],
    }


def like() -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_of(0))


def save(directory: Path, *steps: int, keep: int = 3) -> None:
    checkpoints = Checkpoints(directory, keep)
    for step in steps:
        checkpoints.save(step, state_of(step), {"data": {"block": step}})
    checkpoints.close()


def restore(directory: Path) -> tuple[State, dict[str, Any]] | None:
    checkpoints = Checkpoints(directory, 3)
    try:
        return checkpoints.restore(like())
    finally:
        checkpoints.close()


def assert_is(restored: tuple[State, dict[str, Any]] | None, step: int) -> None:
    assert restored is not None
    state, progress = restored
    jax.tree.map(np.testing.assert_array_equal, state, state_of(step))
    assert progress == {"data": {"block": step}}


def test_the_newest_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, 30)
    assert_is(restore(tmp_path), 30)


def test_an_empty_folder_means_start_from_scratch(tmp_path: Path) -> None:
    assert restore(tmp_path / "checkpoints") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, 30, keep=2)
    assert {int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()} == {20, 30}


def test_saving_is_not_disturbed_by_a_step_that_uses_the_state_up(tmp_path: Path) -> None:
    move = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state, checkpoints = jax.tree.map(jnp.copy, state_of(10)), Checkpoints(tmp_path, 3)
    checkpoints.save(10, state, {"data": {"block": 10}})
    for _ in range(5):
        state = move(state)
    jax.block_until_ready(state)
    checkpoints.close()
    assert_is(restore(tmp_path), 10)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_a_process_killed_while_it_saves_leaves_the_checkpoint_before(tmp_path: Path, delay: float) -> None:
    save(tmp_path, 10)
    code = (
        "import os, signal, sys, time; from pathlib import Path; from test_training_checkpoint import *\n"
        f"Checkpoints(Path({str(tmp_path)!r}), 1).save(20, state_of(20), {{'data': {{'block': 20}}}})\n"
        f"time.sleep({delay}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent)
    assert killed.returncode == -signal.SIGKILL
    finished = (tmp_path / "20").exists() and restore(tmp_path)[1]["data"]["block"] == 20  # type: ignore[index]
    assert_is(restore(tmp_path), 20 if finished else 10)


def files_of(directory: Path, step: int) -> list[Path]:
    return sorted(
        (p for p in (directory / str(step) / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def truncate_the_largest_file(directory: Path) -> None:
    largest = files_of(directory, 30)[-1]
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def flip_a_bit_in_the_largest_file(directory: Path) -> None:
    largest = files_of(directory, 30)[-1]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)


def delete_every_chunk(directory: Path) -> None:
    for path in files_of(directory, 30):
        if path.parent.name == "d":
            path.unlink()


def empty_the_progress(directory: Path) -> None:
    for path in (directory / "30" / "progress").iterdir():
        path.write_bytes(b"")


def delete_the_state(directory: Path) -> None:
    for path in files_of(directory, 30):
        path.unlink()


DAMAGES = [
    truncate_the_largest_file,
    flip_a_bit_in_the_largest_file,
    delete_every_chunk,
    empty_the_progress,
    delete_the_state,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_loudly_for_the_one_before(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 20, 30)
    damage(tmp_path)
    with caplog.at_level(logging.ERROR, "flanscale"):
        assert_is(restore(tmp_path), 20)
    assert "checkpoint 30" in caplog.text
    assert "resuming from checkpoint 20" in caplog.text
    assert (tmp_path / "damaged" / "30").is_dir(), "kept for whoever wants to look"


def test_without_a_good_checkpoint_the_run_starts_from_scratch_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 30)
    truncate_the_largest_file(tmp_path)
    with caplog.at_level(logging.ERROR, "flanscale"):
        assert restore(tmp_path) is None
    assert "resuming from scratch" in caplog.text


def test_a_step_that_was_damaged_can_be_saved_again(tmp_path: Path) -> None:
    for _ in range(2):
        save(tmp_path, 30)
        truncate_the_largest_file(tmp_path)
        assert restore(tmp_path) is None
    save(tmp_path, 30)
    assert_is(restore(tmp_path), 30)


def test_values_that_are_not_those_saved_are_noticed_even_where_the_files_read_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 30)
    record = next(path for path in (tmp_path / "30" / "progress").iterdir() if b"checksums" in path.read_bytes())
    text = record.read_text()
    first = text.split("[", 1)[1].split(",", 1)[0]
    record.write_text(text.replace(first, str(int(first) ^ 1), 1))
    with caplog.at_level(logging.ERROR, "flanscale"):
        assert restore(tmp_path) is None
    assert "checksums differ" in caplog.text
