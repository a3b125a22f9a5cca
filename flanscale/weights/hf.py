"""How are tensors read from, and written to, a folder in Hugging Face's layout?

Weights lie in `model.safetensors`, or in several files that `model.safetensors.index.json` lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.errors import WeightsError
from flanscale.folders import entries
from flanscale.weights.source import Index, Tensor

CONFIG, GENERATION = "config.json", "generation_config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
SHARD_BYTES = 5 * 10**9  # as transformers


class HuggingFaceFolder:
    """A folder with config.json and safetensors files; their headers are read and held against their sizes at once.

    Raises:
        WeightsError: a file is missing, cut short or not what its name says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_json(path / CONFIG)
        self.tensors: Mapping[str, Tensor] = self._headers()

    def read(self, name: str, index: Index | None = None) -> np.ndarray:
        part = self._files[self.tensors[name].file].get_slice(name)
        if part.get_dtype() not in FLOATS:
            raise WeightsError(f"{self.path}: tensor {name} is of type {part.get_dtype()}, not of floating point")
        return np.asarray(part[index if index is not None else slice(None)], np.float32)

    @cached_property
    def _files(self) -> dict[Path, Any]:
        import ml_dtypes  # noqa: F401  (teaches NumPy bfloat16, which safetensors asks it for)
        from safetensors import safe_open

        return {file: safe_open(file, framework="numpy") for file in {t.file for t in self.tensors.values()}}

    def _headers(self) -> dict[str, Tensor]:
        listed = self._listed()
        names = sorted(set(listed.values())) if listed else [SINGLE]
        found: dict[str, Tensor] = {}
        for name in names:
            header = read_header(self.path / name)
            found |= {key: Tensor(tuple(value["shape"]), self.path / name) for key, value in header.items()}
        for key, file in listed.items():
            if key not in found:
                raise WeightsError(f"{self.path / INDEX} lists tensor {key} in {file}, which does not hold it")
        return found

    def _listed(self) -> dict[str, str]:
        """Tensor → file; empty where there is only one file."""
        if (self.path / INDEX).is_file():
            listed = read_json(self.path / INDEX).get("weight_map")
            if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
                raise WeightsError(f"{self.path / INDEX}: no weight_map")
            if outside := next((f for f in listed.values() if Path(f).name != f), None):
                raise WeightsError(f"{self.path / INDEX} names {outside}, which is not in its folder")
            return listed
        if not (self.path / SINGLE).is_file():
            others = [p.name for p in entries(self.path) if p.suffix in (".bin", ".h5", ".msgpack", ".pt", ".pth")]
            why = f"; {', '.join(others[:3])} may run code when read: save it as safetensors" if others else ""
            raise WeightsError(f"{self.path}: neither {SINGLE} nor {INDEX}{why}")
        return {}


def read_header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file (tensor → dtype, shape, data_offsets), held against the file's size.

    Raises:
        WeightsError: the file is missing, cut short, or no safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(length)) if size > 8 and 8 + length <= size else None
    except OSError as error:
        raise WeightsError(f"{file}: {error.strerror}; it belongs to these weights") from error
    except ValueError as error:
        raise WeightsError(f"{file}: no safetensors file (its header cannot be read)") from error
    if header is None:
        raise WeightsError(f"{file}: cut short within its header ({size:,} bytes): fetch it again")
    header.pop("__metadata__", None)
    whole = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != whole:
        what = "cut short" if size < whole else "too long"
        raise WeightsError(f"{file}: {what}: {size:,} bytes where its header says {whole:,}: fetch it again")
    return header


def write_tensors(folder: Path, tensors: Iterable[tuple[str, np.ndarray]], *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors to model.safetensors, or to several files and their index where they exceed `shard_bytes`.

    No more than one file's tensors are held.
    """
    from safetensors.numpy import save_file

    written: list[tuple[Path, list[str]]] = []
    total = 0
    for shard in _shards(tensors, shard_bytes):
        file = folder / f"part-{len(written)}"
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in shard}, file, metadata={"format": "pt"})
        file.chmod(0o644)  # safetensors lets nobody else read it
        total += sum(tensor.nbytes for _, tensor in shard)
        written.append((file, [name for name, _ in shard]))
    if len(written) == 1:
        written[0][0].replace(folder / SINGLE)
        return
    weight_map: dict[str, str] = {}
    for number, (file, names) in enumerate(written, start=1):
        named = f"model-{number:05d}-of-{len(written):05d}.safetensors"
        file.replace(folder / named)
        weight_map |= dict.fromkeys(names, named)
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(tensors: Iterable[tuple[str, np.ndarray]], most: int) -> Iterator[list[tuple[str, np.ndarray]]]:
    shard: list[tuple[str, np.ndarray]] = []
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > most:
            yield shard
            shard, size = [], 0
        shard.append((name, tensor))
        size += tensor.nbytes
    yield shard


def write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file of such a folder holds.

    Raises:
        WeightsError: there is none.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{file}: {error.strerror}; a folder of weights has one") from error
    except ValueError as error:
        raise WeightsError(f"{file}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{file}: a {type(value).__name__} where an object was expected")
    return value
