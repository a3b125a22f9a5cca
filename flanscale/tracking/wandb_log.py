"""What did W&B write down offline: the config, history and exit code inside `run-<id>.wandb` files.

The library's own reader was removed in wandb 0.30 and `wandb.Api` has no offline mode, so the LevelDB log is read here:
a 7-byte header, then 32 KiB blocks of chunks `crc32(kind + data) u32 · length u16 · kind u8 · data`, little-endian; a
record is one FULL chunk or FIRST, MIDDLE…, LAST chunks; a record's payload is wandb's protobuf `Record`.
"""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024
CHUNK_HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class OfflineRun:
    """One W&B run, merged over the fragments that its attempts left behind."""

    id: str
    group: str
    config: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    exit_code: int | None
    """None: no attempt said goodbye (killed, or still running)."""


@dataclass
class Fragment:
    """What one `.wandb` file holds: one process lifetime."""

    id: str = ""
    group: str = ""
    started: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


def find_logs(folder: Path) -> list[Path]:
    """Every `.wandb` file below `folder/wandb`, each once (the `latest-run` link repeats the last)."""
    return sorted({path.resolve() for path in folder.glob("wandb/*run-*/run-*.wandb")})


def read_run(paths: Sequence[Path]) -> OfflineRun:
    """Merge the files of one run id, oldest attempt first: the last writer of a step's key wins.

    Raises:
        ValueError: no file given, a file that is no W&B log, or files of different runs.
    """
    fragments = sorted((read_fragment(path) for path in paths), key=lambda fragment: fragment.started)
    ids = {fragment.id for fragment in fragments}
    if len(ids) != 1:
        raise ValueError(f"expected the W&B files of one run, got {len(paths)} files of runs {sorted(ids)}")
    config: dict[str, Any] = {}
    steps: dict[int, dict[str, Any]] = {}
    for fragment in fragments:
        config.update({key: value for key, value in fragment.config.items() if key != "_wandb"})
        for row in fragment.history:
            steps.setdefault(int(row["_step"]), {}).update(row)
    last = fragments[-1]
    return OfflineRun(last.id, last.group, config, tuple(steps[step] for step in sorted(steps)), last.exit_code)


def read_fragment(path: Path) -> Fragment:
    """Read one `.wandb` file; a torn tail ends it, a damaged block is skipped with a warning."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto.wandb_internal_pb2 import Record

    fragment = Fragment()
    for payload in records(path):
        try:
            record = Record.FromString(payload)
        except DecodeError:
            warnings.warn(f"{path}: skipped a record that does not parse", stacklevel=2)
            continue
        kind = record.WhichOneof("record_type")
        if kind == "run":
            fragment.id, fragment.group = record.run.run_id, record.run.run_group
            fragment.started = record.run.start_time.seconds + record.run.start_time.nanos / 1e9
            fragment.config.update(_items(record.run.config.update))
        elif kind == "config":
            fragment.config.update(_items(record.config.update))
        elif kind == "history":
            fragment.history.append(_items(record.history.item))
        elif kind == "exit":
            fragment.exit_code = record.exit.exit_code
    return fragment


def records(path: Path) -> Iterator[bytes]:
    """Payloads of the log's whole records, in order.

    Raises:
        ValueError: the file does not start like a W&B log.
    """
    buffer = path.read_bytes()
    if buffer[: len(HEADER)] != HEADER:
        raise ValueError(f"{path} is not a W&B log: it starts with {buffer[: len(HEADER)]!r}")
    position = len(HEADER)
    parts: list[bytes] | None = None
    while position + CHUNK_HEADER.size <= len(buffer):
        block_end = position - position % BLOCK + BLOCK
        if block_end - position < CHUNK_HEADER.size:  # too little room for a chunk: the writer padded
            position = block_end
            continue
        crc, length, kind = CHUNK_HEADER.unpack_from(buffer, position)
        start = position + CHUNK_HEADER.size
        data = buffer[start : start + length]
        if kind == 0 and length == 0:
            position, parts = block_end, None
        elif start + length <= block_end and len(data) < length:
            return  # torn tail: the writer was killed inside this chunk
        elif start + length > block_end or zlib.crc32(bytes([kind]) + data) != crc:
            if block_end < len(buffer):
                warnings.warn(f"{path}: damaged at byte {position}, skipping to byte {block_end}", stacklevel=2)
            else:
                warnings.warn(f"{path}: damaged at byte {position}, the rest is lost", stacklevel=2)
            position, parts = block_end, None
        else:
            position = start + length
            if kind in (FULL, FIRST):
                parts = [data]
            elif parts is not None:
                parts.append(data)
            if kind in (FULL, LAST) and parts is not None:
                yield b"".join(parts)
                parts = None


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
