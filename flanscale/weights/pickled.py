"""How do PyTorch's pickled weights become safetensors without running what a pickle can run?

A file of `torch.save` is a zip: `data.pkl` names tensors as pieces of storages, each of which is a file beside it. Of
the pickle only what a dictionary of tensors needs is understood; everything else that it names is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.errors import WeightsError
from flanscale.weights.hf import write_tensors

MOST_PICKLE_BYTES = 1 << 26
_TYPES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
}


@dataclass(frozen=True)
class _Piece:
    """A tensor: a view of a storage, with its offset and strides in elements."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def to_safetensors(pickled: Path) -> None:
    """Write the tensors of a `pytorch_model.bin` as safetensors beside it, holding one file of them in memory.

    Tensors that are one under several names (T5's tables) are written once, under `shared.weight` where that is one.

    Raises:
        WeightsError: damaged, or no plain dictionary of floating point tensors.
    """
    try:
        with zipfile.ZipFile(pickled) as archive:
            write_tensors(pickled.parent, _tensors(archive, pickled))
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, EOFError, ValueError, TypeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{pickled}: no plain dictionary of tensors ({type(error).__name__}: {error})") from error


def _tensors(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    (listing,) = [name for name in archive.namelist() if name.endswith("/data.pkl")] or [""]
    if not listing or archive.getinfo(listing).file_size > MOST_PICKLE_BYTES:
        raise WeightsError(f"{path}: no file of torch.save (no data.pkl, or too large a one)")
    root = listing.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise WeightsError(f"{path}: written on a machine of another byte order")
    with archive.open(listing) as file:
        named = _Unpickler(file).load()
    if not isinstance(named, dict) or not named or not all(isinstance(piece, _Piece) for piece in named.values()):
        raise WeightsError(f"{path}: no dictionary of tensors")
    seen: set[_Piece] = set()
    for name in sorted(named, key=lambda name: name != "shared.weight"):
        piece = named[name]
        if piece not in seen:
            seen.add(piece)
            yield str(name), _array(archive, f"{root}data/{piece.key}", piece, path)


def _array(archive: zipfile.ZipFile, name: str, piece: _Piece, path: Path) -> np.ndarray:
    import ml_dtypes  # noqa: F401  (teaches NumPy bfloat16)

    flat = np.frombuffer(archive.read(name), np.dtype(piece.dtype))
    last = piece.offset + sum((size - 1) * step for size, step in zip(piece.shape, piece.strides, strict=True))
    numbers = (piece.offset, *piece.shape, *piece.strides)
    if min(numbers) < 0 or (all(piece.shape) and last >= len(flat)):
        raise WeightsError(f"{path}: {name} is smaller than a tensor of it: damaged")
    steps = [step * flat.itemsize for step in piece.strides]
    return np.lib.stride_tricks.as_strided(flat[piece.offset :], piece.shape, steps, writeable=False)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        kind, dtype, key, _, _ = pid
        if kind != "storage" or dtype not in _TYPES.values() or not isinstance(key, str):
            raise pickle.UnpicklingError(f"it refers to {pid!r}"[:200])
        return key, dtype


def _rebuild(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Piece:
    return _Piece(*storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
