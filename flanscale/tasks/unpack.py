"""What of a stranger's archive may be written here? Plain files under the wanted folders, inside the target.

Not by `tarfile`'s own filter "data": it unpacks links, absolute names (without their slash) and bombs.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from flanscale.errors import DataError
from flanscale.tasks.download import told_disk

MOST_MEMBERS = 1_000_000


def unpack(archive: Path, folder: Path, *, members: Sequence[str], most_bytes: int) -> int:
    """Unpack the files under some folders of a gzipped tar; the archive's own first folder is left away.

    Everything is unpacked beside `folder` first and moved when all of it is sound, file by file, over older ones.

    Returns:
        The number of files.

    Raises:
        DataError: a damaged archive, a member that leads out of it or is a link or device, or more bytes than allowed.
    """
    staged = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        with told_disk(staged):
            count = _unpack(archive, staged, tuple(members), most_bytes)
        if not count:
            raise DataError(f"{archive.name}: holds nothing under {', '.join(members)}")
        for path in sorted(staged.rglob("*")):
            if path.is_file():
                target = folder / path.relative_to(staged)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive.name}: damaged archive ({error})") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return count


def stays_inside(name: str) -> bool:
    """Whether a stranger's name for a file leads to a place below the folder that the file is put in."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name)


def _unpack(archive: Path, staged: Path, members: tuple[str, ...], most_bytes: int) -> int:
    count = size = 0
    with tarfile.open(archive, "r|gz") as tar:
        for seen, member in enumerate(tar, start=1):
            size += member.size
            if size > most_bytes or seen > MOST_MEMBERS:
                raise DataError(f"{archive.name}: unpacks to more than {most_bytes:,} bytes; left alone")
            if not stays_inside(member.name):
                raise DataError(f"{archive.name}: {member.name!r} leads out of the archive; left alone")
            parts = PurePosixPath(member.name).parts[1:]
            if not parts or parts[0] not in members or member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise DataError(f"{archive.name}: {member.name!r} is a link or a device, not a file; left alone")
            target = staged.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(content, file)
            count += 1
    return count
