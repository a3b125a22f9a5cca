"""Are these the same weights? A hash over what a cell starts from, quick enough to take whenever a study is planned."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flanscale.folders import entries

SAMPLES, SAMPLE_BYTES = 64, 1 << 16
WHOLE_FILES = ("config.json", "model.safetensors.index.json")


def fingerprint(path: Path) -> str:
    """Sixteen hexadecimal characters over a folder's or file's weights.

    Of every file: its size, its first mebibyte, where the names and shapes stand, and 64 samples of its numbers, evenly
    spaced. Training moves all numbers, so that other weights of the same shapes differ in them.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for name in WHOLE_FILES:
            if (path / name).is_file():
                digest.update(f"{name}\0".encode() + (path / name).read_bytes())
    files = entries(path, "*.safetensors") if path.is_dir() else [path]
    for file in files:
        _add(digest, file, file.name if path.is_dir() else "")
    return digest.hexdigest()[:16]


def _add(digest: hashlib._Hash, file: Path, name: str) -> None:
    size = file.stat().st_size
    digest.update(f"{name}\0{size}\0".encode())
    with file.open("rb") as raw:
        digest.update(raw.read(1 << 20))
        for i in range(SAMPLES):
            raw.seek(max(0, (size - SAMPLE_BYTES) * i // (SAMPLES - 1)))
            digest.update(raw.read(SAMPLE_BYTES))
