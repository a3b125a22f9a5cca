"""How do named tensors become the parameters of a model, on their devices, without the model being held twice?

Each parameter is filled in the layout that it will train in: every device asks for its own slice, which is read from
the file, layer by layer where a stack is filled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from flanscale.errors import WeightsError
from flanscale.models import Model, Params
from flanscale.models.stack import LAYERS
from flanscale.weights.config_json import check_config, check_head, family_of
from flanscale.weights.names import SAME_TABLE, Home, home_of, homes, is_buffer
from flanscale.weights.source import Index, Source

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 4096  # of two tables that are compared
ALL = slice(None)


def load_params(source: Source, model: Model, abstract: Params) -> Params:
    """The parameters of a model from pretrained weights, laid out as `abstract`: shapes with shardings.

    Raises:
        WeightsError: conf/model is another model, or a tensor is missing or of another shape, and nothing was read; or
            a tensor holds what is no finite number.
    """
    family = family_of(source.config, source.path)
    known = homes(family, model.config, source.tensors)
    check(source, model, abstract, known)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        home, stacked = known[name_of(path)], is_stacked(path)
        part_read: dict[str, np.ndarray] = {}  # copies on several devices are read once

        def read(index: Index | None) -> np.ndarray:
            index = index or (ALL,) * len(leaf.shape)
            key = str(index)
            if key not in part_read:
                part_read[key] = read_parameter(source, home, leaf.shape, index, stacked, model.config.head_dim)
            return part_read[key]

        return jax.make_array_from_callback(leaf.shape, leaf.sharding, read, dtype=leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, abstract)


# --- checking ----------------------------------------------------------------------------------------------------


def check(source: Source, model: Model, abstract: Params, known: dict[str, Home]) -> None:
    """Everything that can be wrong with the weights of a model, before any is read.

    Raises:
        WeightsError: the first fault.
    """
    family = family_of(source.config, source.path)
    head, table = known["vocabulary/head"].tensor, known["vocabulary/embedding"].tensor
    check_head(source.config, head, source.tensors, source.path)
    own_head = head in source.tensors and not _same(source, head, table)
    where = f"{source.path}" if source.path.suffix == ".gguf" else f"{source.path / 'config.json'}"
    check_config(model.config, model.vocab_size, source.config, own_head=own_head, where=where)
    expected: dict[str, tuple[int, ...]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        home, stacked = home_of(name_of(path), known, family), is_stacked(path)
        for layer in range(leaf.shape[0]) if stacked else [None]:
            expected[home.of(layer)] = tensor_shape(home, leaf.shape[1:] if stacked else leaf.shape)
    for tensor, shape in expected.items():
        if tensor not in source.tensors:
            missing = sum(name not in source.tensors for name in expected)
            raise WeightsError(f"{source.path}: tensor {tensor} is missing ({missing:,} of {len(expected):,} are)")
        if source.tensors[tensor].shape != shape:
            found = list(source.tensors[tensor].shape)
            raise WeightsError(
                f"{source.path}: tensor {tensor} is {found}, but model={model.config.name} needs {list(shape)}"
            )
    again = [name for name in SAME_TABLE if name in source.tensors]
    if other := next((name for name in again if not _same(source, name, table)), None):
        raise WeightsError(
            f"{source.path}: tensor {other} is another table than {table}, and T5 has one for both sides"
        )
    known_names = {*expected, head, *again}
    extra = [name for name in source.tensors if name not in known_names and not is_buffer(name)]
    if extra:
        more = f" and {len(extra) - 3:,} more" if len(extra) > 3 else ""
        logger.warning("%s: not used: %s%s", source.path, ", ".join(sorted(extra)[:3]), more)


def _same(source: Source, one: str, other: str) -> bool:
    """Whether two tensors hold the same numbers, read a part at a time."""
    if other not in source.tensors or source.tensors[one].shape != source.tensors[other].shape:
        return False
    rows = source.tensors[one].shape[0]
    parts = [(slice(start, min(start + ROWS_AT_ONCE, rows)), ALL) for start in range(0, rows, ROWS_AT_ONCE)]
    return all(np.array_equal(source.read(one, part), source.read(other, part), equal_nan=True) for part in parts)


# --- one parameter -----------------------------------------------------------------------------------------------


def name_of(path: tuple[Any, ...]) -> str:
    return "/".join(part.key for part in path)


def is_stacked(path: tuple[Any, ...]) -> bool:
    return any(part.key == LAYERS for part in path)


def tensor_shape(home: Home, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the tensor that holds one layer's parameter of this shape."""
    shape = shape[::-1] if home.transposed else shape
    return shape if home.part is None else (3 * shape[0], *shape[1:])


def read_parameter(
    source: Source, home: Home, shape: tuple[int, ...], index: Index, stacked: bool, head_dim: int
) -> np.ndarray:
    """A slice of a parameter of this whole shape."""
    if not stacked:
        return _read_one(source, home, None, shape, index, head_dim)
    layers = range(*index[0].indices(shape[0]))
    sizes = [len(range(*part.indices(size))) for part, size in zip(index[1:], shape[1:], strict=True)]
    out = np.empty((len(layers), *sizes), np.float32)
    for row, layer in enumerate(layers):
        out[row] = _read_one(source, home, layer, shape[1:], index[1:], head_dim)
    return out


def _read_one(
    source: Source, home: Home, layer: int | None, shape: tuple[int, ...], index: Index, head_dim: int
) -> np.ndarray:
    index = tuple(slice(*part.indices(size)) for part, size in zip(index, shape, strict=True))
    theirs = index[::-1] if home.transposed else index
    if home.part is None:
        values = _finite(source, home.of(layer), theirs)
    else:  # rows of [head, (query, key, value), head_dim]
        fused = _finite(source, home.of(layer), (ALL, *theirs[1:]))
        heads = fused.reshape(-1, 3, head_dim, *fused.shape[1:])
        values = heads[:, home.part].reshape(-1, *fused.shape[1:])[theirs[0]]
    return values.T if home.transposed else values


def _finite(source: Source, tensor: str, index: Index) -> np.ndarray:
    """A slice of a tensor.

    Raises:
        WeightsError: not all of it is finite.
    """
    values = source.read(tensor, index)
    if not (finite := np.isfinite(values)).all():
        raise WeightsError(
            f"{source.path}: tensor {tensor} holds NaN or infinity ({values.size - np.count_nonzero(finite):,} of the"
            f" {values.size:,} numbers read): the file is damaged, or was saved after training diverged"
        )
    return values


def tensors_of(params: Params, known: dict[str, Home], family: str, head_dim: int) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of Hugging Face's layout from parameters; the inverse of reading them, bit for bit."""
    fused: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        home = home_of(name_of(path), known, family)
        whole = np.asarray(leaf)
        for layer in range(len(whole)) if is_stacked(path) else [None]:
            values = whole if layer is None else whole[layer]
            values = values.T if home.transposed else values
            if home.part is None:
                yield home.of(layer), values
                continue
            parts = fused.setdefault(home.of(layer), {})
            parts[home.part] = values
            if len(parts) == 3:
                heads = [parts[i].reshape(-1, 1, head_dim, *values.shape[1:]) for i in range(3)]
                joined = np.concatenate(heads, axis=1).reshape(-1, *values.shape[1:])
                yield home.of(layer), joined
                del fused[home.of(layer)]
