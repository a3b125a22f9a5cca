"""How are tables read? CSV and Parquet, a row at a time, with every bad row named or counted."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flanscale.errors import DataError
from flanscale.tasks.reading import text_lines
from flanscale.tasks.task import Skips


def csv_rows(path: Path, columns: Sequence[str], skips: Skips) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number of its start, column → text) of a CSV file whose header holds `columns`; fields may hold line ends.

    Raises:
        DataError: as text_lines; a column is absent; a row that is no CSV is a bad record.
    """
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        for number, line in text_lines(path, skips):
            read = number
            yield line + "\n"

    reader = csv.reader(lines(), strict=True)
    header = next(reader, [])
    if absent := [name for name in columns if name not in header]:
        raise DataError(f"{path}:1: no column {', '.join(absent)}; the header is {', '.join(header) or 'empty'}"[:500])
    while True:
        start = read + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            skips.bad(path, start, f"not CSV ({error})")
            continue
        if row is None:
            return
        if len(row) != len(header):
            skips.bad(path, start, f"{len(row)} columns, expected {len(header)}")
            continue
        yield start, dict(zip(header, row, strict=True))


def parquet_rows(path: Path, columns: Sequence[str], skips: Skips) -> Iterator[tuple[str, dict[str, Any]]]:
    """("row 7", column → value) of a Parquet file, a thousand rows in memory at a time; absent columns are left out.

    Raises:
        DataError: pyarrow is not installed, or the file is no Parquet; damage inside it is a bad record.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'flanscale[parquet]'") from error
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            present = [name for name in file.schema_arrow.names if name in columns]
            for batch in file.iter_batches(batch_size=1024, columns=present):
                try:
                    records: list[dict[str, Any] | None] = batch.to_pylist()
                except UnicodeDecodeError:
                    records = [_decoded(batch.slice(index, 1)) for index in range(batch.num_rows)]
                for record in records:
                    row += 1
                    if record is None:
                        skips.bad(path, f"row {row}", "not UTF-8")
                    else:
                        yield f"row {row}", record
    except (OSError, pyarrow.ArrowException) as error:
        why = str(error).partition("\n")[0][:200]
        if not row:
            raise DataError(f"{path}: not readable as Parquet: {why}") from error
        skips.bad(path, f"row {row + 1}", f"damaged Parquet: {why}")


def _decoded(batch: Any) -> dict[str, Any] | None:
    try:
        return dict(batch.to_pylist()[0])
    except UnicodeDecodeError:
        return None
