"""Reserving: what a launcher asks of the folders it will write to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flanscale.errors import ConfigError
from flanscale.orchestration.dispatch.reserve import check_writable


def test_many_launchers_may_look_whether_a_folder_is_writable_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_writable(folder), range(400)))
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named_with_the_keys_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to .*file/runs: .*paths\.runs"):
        check_writable(tmp_path / "file" / "runs")
