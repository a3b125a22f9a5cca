"""What of a data folder did its owner put there? Not what operating systems and editors leave beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from flanscale.errors import DataError

LEFT_BY_SYSTEMS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "lost+found"})
LEFT_BY_EDITORS = ("~", ".bak", ".orig", ".swp")  # endings of names
UNFINISHED = (".partial", ".part", ".crdownload", ".aria2", ".incomplete")
"""What downloaders put behind a file's name until it is whole: `flanscale tasks fetch`, browsers, aria2, the Hub's."""


def is_left_over(path: PurePath) -> bool:
    """Whether a file, or a folder above it in this relative path, is hidden, a system's own or an editor's backup.

    macOS writes `._x.jsonl` (AppleDouble) beside `x.jsonl` on disks that are not its own, and `.DS_Store`; Windows
    writes Thumbs.db and desktop.ini; editors write `x~`, `.#x` and the endings above.
    """
    return any(
        name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS or name.endswith(LEFT_BY_EDITORS) for name in path.parts
    )


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """What lies in a folder and fits a pattern of `Path.glob`, in name order, without what `is_left_over`."""
    return sorted(path for path in folder.glob(pattern) if not is_left_over(path.relative_to(folder)))


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Every file in and below a folder whose name has one of the endings, in name order, without what `is_left_over`.

    Links are followed, to files and to folders; what several lead to is there once, under the first of its names.

    Raises:
        DataError: one of the files is still being downloaded, or is a link to nothing; or a folder cannot be read.
    """
    found: dict[Path, Path] = {}
    try:
        paths = sorted(_walk(folder, set()))
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    for path in paths:
        if _is_unfinished(path.relative_to(folder), suffixes):
            raise DataError(f"{path}: a download that is not finished; let it finish, or delete this file")
        if path.name.endswith(tuple(suffixes)) and not is_left_over(path.relative_to(folder)):
            if not path.exists():
                raise DataError(f"{path}: a link to {path.readlink()}, which is not there; bring it back, or delete it")
            if path.is_file():
                found.setdefault(path.resolve(), path)
    return list(found.values())


def _walk(folder: Path, above: set[Path]) -> Iterator[Path]:
    """All that is no folder in and below a folder; a link to a folder `above` leads nowhere new."""
    if (real := folder.resolve()) in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _walk(path, above | {real})
        else:
            yield path


def _is_unfinished(path: PurePath, suffixes: Sequence[str]) -> bool:
    """Whether a file will be one with these endings; the Hub's client names them after hashes, and hides some."""
    if path.suffix == ".incomplete":
        return not is_left_over(path) or "huggingface" in path.parts
    return path.suffix in UNFINISHED and path.stem.endswith(tuple(suffixes)) and not is_left_over(path)
