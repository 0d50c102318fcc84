"""Rows as Parquet: parts are Arrow streams with the types that their rows have, and the join gives all one schema.

A part may hold several streams, each with a schema of its own, so nothing that was written has to be written again
when a later row has another type. Rows that came as Parquet keep their columns as they were, values and types.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from api.bulk.errors import BulkError
from api.bulk.rows import Row
from api.bulk.schemas import cast_to, no_type, unified
from api.bulk.storage import reading

_BATCH_ROWS, _BATCH_BYTES = 1024, 8 << 20
"""So much is held of a part."""

_GROUP_ROWS, _GROUP_BYTES = 32_768, 4 << 20
"""So much becomes a row group of the output. Few bytes, as encoding takes several times as many: memory stays flat."""

_Held = tuple[Row, Mapping[str, Any]]


class ParquetPart:
    """Appends rows to an opened file, as Arrow streams."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream: Any = None
        self._schema: Any = None
        self._held: list[_Held] = []
        self._bytes = 0

    def write(self, row: Row, columns: Mapping[str, Any]) -> None:
        """Appends a row; what its columns are is found when a batch is full."""
        self._held.append((row, columns))
        self._bytes += _size(row, columns)
        if len(self._held) == _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes the rows that are held."""
        self._flush()
        if self._stream is not None:
            self._stream.close()

    def _flush(self) -> None:
        for batch in _batches(self._held):
            if self._stream is None or not self._schema.equals(batch.schema, check_metadata=True):
                if self._stream is not None:
                    self._stream.close()
                options = pa.ipc.IpcWriteOptions(compression="zstd")
                self._stream = pa.ipc.new_stream(self._file, batch.schema, options=options)
                self._schema = batch.schema
            self._stream.write_batch(batch)
        self._held, self._bytes = [], 0


def _size(row: Row, columns: Mapping[str, Any]) -> int:
    """Roughly the bytes of a row: of its line, or of its texts, and of a vector."""
    vectors = sum(value.nbytes for value in columns.values() if isinstance(value, np.ndarray))
    if row.raw is not None:
        return len(row.raw) + vectors
    return sum(len(value) for value in row.values.values() if isinstance(value, str | bytes | list)) + vectors


def _batches(held: Sequence[_Held]) -> Iterator[Any]:
    """Record batches of rows; those of one Parquet batch are taken out of it together."""
    for _, some in groupby(held, lambda each: id(each[0].record[0]) if each[0].record else None):
        rows = list(some)
        record = rows[0][0].record
        if record is None:
            schema = pa.schema([])
            arrays = _inferred([row.values for row, _ in rows])
        else:
            taken = record[0].take(pa.array([row.record[1] for row, _ in rows if row.record], pa.int64()))
            schema = taken.schema
            arrays = dict(zip(schema.names, taken.columns, strict=True))
        new = _new([columns for _, columns in rows])
        fields = [schema.field(name) if record else pa.field(name, array.type) for name, array in arrays.items()]
        fields += [pa.field(name, array.type) for name, array in new.items()]
        columns = [*arrays.values(), *new.values()]
        yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, metadata=schema.metadata))


def _inferred(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arrays of the types that the values have; a column that a row lacks is null there."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = {}
    for name in names:
        try:
            found[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise no_type(name, str(error)) from error
    return found


def _new(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arrays of float32, or of lists of it."""
    return {name: _float32([row[name] for row in rows]) for name in rows[0]}


def _float32(values: Sequence[Any]) -> Any:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, np.ndarray) and all(value.shape == first.shape for value in values):
        flat = np.concatenate(values).astype("<f4", copy=False)
        offsets = np.arange(0, len(flat) + 1, len(first), dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), type=pa.list_(pa.float32()))
    if isinstance(first, list | np.ndarray):
        nested = isinstance(first, list) and bool(first) and isinstance(first[0], list)
        inner = pa.list_(pa.float32()) if nested else pa.float32()
        return pa.array(values, pa.list_(inner))
    return pa.array(values, pa.float32())


def join_parquet(parts: Sequence[Path], output: BinaryIO) -> None:
    """Writes the rows of parts to an opened file, under one schema that has the columns and types of all.

    Raises:
        BulkError: a part is gone or broken, or a column has types that are not to be brought together.
    """
    schema = unified([schema for part in parts for schema in _schemas(part)])
    with pq.ParquetWriter(output, schema, compression="zstd") as writer:
        held: list[Any] = []
        rows = size = 0
        for part in parts:
            for batch in _stored(part):
                held.append(cast_to(batch, schema))
                rows, size = rows + batch.num_rows, size + batch.nbytes
                if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(held, schema), row_group_size=rows)
                    held, rows, size = [], 0, 0
        if held:
            writer.write_table(pa.Table.from_batches(held, schema), row_group_size=rows)


def _schemas(part: Path) -> Iterator[Any]:
    """Of the streams in a part."""
    last = None
    for batch in _stored(part):
        if last is None or not batch.schema.equals(last, check_metadata=True):
            last = batch.schema
            yield last


def _stored(part: Path) -> Iterator[Any]:
    """The record batches of all streams in a part."""
    with reading(str(part)):
        file = part.open("rb")
        with file:
            size = file.seek(0, 2)
            file.seek(0)
            while file.tell() < size:
                try:
                    yield from pa.ipc.open_stream(file, options=pa.ipc.IpcReadOptions(use_threads=False))
                except pa.ArrowException as error:
                    raise BulkError(
                        f"{part} is no part of an output ({error}): run the command with --restart."
                    ) from error
