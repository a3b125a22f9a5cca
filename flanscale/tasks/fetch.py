"""How does a collection come from its public source onto this disk? Planned first, then file by file, all recorded.

`<folder>/fetched.json` says of every file where it came from, at which commit, its size, sha256 and date, and under
which licence. It is written after every file: what it lists and is still there is not fetched again.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from flanscale.errors import DataError, WeightsError, nearest, one_line
from flanscale.run_directory import write_atomically
from flanscale.tasks.download import TIMEOUT, Away, FullDisk, Progress, download, size_of, told_disk
from flanscale.tasks.sources import FLAN, WEIGHTS, Archive, File, Hub, Source, hub, read_sources, weights_source
from flanscale.tasks.unpack import stays_inside, unpack

RECORD = "fetched.json"
PICKLED = "pytorch_model.bin"
_AT_ONCE = 8  # questions to servers; files come one after the other


@dataclass(frozen=True)
class Wanted:
    """One file or archive to fetch, with the commit that its address stands for where the address has none."""

    part: File | Archive
    commit: str = ""
    size: int | None = None

    @property
    def name(self) -> str:
        """Its path under the collection's folder; an archive's is in no one's way and goes when unpacked."""
        return self.part.path if isinstance(self.part, File) else f".{self.part.url.rsplit('/', 1)[-1]}.tar.gz"


@dataclass(frozen=True)
class Plan:
    """What there is to do for one source."""

    source: Source
    folder: Path
    record: dict[str, Any]
    """Name → what is known of a file that came; grows with every file."""
    missing: list[Wanted]
    here_before: int
    failed: list[str]
    """A line each: servers that do not say what they have."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch did for one source."""

    folder: Path
    fetched: int
    here_before: int
    failed: tuple[str, ...]
    """A line each: files that the source does not give."""


def find_sources(names: Sequence[str], weights: str | None = None) -> dict[str, Source]:
    """The sources of those names, each once, `flan` being several; and the weights of a model of conf/model.

    Raises:
        DataError: there is no such source, or no such weights; the message names the nearest.
    """
    known = read_sources()
    found = {one: known[one] for name in names for one in (FLAN if name == "flan" else [_check(name, known)])}
    if weights is not None:
        if weights not in WEIGHTS:
            raise DataError(f"--weights {weights}: there are {', '.join(WEIGHTS)}{nearest(weights, WEIGHTS)}")
        found[f"weights of {weights}"] = weights_source(weights)
    return found


def _check(name: str, known: Mapping[str, Source]) -> str:
    if name == "procedural":
        raise DataError("the procedural collection is made on the spot: there is nothing to fetch")
    if name not in known:
        raise DataError(
            f"nothing to fetch is called {name!r}{nearest(name, ['flan', *known])}; there are flan, {', '.join(known)}"
        )
    return name


def check_terms(sources: Iterable[Source], *, accepted: bool) -> None:
    """Whether what asks to be read first has been read.

    Raises:
        DataError: it has not; the message holds the terms of all of them.
    """
    asking = [source for source in sources if source.terms]
    if asking and not accepted:
        raise DataError(
            "; ".join(f"{source.title}: {source.terms}" for source in asking) + "; then add --accept-licence"
        )


def plan(source: Source, to: Path) -> Plan:
    """What is missing of `source` in its folder under `to`, the folder for data.root, and how large it is.

    Lists what is on the Hub and asks for sizes that are not known. Nothing is fetched.

    Raises:
        DataError: the folder cannot be written, or its record is none.
    """
    folder = to.expanduser() / source.folder
    with told_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    record = _read_record(folder)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        listed = list(pool.map(_listed, source.parts))
        wanted = [item for part in listed if not isinstance(part, str) for item in part]
        missing = [item for item in wanted if not _is_here(folder, item, record)]
        missing = list(pool.map(_sized, missing))
    return Plan(
        source, folder, record, missing, len(wanted) - len(missing), [why for why in listed if isinstance(why, str)]
    )


def check_space(plans: Sequence[Plan]) -> None:
    """Whether all that is missing fits on the disk, as far as sizes are known; weights that are rewritten, twice.

    Raises:
        DataError: it does not.
    """
    missing = [item for known in plans for item in known.missing]
    twice = [item for item in missing if isinstance(item.part, File) and item.part.becomes_safetensors]
    needed = sum(item.size or 0 for item in (*missing, *twice))
    if plans and needed > (free := shutil.disk_usage(plans[0].folder).free):
        folder = plans[0].folder
        raise DataError(f"{folder}: {needed:,} bytes to fetch, {free:,} free; choose another folder with --to")


def fetch(plans: Iterable[Plan], *, watch: Callable[[str], Progress], pause: float = 1.0) -> list[Fetched]:
    """Bring what is missing, one file after the other; what cannot be had stops nothing and is told in `failed`.

    Args:
        watch: called with a file's name when it starts; gives the function that is told its progress.
        pause: seconds before a broken connection is tried again.

    Raises:
        DataError: nothing more can be written.
    """
    away: set[str] = set()
    return [_fetch(known, watch, pause, away) for known in plans]


