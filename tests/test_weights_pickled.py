"""Pickled weights: the numbers come out, and nothing that a pickle asks for is run."""

from __future__ import annotations

import pickle
import pickletools
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from flanscale.errors import WeightsError
from flanscale.weights.hf import HuggingFaceFolder
from flanscale.weights.pickled import to_safetensors

STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(ml_dtypes.bfloat16): "BFloat16Storage"}


def torch_file(path: Path, tensors: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as `torch.save(state_dict)` writes it; arrays that share their memory share their storage."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in (*STORAGES.values(), "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_: Any) -> None:
        raise AssertionError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    storages: dict[int, tuple[str, np.ndarray]] = {}

    class Stored:
        def __init__(self, flat: np.ndarray) -> None:
            self.flat = flat

    class Tensor:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __reduce__(self) -> tuple[Any, ...]:
            flat = self.array
            while flat.base is not None:
                flat = flat.base
            offset = (self.array.ctypes.data - flat.ctypes.data) // flat.itemsize
            strides = tuple(step // flat.itemsize for step in self.array.strides)
            return _rebuild_tensor_v2, (Stored(flat), offset, self.array.shape, strides, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            if not isinstance(thing, Stored):
                return None
            key, _ = storages.setdefault(id(thing.flat), (str(len(storages)), thing.flat))
            return "storage", getattr(torch, STORAGES[thing.flat.dtype]), key, "cpu", thing.flat.size

    listed = OrderedDict(
        (name, Tensor(value) if isinstance(value, np.ndarray) else value) for name, value in tensors.items()
    )
    listed._metadata = OrderedDict({"": {"version": 1}, "a": {"version": None}})  # type: ignore[attr-defined]
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("archive/data.pkl", "w") as file:
            Pickler(file, protocol=2).dump(listed)
        for key, flat in storages.values():
            archive.writestr(f"archive/data/{key}", flat.tobytes())
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delitem(sys.modules, "torch._utils")
    return path


def read(folder: Path) -> dict[str, np.ndarray]:
    (folder / "config.json").write_text("{}")
    source = HuggingFaceFolder(folder)
    return {name: source.read(name) for name in source.tensors}


def test_every_tensor_comes_out_with_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    half = np.arange(5).astype(ml_dtypes.bfloat16)
    tensors = {
        "encoder.embed_tokens.weight": table,
        "shared.weight": table,
        "turned": table.T,
        "piece": table[1:3, 2:5],
        "half": half,
    }
    to_safetensors(torch_file(tmp_path / "pytorch_model.bin", tensors, monkeypatch))
    found = read(tmp_path)
    assert found.keys() == tensors.keys() - {"encoder.embed_tokens.weight"}
    for name, array in found.items():
        assert (array == tensors[name].astype(np.float32)).all()


def test_ordered_dictionaries_with_metadata_and_many_tensors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {f"layer.{index}": np.full((2, 300), index, np.float32) for index in range(400)}
    path = torch_file(tmp_path / "pytorch_model.bin", tensors, monkeypatch)
    with zipfile.ZipFile(path) as archive:
        used = {opcode.name for opcode, _, _ in pickletools.genops(archive.read("archive/data.pkl"))}
    assert {"BUILD", "LONG_BINPUT", "BININT2", "SETITEMS"} <= used
    to_safetensors(path)
    found = read(tmp_path)
    assert found.keys() == tensors.keys()
    assert all((found[name] == array).all() for name, array in tensors.items())


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


def test_what_else_a_pickle_asks_for_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = torch_file(tmp_path / "pytorch_model.bin", {"a": Evil()}, monkeypatch)
    with pytest.raises(WeightsError, match=r"no plain dictionary of tensors .*it asks for '\w+\.getattr'"):
        to_safetensors(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pytorch_model.bin"]


@pytest.mark.parametrize("name", ["archive/data/0", "archive/data.pkl"])
def test_a_file_that_is_cut_inside_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    whole = torch_file(tmp_path / "whole.bin", {"a": np.ones(8, np.float32)}, monkeypatch)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as new:
        for one in old.namelist():
            new.writestr(one, old.read(one)[: -4 if one == name else None])
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        to_safetensors(tmp_path / "pytorch_model.bin")
    assert not (tmp_path / "model.safetensors").exists()


def zipped(path: Path, listing: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", listing)
    return path


@pytest.mark.parametrize(
    ("listing", "told"),
    [
        (b"cos\nsystem\n(X\x04\0\0\0exittR.", r"it asks for 'os\.system'"),
        (b"ctorch\nLongStorage\n.", r"it asks for 'torch\.LongStorage'"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"]\x94.", "opcode EMPTY_LIST"),
        (b"\x8c\x02os\x8c\x06system\x93.", "opcode SHORT_BINUNICODE"),
        (b"ccollections\nOrderedDict\n)\x81.", "opcode NEWOBJ"),
        (b"ctorch\nFloatStorage\n)R.", "REDUCE"),
        (b"ccollections\nOrderedDict\n(K\x01tR.", "REDUCE"),
        (b"}}b.", "BUILD"),
        (b"ccollections\nOrderedDict\n)R}X\x01\0\0\0aNsb.", "BUILD"),
        (b"})Ns.", "with names"),
        (b"}(Ntu.", "IndexError"),
        (b"R.", "IndexError"),
        (b"t.", "IndexError"),
        (b"h\x05.", "KeyError"),
        (b"K\x01Q.", "TypeError"),
        (b"(" * 9, "ValueError"),
        (b"\xff.", "ValueError"),
        (b"", "ValueError"),
        (b")" + b"\x85" * 100_000 + b"Q.", "TypeError"),
        (b"})" + b"\x85" * 100_000 + b"Ns.", "with names"),
    ],
)
def test_what_is_refused_is_named_in_one_line(tmp_path: Path, listing: bytes, told: str) -> None:
    with pytest.raises(WeightsError, match=told) as refused:
        to_safetensors(zipped(tmp_path / "pytorch_model.bin", b"\x80\x02" + listing))
    assert "\n" not in str(refused.value)
    assert [file.name for file in tmp_path.iterdir()] == ["pytorch_model.bin"]


def test_no_zip_and_no_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.bin").write_bytes(b"\x80\x02old")
    with pytest.raises(WeightsError, match="whose files are no zip"):
        to_safetensors(tmp_path / "old.bin")
    with pytest.raises(WeightsError, match="no dictionary of tensors"):
        to_safetensors(torch_file(tmp_path / "pytorch_model.bin", {"a": "text"}, monkeypatch))
