"""What of a data folder did its owner put there? Not what operating systems and editors leave beside it."""

from __future__ import annotations

from pathlib import Path, PurePath

LEFT_BY_SYSTEMS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "lost+found"})
LEFT_BY_EDITORS = ("~", ".bak", ".orig", ".swp")  # endings of names


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