def _fetch(known: Plan, watch: Callable[[str], Progress], pause: float, away: set[str]) -> Fetched:
    """`away` are the servers that gave no answer, which the next files are not to wait for again."""
    failed, fetched, untried = list(known.failed), 0, Counter[str]()
    for item in known.missing:
        server = urlsplit(item.part.url).netloc
        if server in away:
            untried[server] += 1
            continue
        try:
            entry = _fetch_one(known.folder, item, watch(f"{known.source.folder}/{item.name}"), pause)
        except FullDisk:
            raise
        except (DataError, WeightsError) as error:
            if isinstance(error, Away):
                away.add(server)
            failed.append(one_line(error))
            continue
        fetched += 1
        known.record[item.name] = entry | {"home": known.source.home, "licence": known.source.licence}
        _write_record(known.folder, known.record)
    failed += [
        f"{server}: does not answer; {files:,} more files of it were not tried" for server, files in untried.items()
    ]
    return Fetched(known.folder, fetched, known.here_before, tuple(failed))


def _listed(part: File | Archive | Hub) -> list[Wanted] | str:
    """What a part is made of, or in one line why its server could not say so."""
    if not isinstance(part, Hub):
        return [Wanted(part, size=part.size if isinstance(part, File) else None)]
    address = f"{hub()}/{'datasets/' if part.kind == 'dataset' else ''}{part.repository}"
    try:
        wanted = _on_the_hub(part)
    except Exception as error:  # a stranger's answer; and each major version has the errors of another HTTP library
        return f"{address}: its files could not be listed ({type(error).__name__}: {one_line(error)})"
    return wanted or f"{address}: has no file {' or '.join(f'{prefix}*' for prefix in part.prefixes[:4])}"


def _on_the_hub(part: Hub) -> list[Wanted]:
    """The files of a Hub repository at the commit that its revision stands for now; asked for without a login."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    api, wanted = HfApi(endpoint=hub(), token=False), []
    commit = api.repo_info(part.repository, repo_type=part.kind, revision=part.revision, timeout=TIMEOUT).sha
    if commit is None:
        raise ValueError("no commit is named")
    for entry in api.list_repo_tree(part.repository, repo_type=part.kind, revision=commit, recursive=True):
        chosen = entry.path.startswith(part.prefixes) and entry.path.endswith(part.ending)
        if isinstance(entry, RepoFile) and chosen and stays_inside(entry.path):
            url = hf_hub_url(part.repository, entry.path, repo_type=part.kind, revision=commit, endpoint=hub())
            sha256, size = entry.lfs.sha256 if entry.lfs else None, int(entry.size)
            pickled = part.kind == "model" and entry.path == PICKLED
            file = File(url, str(PurePosixPath(part.folder, entry.path)), sha256, size, becomes_safetensors=pickled)
            wanted.append(Wanted(file, commit, size))
    if any(item.name.endswith(".safetensors") for item in wanted):
        return [item for item in wanted if not item.name.startswith("pytorch_model")]
    return [item for item in wanted if item.name == PICKLED or not item.name.startswith("pytorch_model")]


def _sized(item: Wanted) -> Wanted:
    return item if item.size is not None else replace(item, size=size_of(item.part.url))


def _fetch_one(folder: Path, item: Wanted, progress: Progress, pause: float) -> dict[str, Any]:
    path = folder / item.name
    sha256 = item.part.sha256 if isinstance(item.part, File) else None
    if path.exists() and isinstance(item.part, File) and item.part.becomes_safetensors:
        path.replace(path.with_name(f"{path.name}.partial"))  # whole, but not written as safetensors yet
    got = download(item.part.url, path, sha256=sha256, progress=progress, pause=pause)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"url": item.part.url, "commit": item.commit} | asdict(got) | {"date": date}
    if isinstance(item.part, Archive):
        try:
            entry["files"] = unpack(path, folder, members=item.part.members, most_bytes=item.part.most_bytes)
        finally:
            path.unlink()
    elif item.part.becomes_safetensors:
        from flanscale.weights.pickled import to_safetensors

        try:
            with told_disk(path):
                to_safetensors(path)
        except WeightsError:
            path.unlink()
            raise
        path.unlink()
    return entry


def _is_here(folder: Path, item: Wanted, record: dict[str, Any]) -> bool:
    """Recorded from this address, and still there with the size that it had."""
    entry = record.get(item.name)
    if entry is None or entry.get("url") != item.part.url:
        return False
    if isinstance(item.part, Archive):
        return all((folder / member).is_dir() for member in item.part.members)
    if item.part.becomes_safetensors:
        return any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
    path = folder / item.name
    return path.is_file() and path.stat().st_size == entry.get("size")


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"]) if path.exists() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a record of fetched files ({error!r}); move it away to start over") from error


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    with told_disk(folder / RECORD):
        write_atomically(folder / RECORD, json.dumps({"files": record}, indent=1, ensure_ascii=False))
