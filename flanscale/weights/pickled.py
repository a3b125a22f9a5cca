"""How do PyTorch's pickled weights become safetensors without running what a pickle can run?

A file of `torch.save` is a zip: `data.pkl` names tensors as pieces of storages, each of which is a file beside it. The
pickle is never unpickled: its opcodes are read one by one, those that a dictionary of tensors needs are understood,
and everything else is refused by its name.
"""

from __future__ import annotations

import pickletools
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
    except zipfile.BadZipFile as error:
        told = "damaged, or written by PyTorch before 1.6, whose files are no zip"
        raise WeightsError(f"{pickled}: {told} ({error}); save it again with a newer one") from error
    except (LookupError, EOFError, OverflowError, ValueError, TypeError) as error:
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
    named = _value(archive.read(listing))
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


def _value(pickled: bytes) -> Any:
    """What a pickle of protocol 2 describes, of the opcodes that `torch.save` uses for a dictionary of tensors.

    Raises:
        ValueError: another opcode or global, named; or a pickle that is cut or contradicts itself.
        LookupError, TypeError: the same, where the stack or the memo lacks what an opcode takes.
    """
    stack: list[Any] = []
    marked: list[list[Any]] = []  # the stacks below each open MARK
    memo: dict[int, Any] = {}
    given: Any
    for opcode, given, _ in pickletools.genops(pickled):
        match opcode.name:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "NONE":
                stack.append(given)
            case "NEWFALSE" | "NEWTRUE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                marked.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, marked.pop()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "SETITEM":
                item, name = stack.pop(), stack.pop()
                _set(stack[-1], [name, item])
            case "SETITEMS":
                items, stack = stack, marked.pop()
                _set(stack[-1], items)
            case "BINPUT" | "LONG_BINPUT":
                memo[given] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[given])
            case "GLOBAL":
                if given not in _GLOBALS:
                    raise ValueError(f"it asks for {given.replace(' ', '.')[:200]!r}")
                stack.append(_GLOBALS[given])
            case "BINPERSID":
                stack.append(_storage(*stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if function is not _rebuild and (function is not OrderedDict or arguments != ()):
                    raise ValueError("REDUCE of what is neither a tensor nor an empty OrderedDict")
                stack.append(function(*arguments))
            case "BUILD":
                state = stack.pop()
                if type(stack[-1]) is not OrderedDict or not isinstance(state, dict) or [*state] != ["_metadata"]:
                    raise ValueError("BUILD of something else than an OrderedDict's _metadata")
            case _:
                raise ValueError(f"opcode {opcode.name}")
    raise ValueError("no STOP")


def _set(into: Any, items: list[Any]) -> None:
    names = items[::2]
    if not isinstance(into, dict) or not all(isinstance(name, str) for name in names):
        raise ValueError("items of something else than a dictionary with names")
    into.update(zip(names, items[1::2], strict=True))


def _storage(kind: Any, dtype: Any, key: Any, *_: Any) -> tuple[str, str]:
    if kind != "storage" or dtype not in _TYPES.values() or not isinstance(key, str):
        raise ValueError("it refers to something else than a storage of floating point numbers")
    return key, dtype


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Piece:
    key, dtype = storage
    if not isinstance(key, str) or dtype not in _TYPES.values():
        raise ValueError("a tensor of no storage")
    if not all(isinstance(number, int) for number in (offset, *shape, *strides)):
        raise ValueError("a tensor whose shape is no numbers")
    return _Piece(key, dtype, offset, tuple(shape), tuple(strides))


_GLOBALS: dict[str, Any] = {
    "collections OrderedDict": OrderedDict,
    "torch._utils _rebuild_tensor_v2": _rebuild,
    **{f"torch {name}": dtype for name, dtype in _TYPES.items()},
}
