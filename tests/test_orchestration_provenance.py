"""A run's provenance brings its code and packages back, holds no secret, and never stands in a run's way."""

from __future__ import annotations

import gzip
import logging
import os
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from flanscale.config.compose import Composer, save
from flanscale.errors import ConfigError
from flanscale.orchestration.running import sources
from flanscale.orchestration.running.provenance import record_attempt
from flanscale.run_directory import PROVENANCE_FILE, read_attempts

CELL = Composer().compose(["tracker=disabled", "data.niv2=/data/niv2"])
CELL.fingerprints = {"tasks": "abc"}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "0123456789-a-run"
    folder.mkdir(parents=True)
    save(CELL, folder)
    return folder


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project in whose place flanscale's own sources are taken to be."""
    root = tmp_path / "clone"
    (root / "flanscale").mkdir(parents=True)
    (root / "flanscale" / "__init__.py").write_text("one = 1\n")
    (root / "notes.txt").write_text("mine\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        git(root, *command)
    monkeypatch.setattr(sources, "PACKAGE", root / "flanscale")
    return root


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> str:
    command = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", *arguments]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=True).stdout.decode()


def test_every_installed_package_is_there_with_its_version(run_dir: Path) -> None:
    record_attempt(run_dir, 1)
    (attempt,) = read_attempts(run_dir)
    slowly = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    assert attempt.packages == slowly
    assert attempt.data == {"fingerprints": {"tasks": "abc"}, "places": {"data.niv2": "/data/niv2"}}


def test_secrets_of_the_command_line_are_not_kept(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cell", "cluster.environment.API_KEY=hunter2", "--token", "hunter2", "seed=1"])
    monkeypatch.setenv("SOME_TOKEN", "hunter2")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    record_attempt(run_dir, 1)
    assert "hunter2" not in (run_dir / PROVENANCE_FILE).read_text()
    (attempt,) = read_attempts(run_dir)
    assert attempt.argv == ["cell", "cluster.environment.API_KEY=***", "--token", "***", "seed=1"]
    assert attempt.jax_environment["XLA_FLAGS"] == "--xla_gpu_deterministic_ops=true"


def test_the_slurm_job_is_named(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_JOB_PARTITION", "gpu")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    record_attempt(run_dir, 1)
    slurm = read_attempts(run_dir)[0].slurm
    assert (slurm["job"], slurm["partition"], slurm["nodes"]) == ("77", "gpu", "n[1-2]")


def test_commit_and_difference_bring_the_sources_back(run_dir: Path, clone: Path, tmp_path: Path) -> None:
    (clone / "flanscale" / "__init__.py").write_text("one = 2\n")
    (clone / "flanscale" / "new.py").write_text("two = 2\n")
    (clone / "notes.txt").write_text("no code\n")
    for attempt in (1, 2):
        record_attempt(run_dir, attempt)
    code = read_attempts(run_dir)[-1].code
    assert code.dirty
    assert len(list(run_dir.glob("code.*"))) == 1, "one content is stored once"
    assert git(clone, "status", "--short").split() == [
        "M",
        "flanscale/__init__.py",
        "M",
        "notes.txt",
        "??",
        "flanscale/new.py",
    ]

    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(clone), str(again))
    git(again, "checkout", "-q", code.commit)
    git(again, "apply", "-", stdin=gzip.decompress((run_dir / code.diff).read_bytes()))
    for name in ("flanscale/__init__.py", "flanscale/new.py"):
        assert (again / name).read_text() == (clone / name).read_text()
    assert (again / "notes.txt").read_text() == "mine\n"


def test_a_change_in_the_moment_of_the_commit_is_seen(run_dir: Path, clone: Path) -> None:
    git(clone, "config", "core.trustctime", "false")
    source, index = clone / "flanscale" / "__init__.py", clone / ".git" / "index"
    then = source.stat().st_mtime_ns - 10**9
    os.utime(source, ns=(then, then))
    git(clone, "add", ".")
    source.write_text("one = 2\n")
    for path in (source, index):
        os.utime(path, ns=(then, then))
    record_attempt(run_dir, 1)
    code = read_attempts(run_dir)[0].code
    assert b"+one = 2" in gzip.decompress((run_dir / str(code.diff)).read_bytes())


def test_a_clean_clone_has_no_difference(run_dir: Path, clone: Path) -> None:
    record_attempt(run_dir, 1)
    code = read_attempts(run_dir)[0].code
    assert (code.commit, code.dirty, code.diff) == (git(clone, "rev-parse", "HEAD").strip(), False, None)


def test_the_sources_of_a_launch_are_kept_for_good(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = run_dir.parent / ".code" / "abcdef"
    (snapshot / "flanscale").mkdir(parents=True)
    (snapshot / "flanscale" / "__init__.py").write_text("one = 1\n")
    monkeypatch.setattr(sources, "PACKAGE", snapshot / "flanscale")
    monkeypatch.setenv(sources.SNAPSHOT_VARIABLE, "abcdef")
    monkeypatch.setenv(sources.COMMIT_VARIABLE, "c0ffee")
    record_attempt(run_dir, 1)
    code = read_attempts(run_dir)[0].code
    assert (code.snapshot, code.commit) == ("abcdef", "c0ffee")
    with tarfile.open(run_dir / code.archive) as archive:
        assert archive.getnames() == ["flanscale/__init__.py"]
    assert sources.changed_since(run_dir / code.archive) == []
    (snapshot / "flanscale" / "__init__.py").write_text("one = 2\n")
    assert sources.changed_since(run_dir / code.archive) == ["flanscale/__init__.py"]


def test_whatever_a_job_may_import_counts_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = "hydra_plugins/flanscale/launcher.py"
    places = ("flanscale/run.py", "analysis/report.py", f"flanscale/_plugins/{plugin}")
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("one = 1\n")
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "flanscale")
    with tarfile.open(tmp_path / "code.tar.gz", "w:gz") as archive:
        for name, path in sources.code_files():
            archive.add(path, name)
    assert sources.changed_since(tmp_path / "code.tar.gz") == []
    (tmp_path / "analysis" / "report.py").write_text("one = 2\n")
    (tmp_path / places[2]).unlink()
    (tmp_path / "flanscale" / "new.py").write_text("one = 1\n")
    changed = ["analysis/report.py", "flanscale/new.py", plugin]
    assert sources.changed_since(tmp_path / "code.tar.gz") == changed


def test_what_cannot_be_recorded_does_not_stop_a_run(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    newer = '{"format": 99, "attempts": []}'
    (run_dir / PROVENANCE_FILE).write_text(newer)
    with caplog.at_level(logging.WARNING):
        record_attempt(run_dir, 1)
    assert "newer flanscale" in caplog.text
    assert (run_dir / PROVENANCE_FILE).read_text() == newer, "what a newer version wrote stays as it is"
    with pytest.raises(ConfigError, match="newer flanscale \\(format 99, not 2\\): update"):
        read_attempts(run_dir)
