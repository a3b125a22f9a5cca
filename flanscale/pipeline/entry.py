"""How does one tokenised task lie on disk? As one file: a header, facts, offsets and tokens, read by a memory map.

Layout, little-endian, every part at a multiple of eight bytes:
    header   magic, version, bytes a token, bytes of facts, pieces, tokens, CRC-32 of all after the facts, CRC-32 of
             the header up to here and of the facts
    facts    a JSON object, filled up with spaces
    offsets  int64 [2N + 1]: piece 2i is input i, piece 2i + 1 its target, so that one draw is one stretch of the file
    tokens   uint16 where every id fits, else uint32

Dimensions: N pairs of an input and a target.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt

from flanscale.errors import DataError
from flanscale.pipeline.ragged import Ragged

VERSION = 1
MAGIC = b"flantoks"
_HEADER = struct.Struct("<8s I I Q Q Q I")
_CRC = struct.Struct("<I")
_HEAD_BYTES = _HEADER.size + _CRC.size
_FIRST_READ = 4096  # bytes: the header and, as a rule, all facts
_CHUNK = 1 << 20


class DamagedEntry(DataError):
    """An entry's file is not what was written; the message is one line that names it."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One task's tokens. Its file is mapped, after a full check, when the tokens are first asked for.

    `facts` tell at least `examples` and `renderings`: pair e·renderings + r is rendering r of example e.
    """

    path: Path
    facts: Mapping[str, Any]
    pairs: int
    _token_bytes: int
    _body_start: int
    _body_crc: int

    @property
    def inputs(self) -> Ragged:
        """The N inputs, as pieces of the mapped tokens."""
        offsets = self.offsets
        return Ragged(self.tokens, offsets[:-1:2], offsets[1::2] - offsets[:-1:2])

    @property
    def targets(self) -> Ragged:
        """The N targets, as pieces of the mapped tokens."""
        offsets = self.offsets
        return Ragged(self.tokens, offsets[1::2], offsets[2::2] - offsets[1::2])

    @cached_property
    def offsets(self) -> Int[np.ndarray, " 2N+1"]:
        """Where pieces start in `tokens`; the last is where they end.

        Raises:
            DamagedEntry: the file's checksum is wrong.
        """
        return self._mapped[self._body_start : self._tokens_start].view(np.int64)

    @cached_property
    def tokens(self) -> UInt[np.ndarray, " total"]:
        """Inputs and targets in turn.

        Raises:
            DamagedEntry: the file's checksum is wrong.
        """
        return self._mapped[self._tokens_start :].view(np.uint16 if self._token_bytes == 2 else np.uint32)

    def verify(self) -> None:
        """Read the whole file once and compare its checksum.

        Raises:
            DamagedEntry: it is wrong.
        """
        with self.path.open("rb", buffering=0) as file:
            self._check_body(file.fileno())

    @property
    def _tokens_start(self) -> int:
        return self._body_start + 8 * (2 * self.pairs + 1)

    @cached_property
    def _mapped(self) -> UInt[np.ndarray, " bytes"]:
        with self.path.open("rb", buffering=0) as file:
            self._check_body(file.fileno())
            return _map(file.fileno())

    def _check_body(self, file: int) -> None:
        # Read, not mapped: pages of a checked file would otherwise count as this process's memory.
        crc, at = 0, self._body_start
        while chunk := os.pread(file, _CHUNK, at):
            crc = zlib.crc32(chunk, crc)
            at += len(chunk)
        if crc != self._body_crc:
            raise DamagedEntry(f"{self.path}: damaged (its content does not match its checksum)")


def entry_bytes(inputs: Ragged, targets: Ragged, facts: Mapping[str, Any]) -> bytes:
    """The content of the file that holds pairs and facts: the same for the same arguments, on every machine."""
    pairs = len(inputs)
    both = Ragged.concatenate([inputs, targets]).take(np.arange(2 * pairs).reshape(2, pairs).T.ravel())
    offsets = np.zeros(2 * pairs + 1, "<i8")
    np.cumsum(both.lengths, out=offsets[1:])
    wide = len(both.tokens) > 0 and int(both.tokens.max()) > np.iinfo(np.uint16).max
    body = offsets.tobytes() + both.tokens.astype("<u4" if wide else "<u2").tobytes()
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-(_HEAD_BYTES + len(text)) % 8)
    head = _HEADER.pack(MAGIC, VERSION, 4 if wide else 2, len(text), pairs, len(both.tokens), zlib.crc32(body))
    return b"".join([head, _CRC.pack(zlib.crc32(text, zlib.crc32(head))), text, body])


def read_entry(path: Path) -> Entry:
    """The entry in a file, after checking its header, facts and length; its tokens are not read yet.

    Raises:
        FileNotFoundError: no such file.
        DamagedEntry: the file is no entry, or not the whole of one.
    """
    with path.open("rb", buffering=0) as file:
        start, size = os.pread(file.fileno(), _FIRST_READ, 0), os.fstat(file.fileno()).st_size
        if len(start) < _HEAD_BYTES:
            raise DamagedEntry(f"{path}: damaged ({size} bytes, not even a header)")
        magic, version, token_bytes, facts_bytes, pairs, tokens, body_crc = _HEADER.unpack_from(start)
        if magic != MAGIC or version != VERSION or token_bytes not in (2, 4):
            raise DamagedEntry(f"{path}: damaged (its header is not that of a version {VERSION} entry)")
        body_start = _HEAD_BYTES + facts_bytes
        expected = body_start + 8 * (2 * pairs + 1) + token_bytes * tokens
        if size != expected:
            raise DamagedEntry(f"{path}: damaged ({size:,} bytes, expected {expected:,})")
        facts = start[_HEAD_BYTES:body_start]
        facts += os.pread(file.fileno(), facts_bytes - len(facts), len(start)) if len(facts) < facts_bytes else b""
    (head_crc,) = _CRC.unpack_from(start, _HEADER.size)
    if zlib.crc32(facts, zlib.crc32(start[: _HEADER.size])) != head_crc:
        raise DamagedEntry(f"{path}: damaged (its header does not match its checksum)")
    return Entry(path, json.loads(facts), pairs, token_bytes, body_start, body_crc)


# --- memory maps that hold no file open ------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def _map(file: int) -> UInt[np.ndarray, " bytes"]:
    """A whole file as read-only bytes, unmapped when the last view of it goes.

    Python's own mmap keeps a file descriptor for as long as the map lives (until 3.13), and a mixture of 1,836 tasks
    has more files than a process may usually hold open (1,024).
    """
    size = os.fstat(file).st_size
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False  # a thread may still read at exit
    array = np.frombuffer(memoryview(memory), np.uint8)
    array.flags.writeable = False
    return array
