"""How does a collection come from its public source onto this disk? Planned first, then file by file, all recorded.

`<folder>/fetched.json` says of every file where it came from, at which commit, its size, sha256 and date, and under
which licence. It is written after every file: what it lists and is still there is not fetched again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from flanscale.errors import DataError, nearest, one_line
from flanscale.run_directory import write_atomically
from flanscale.tasks.download import TIMEOUT, NotThere, Progress, download, told_disk
from flanscale.tasks.sources import Archive, File, Hub, Source, hub, read_sources
from flanscale.tasks.unpack import stays_inside, unpack

RECORD = "fetched.json"


@dataclass(frozen=True)
class Wanted:
    """One file or archive to fetch, with the commit that its address stands for where the address has none."""

    part: File | Archive
    commit: str = ""

    @property
    def name(self) -> str:
        """Its path under the collection's folder; an archive's is in no one's way and goes when unpacked."""
        return self.part.path if isinstance(self.part, File) else f".{self.part.url.rsplit('/', 1)[-1]}.tar.gz"


@dataclass(frozen=True)
class Fetched:
    """What a fetch did."""

    folder: Path
    fetched: int
    here_before: int
    failed: tuple[str, ...]
    """A line each: files that the source does not give."""


def find_source(name: str) -> Source:
    """The source of that name.

    Raises:
        DataError: there is none; the message names the nearest.
    """
    sources = read_sources()
    if name in sources:
        return sources[name]
    if name == "procedural":
        raise DataError("the procedural collection is made on the spot: there is nothing to fetch")
    raise DataError(f"nothing to fetch is called {name!r}{nearest(name, sources)}; there are {', '.join(sources)}")


def fetch(
    source: Source,
    to: Path,
    *,
    accept_licence: bool,
    watch: Callable[[str], Progress],
    pause: float = 1.0,
) -> Fetched:
    """Bring what `source` offers to its folder under `to`, the folder for data.root.

    Args:
        watch: called with a file's name when it starts; gives the function that is told its progress.
        pause: seconds before a broken connection is tried again.

    Raises:
        DataError: terms not accepted, no network, no space, or a damaged archive. A file that its source does not give
            stops nothing: it is one of `failed`.
    """
    if source.terms and not accept_licence:
        raise DataError(f"{source.title}: {source.terms}; then add --accept-licence")
    folder = to.expanduser() / source.folder
    with told_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    record = _read_record(folder)
    wanted = [item for part in source.parts for item in (_listed(part) if isinstance(part, Hub) else [Wanted(part)])]
    missing = [item for item in wanted if not _is_here(folder, item, record)]
    _check_space(folder, missing)
    failed = []
    for item in missing:
        try:
            entry = _fetch_one(folder, item, watch(item.name), pause)
        except NotThere as error:
            failed.append(str(error))
            continue
        entry |= {"home": source.home, "licence": source.licence}
        record[item.name] = entry
        _write_record(folder, record)
    return Fetched(folder, len(missing) - len(failed), len(wanted) - len(missing), tuple(failed))


def _listed(part: Hub) -> list[Wanted]:
    """The files of a Hub dataset at the commit that its revision stands for now; asked for without a login."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    api, wanted = HfApi(endpoint=hub(), token=False), []
    try:
        commit = api.dataset_info(part.repository, revision=part.revision, timeout=TIMEOUT).sha
        if commit is None:
            raise ValueError("no commit is named")
        for entry in api.list_repo_tree(part.repository, repo_type="dataset", revision=commit, recursive=True):
            if isinstance(entry, RepoFile) and entry.path.startswith(part.prefixes) and stays_inside(entry.path):
                url = hf_hub_url(part.repository, entry.path, repo_type="dataset", revision=commit, endpoint=hub())
                sha256 = entry.lfs.sha256 if entry.lfs else None
                path = str(PurePosixPath(part.folder, entry.path))
                wanted.append(Wanted(File(url, path, sha256, int(entry.size)), commit))
    except Exception as error:  # a stranger's answer; and each major version has the errors of another HTTP library
        why = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"{hub()}/datasets/{part.repository}: its files could not be listed ({why})") from error
    return wanted


def _fetch_one(folder: Path, item: Wanted, progress: Progress, pause: float) -> dict[str, Any]:
    path = folder / item.name
    sha256 = item.part.sha256 if isinstance(item.part, File) else None
    got = download(item.part.url, path, sha256=sha256, progress=progress, pause=pause)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"url": item.part.url, "commit": item.commit} | asdict(got) | {"date": date}
    if isinstance(item.part, Archive):
        try:
            entry["files"] = unpack(path, folder, members=item.part.members, most_bytes=item.part.most_bytes)
        finally:
            path.unlink()
    return entry


def _is_here(folder: Path, item: Wanted, record: dict[str, Any]) -> bool:
    """Recorded from this address, and still there with the size that it had."""
    entry = record.get(item.name)
    if entry is None or entry.get("url") != item.part.url:
        return False
    if isinstance(item.part, Archive):
        return all((folder / member).is_dir() for member in item.part.members)
    path = folder / item.name
    return path.is_file() and path.stat().st_size == entry.get("size")


def _check_space(folder: Path, missing: list[Wanted]) -> None:
    needed = sum(item.part.size or 0 for item in missing if isinstance(item.part, File))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder}: {needed:,} bytes to fetch, {free:,} free; choose another folder with --to")


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"]) if path.exists() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a record of fetched files ({error!r}); move it away to start over") from error


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    with told_disk(folder / RECORD):
        write_atomically(folder / RECORD, json.dumps({"files": record}, indent=1, ensure_ascii=False))
