"""How is a GGUF file read as if it were a Hugging Face folder?

The header is read here: the `gguf` package takes seconds for a vocabulary. Quantised blocks are its matter, in
NumPy alone. Only Llama's architecture is known, which is also SmolLM 2's.

Layout: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flanscale.errors import WeightsError
from flanscale.weights.source import Index, Tensor

MAGIC, VERSIONS, ALIGNMENT = b"GGUF", (2, 3), 32
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
NUMBERS = {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "?", 10: "u8", 11: "i8", 12: "f8"}

HEAD = "output.weight"
WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    HEAD: "lm_head.weight",
}
OF_A_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class Entry:
    """One tensor in the file. `shape` is NumPy's, the reverse of the file's."""

    name: str
    shape: tuple[int, ...]
    kind: int  # ggml's number of the quantisation
    start: int  # byte of the file


@dataclass(frozen=True)
class Header:
    metadata: Mapping[str, Any]
    entries: tuple[Entry, ...]


def read_header(path: Path) -> Header:
    """What stands before the numbers of a GGUF file.

    Raises:
        WeightsError: it is no GGUF file, or it is cut short.
    """
    try:
        with path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Cursor(content).header()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, MemoryError, RecursionError) as error:
        raise WeightsError(f"{path}: no GGUF file, or cut short within its header: fetch it again") from error


class GgufFile:
    """A GGUF file of Llama's architecture.

    Raises:
        WeightsError: it is cut short, of another architecture, or the package `gguf` is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        except ImportError as error:
            raise WeightsError(f"init.hf={path}: reading GGUF needs the package gguf: pip install gguf") from error
        self.path = path
        header = read_header(path)
        self.metadata = header.metadata
        self.config = self._config(header.entries)
        self._entries: dict[str, Entry] = {}
        end = 0
        for entry in header.entries:
            self._entries[_their_name(entry.name, path)] = entry
            per_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(entry.kind)]
            end = max(end, entry.start + int(np.prod(entry.shape)) // per_block * block_bytes)
        if path.stat().st_size < end:
            raise WeightsError(f"{path}: cut short: {path.stat().st_size:,} of {end:,} bytes: fetch it again")
        self.tensors: Mapping[str, Tensor] = {name: Tensor(entry.shape, path) for name, entry in self._entries.items()}

    def read(self, name: str, index: Index | None = None) -> np.ndarray:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        entry = self._entries[name]
        kind = GGMLQuantizationType(entry.kind)
        per_block, block_bytes = GGML_QUANT_SIZES[kind]
        row_bytes = entry.shape[-1] // per_block * block_bytes
        rows = int(np.prod(entry.shape[:-1]))
        blocks = self._bytes[entry.start : entry.start + rows * row_bytes].reshape(rows, row_bytes)
        heads = self._turned(name)
        index = index or (slice(None),) * len(entry.shape)
        if heads is None and len(entry.shape) == 2:  # only the rows that are asked for
            return np.asarray(dequantize(blocks[index[0]], kind), np.float32)[:, index[1]]
        values = np.asarray(dequantize(blocks, kind), np.float32).reshape(entry.shape)
        if heads is not None:  # llama.cpp rotates neighbours, Hugging Face halves: each head's rows lie interleaved
            values = values.reshape(heads, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        return values[index]

    def _turned(self, name: str) -> int | None:
        """The heads of a kernel whose rows llama.cpp reorders."""
        if name.endswith("q_proj.weight"):
            return int(self.config["num_attention_heads"])
        return int(self.config["num_key_value_heads"]) if name.endswith("k_proj.weight") else None

    @cached_property
    def _bytes(self) -> np.ndarray:
        return np.memmap(self.path, np.uint8, mode="r")

    def _config(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """The config.json that these metadata amount to."""
        given = self.metadata
        if given.get("general.architecture") != "llama":
            found = given.get("general.architecture")
            raise WeightsError(f"{self.path}: general.architecture={found!r}: only llama is read from GGUF")
        try:
            heads, width = given["llama.attention.head_count"], given["llama.embedding_length"]
            head_dim = given.get("llama.attention.key_length", width // heads)
            if given.get("llama.rope.dimension_count", head_dim) != head_dim or "llama.rope.scaling.type" in given:
                raise WeightsError(f"{self.path}: llama.rope.*: only plain rotary positions are read from GGUF")
            return {
                "model_type": "llama",
                "hidden_size": width,
                "intermediate_size": given["llama.feed_forward_length"],
                "num_hidden_layers": given["llama.block_count"],
                "num_attention_heads": heads,
                "num_key_value_heads": given.get("llama.attention.head_count_kv", heads),
                "head_dim": head_dim,
                "vocab_size": given.get("llama.vocab_size", len(given.get("tokenizer.ggml.tokens", ()))),
                "rms_norm_eps": _shortest(given["llama.attention.layer_norm_rms_epsilon"]),
                "rope_theta": _shortest(given.get("llama.rope.freq_base", 10_000.0)),
                "max_position_embeddings": given.get("llama.context_length"),
                "hidden_act": "silu",
                "bos_token_id": given.get("tokenizer.ggml.bos_token_id"),
                "eos_token_id": given.get("tokenizer.ggml.eos_token_id"),
                "tie_word_embeddings": all(entry.name != HEAD for entry in entries),  # as llama.cpp takes it
            }
        except KeyError as error:
            raise WeightsError(f"{self.path}: no {error.args[0]} among its metadata") from error


def _their_name(name: str, path: Path) -> str:
    if name == "rope_freqs.weight":
        raise WeightsError(f"{path}: {name}: scaled rotary positions are not read from GGUF; take the safetensors")
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in OF_A_LAYER:
        return f"model.layers.{parts[1]}.{OF_A_LAYER[parts[2]]}.{parts[3]}"
    return WHOLE.get(name, name)


def _shortest(value: float) -> float:
    """The decimal number that a single-precision one was meant to be."""
    return float(str(np.float32(value)))


class _Cursor:
    """Walks over the header; running over its end is a ValueError or struct.error."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 0

    def header(self) -> Header:
        if self._take(4) != MAGIC or self._scalar("I") not in VERSIONS:
            raise ValueError("magic")
        tensors, pairs = self._scalar("Q"), self._scalar("Q")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            name = self._text()
            metadata[name] = self._value(self._scalar("I"))
        found = [self._entry() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", ALIGNMENT)
        start = -(-self._at // alignment) * alignment
        return Header(metadata, tuple(Entry(name, shape, kind, start + offset) for name, shape, kind, offset in found))

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self._text(), self._scalar("I")
        if dimensions > 4:
            raise ValueError("dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))
        return name, shape[::-1], self._scalar("I"), self._scalar("Q")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind != ARRAY:
            return self._scalar(SCALARS[kind])
        item, count = self._scalar("I"), self._scalar("Q")
        if item in NUMBERS:
            dtype = np.dtype(NUMBERS[item])
            return np.frombuffer(self._take(count * dtype.itemsize), dtype)
        read: Callable[[], Any] = self._text if item == STRING else lambda: self._value(item)
        return [read() for _ in range(count)]

    def _text(self) -> str:
        return self._take(self._scalar("Q")).decode()

    def _scalar(self, form: str) -> Any:
        return struct.unpack("<" + form, self._take(struct.calcsize("<" + form)))[0]

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._content):
            raise ValueError("end")
        self._at += count
        return self._content[self._at - count : self._at]
