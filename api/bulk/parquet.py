"""Parquet is read by row ranges inside row groups: forward, a few hundred rows at a time, so in flat memory."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from api.bulk.errors import BulkError
from api.bulk.storage import opened, state_of

_ROWS = 256
"""That are decoded at a time."""

_BUFFER_BYTES = 1 << 16
"""Of each column that are read at a time: without, Arrow reads the columns of a row group whole."""

_MOST_KEPT = 4
"""Readers that wait for the next range of their file; each has a page of every column."""

_PIECE = 1 << 20


@dataclass(frozen=True)
class Range:
    """Rows of a row group, from 0, and a digest (sha256, hex) of them, the row group's bytes and the file's footer."""

    group: int
    begin: int
    end: int
    digest: str


def ranges(path: str, name: str, rows_per_range: int) -> Iterator[Range]:
    """Cuts a file, without decoding it.

    Raises:
        BulkError: it is no whole Parquet file, or it has two columns of one name.
    """
    with opened(path) as file, _decoding(name):
        metadata = pq.ParquetFile(file).metadata
        names = metadata.schema.to_arrow_schema().names
        twice = {each for each in names if names.count(each) > 1}
        if twice:
            raise BulkError(f"{name} has more than one column {', '.join(sorted(twice))}: give each its own name.")
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            digest = _group_digest(file, metadata, group)
            for begin in range(0, rows, rows_per_range):
                end = min(begin + rows_per_range, rows)
                yield Range(group, begin, end, _range_digest(digest, begin, end))


def read_range(path: str, name: str, wanted: Range) -> Iterator[Any] | None:
    """The record batches of a range; None where the file has changed since it was cut.

    The reader is kept for the next range of the file, which it then goes forward to.
    """
    with _decoding(name):
        reader = _shelf.taken(path)
        if reader is None:
            reader = _Reader(path)
        if not reader.has(wanted):
            reader.close()
            return None
    return _batches(reader, path, name, wanted)


def _batches(reader: "_Reader", path: str, name: str, wanted: Range) -> Iterator[Any]:
    whole = False
    try:
        with _decoding(name):
            yield from reader.read(wanted.begin, wanted.end)
        whole = True
    finally:
        if whole:
            _shelf.keep(path, reader)
        else:
            reader.close()


class _Reader:
    """Decodes a row group from its start to its end, and then another one of the same file.

    Attributes:
        state: of the file when it was opened.
    """

    def __init__(self, path: str) -> None:
        self.state = state_of(path)
        self._file = opened(path)
        try:
            self._parquet = pq.ParquetFile(self._file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except BaseException:
            self._file.close()
            raise
        self._group = -1
        self._digest = ""
        self._position = 0
        self._left: Any = None

    def has(self, wanted: Range) -> bool:
        """Whether the file has this very range; it is then the next to be read."""
        if wanted.group >= self._parquet.metadata.num_row_groups:
            return False
        if wanted.group != self._group:
            self._digest = _group_digest(self._file, self._parquet.metadata, wanted.group)
        if wanted.group != self._group or self._position > wanted.begin:
            self._group, self._position, self._left = wanted.group, 0, None
            self._decoded = self._parquet.iter_batches(_ROWS, row_groups=[wanted.group], use_threads=False)
        return _range_digest(self._digest, wanted.begin, wanted.end) == wanted.digest

    def read(self, begin: int, end: int) -> Iterator[Any]:
        """Record batches of these rows; those before are dropped."""
        while self._position < end:
            batch = self._left if self._left is not None else next(self._decoded)
            self._left = None
            here = batch[max(0, begin - self._position) : end - self._position]
            if self._position + len(batch) > end:
                self._left = batch[end - self._position :]
            self._position = min(end, self._position + len(batch))
            if len(here):
                yield here

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()


class _Shelf:
    """Readers that nobody uses at the moment; the latest are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}

    def taken(self, path: str) -> _Reader | None:
        """The reader of a file that is as it was; it is the caller's alone until it is brought back."""
        with self._lock:
            reader = self._readers.pop(path, None)
        if reader and reader.state != state_of(path):
            reader.close()
            return None
        return reader

    def keep(self, path: str, reader: _Reader) -> None:
        """Brings a reader back."""
        with self._lock:
            dropped = self._readers.pop(path, None)
            self._readers[path] = reader
            if len(self._readers) > _MOST_KEPT:
                dropped = self._readers.pop(next(iter(self._readers)))
        if dropped:
            dropped.close()


_shelf = _Shelf()


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, EOFError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BulkError(f"{name} is no whole Parquet file ({reason}): write or copy it once more.") from error


def _range_digest(group_digest: str, begin: int, end: int) -> str:
    return hashlib.sha256(f"{group_digest} {begin} {end}".encode()).hexdigest()


def _group_digest(file: BinaryIO, metadata: Any, group: int) -> str:
    """Of the footer, which says how the bytes are read, and of the bytes of the row group."""
    digest = hashlib.sha256()
    end = file.seek(0, 2)
    footer = metadata.serialized_size + 8
    _feed(digest, file, end - footer, footer)
    found = metadata.row_group(group)
    for index in range(found.num_columns):
        column = found.column(index)
        begin = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
        _feed(digest, file, begin, column.total_compressed_size)
    return digest.hexdigest()


def _feed(digest: Any, file: BinaryIO, begin: int, size: int) -> None:
    file.seek(begin)
    while size > 0:
        piece = file.read(min(_PIECE, size))
        if not piece:
            raise EOFError("it is shorter than its footer says")
        digest.update(piece)
        size -= len(piece)


def values_of(batch: Any) -> list[dict[str, Any]]:
    """The rows of a record batch as Python values. Nanoseconds, which Python's times do not have, are cut off."""
    fields = [field.with_type(_plain(field.type)) for field in batch.schema]
    if any(plain.type != field.type for plain, field in zip(fields, batch.schema, strict=True)):
        columns = [column.cast(field.type, safe=False) for column, field in zip(batch.columns, fields, strict=True)]
        batch = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


def _plain(kind: Any) -> Any:
    """The type with microseconds for nanoseconds, at any depth of lists and objects."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_field.with_type(_plain(kind.value_type))
        return pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind
