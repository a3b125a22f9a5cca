"""Which code did a run execute? The commit, what differed from it, and a copy of what no commit holds."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from flanscale.config.places import conf_path, sweeps_path
from flanscale.run_directory import Code, runs_of, write_atomically
from flanscale.tracking.masking import masked

OF_THE_PROJECT = ("pyproject.toml", "constraints.txt")  # of a clone; what its environment is made from
SNAPSHOT_VARIABLE = "FLANSCALE_SNAPSHOT"  # the hash of the sources that a launch copied for its jobs
COMMIT_VARIABLE = "FLANSCALE_COMMIT"  # and the commit that they were copied from
GIT_SECONDS = 10
PACKAGE = Path(__file__).parents[2]


def code_folders() -> dict[str, Path]:
    """The folders of all that a job may import or read, each by its place in a copy."""
    beside, own = PACKAGE.parent, PACKAGE / "_plugins"
    folders = {name: beside / name for name in ("flanscale", "analysis")}
    folders["hydra_plugins/flanscale"] = (own if own.is_dir() else beside) / "hydra_plugins" / "flanscale"
    return folders | {path.name: path for path in (conf_path(), sweeps_path()) if path.parent == beside}


def code_files() -> Iterator[tuple[str, Path]]:
    """Every file that a job may import or read, and its place in a copy."""
    for name, folder in code_folders().items():
        for directory, subfolders, files in os.walk(folder):
            subfolders[:] = [each for each in subfolders if not each.startswith((".", "__pycache__", "_plugins"))]
            for file in files:
                path = Path(directory, file)
                yield f"{name}/{path.relative_to(folder)}", path


def record_code(run_dir: Path) -> Code:
    """What to note of the code that this process runs; what no commit holds is stored, once for each content."""
    snapshot = os.environ.get(SNAPSHOT_VARIABLE)
    if snapshot:
        archive = _store_snapshot(runs_of(run_dir) / ".code", snapshot)
        name = os.path.relpath(archive, run_dir) if archive else None
        return replace(_described(os.environ.get(COMMIT_VARIABLE)), snapshot=snapshot, archive=name)
    code, difference = current_code()
    if not code.diff_sha256:
        return code
    path = run_dir / f"code.{code.diff_sha256[:12]}.diff.gz"
    if not path.exists():
        write_atomically(path, gzip.compress(difference, mtime=0))
    return replace(code, diff=path.name)


def current_code() -> tuple[Code, bytes]:
    """Commit of flanscale's own sources with a hash of what differs from it, and the difference as a patch for git.

    Without a commit where the sources are not in a clone: an installed package, perhaps inside another repository.
    """
    root = PACKAGE.parent
    if shutil.which("git") is None or not _git(root, "ls-files", "flanscale/__init__.py"):
        return _described(None), b""
    there = [
        str(path) for path in (*code_folders().values(), *(root / name for name in OF_THE_PROJECT)) if path.exists()
    ]
    with tempfile.TemporaryDirectory() as scratch:  # an index of our own, where new files count as well
        index = Path(scratch, "index")
        theirs = root / os.fsdecode(_git(root, "rev-parse", "--git-path", "index").strip())
        shutil.copy2(
            theirs, index
        )  # with its time: git reads a file again that may have changed just as it was written
        _git(root, "add", "--intent-to-add", "--", *there, index=index)
        difference = _git(root, "diff", "--binary", "--no-color", "--no-ext-diff", "HEAD", "--", *there, index=index)
    return _described(_git(root, "rev-parse", "HEAD").decode().strip(), difference), difference


@cache
def commit_here() -> str:
    """The commit of flanscale's own sources, for `COMMIT_VARIABLE`; empty where they are not in a clone."""
    tracked = shutil.which("git") is not None and _git(PACKAGE.parent, "ls-files", "flanscale/__init__.py")
    return _git(PACKAGE.parent, "rev-parse", "HEAD").decode().strip() if tracked else ""


def changed_since(archive: Path) -> list[str]:
    """Names of the files of an archived snapshot that are not the same here today, and of those that it had not."""
    here = dict(code_files())
    with tarfile.open(archive) as tar:
        then = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
    changed = [name for name, content in then.items() if name not in here or here[name].read_bytes() != content]
    return sorted([*changed, *(here.keys() - then.keys())])


def _described(commit: str | None, difference: bytes = b"") -> Code:
    digest = hashlib.sha256(difference).hexdigest() if difference else None
    origin = _git(PACKAGE.parent, "config", "remote.origin.url").decode().strip() if commit else ""
    return Code(commit or None, masked(origin) or None, dirty=bool(difference), diff_sha256=digest)


def _store_snapshot(folder: Path, snapshot: str) -> Path | None:
    """Keep the sources of a launch, which deletes them when its runs have ended; None if they run from elsewhere."""
    sources = PACKAGE.parent
    if sources.name != snapshot:
        return None
    folder.mkdir(exist_ok=True)
    archive = folder / f"{snapshot}.tar.gz"
    if archive.exists():
        return archive
    scratch = folder / f".{archive.name}.{os.uname().nodename}.{os.getpid()}"
    try:
        with tarfile.open(scratch, "w:gz") as tar:
            for path in sorted(sources.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                    tar.add(path, arcname=str(path.relative_to(sources)))
        scratch.replace(archive)
    finally:
        scratch.unlink(missing_ok=True)
    return archive


def _git(folder: Path, *arguments: str, index: Path | None = None) -> bytes:
    """What git prints; nothing where it has nothing to say or refuses."""
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False, env=environment).stdout
