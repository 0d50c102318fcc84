"""Inputs are cut into chunks of rows, each of which can be read alone, in flat memory, and proven unchanged."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from api.bulk.csv_rows import UnclosedQuoteError, csv_rows, header_of, records
from api.bulk.errors import BulkError
from api.bulk.jsonl import first_byte, jsonl_rows
from api.bulk.lines import Lines
from api.bulk.parquet import Range, ranges, read_range, values_of
from api.bulk.rows import BadRow, Row
from api.bulk.sources import Format, Source
from api.bulk.storage import opened, reading
from api.bulk.unpacking import unpacked


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a file.

    Attributes:
        source: the file that the user knows, a path or URL.
        path: what is read: the same, or where a compressed file was unpacked.
        begin, end: bytes of `path`; of Parquet rows of a row group, from 0.
        first_row: the number of the first row in its file, from 1.
        rows: how many, bad ones included.
        digest: sha256 (hex) of the input that the chunk covers: of its bytes, of CSV with the header row, of Parquet of
            the row group and the range. Two chunks with equal digests have the same rows.
        header: of CSV the bytes before the first record: byte order mark and header row.
        delimiter: of CSV.
        group: of Parquet the row group.
    """

    source: str
    path: str
    format: Format
    begin: int
    end: int
    first_row: int
    rows: int
    digest: str
    header: int = 0
    delimiter: str = ","
    group: int = 0

    def encode(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """From JSON text."""
        return cls(**json.loads(text))

    def changed(self) -> BulkError:
        """What is raised where the file has other bytes than when the chunk was cut."""
        return BulkError(
            f"{self.source} has changed since its rows {self.first_row} to {self.first_row + self.rows - 1} were "
            "planned: run the command with --restart to begin anew."
        )


def chunks_of(source: Source, rows_per_chunk: int, spool: Path) -> Iterator[Chunk]:
    """Cuts a file in one pass with flat memory. A file without rows gives no chunk.

    Args:
        spool: a folder, made where it is missing, into which compressed files are unpacked, once: one that is there and
            whole is taken as it is. Its files are named in the chunks, so it must last, and be shared, as long as they.

    Raises:
        BulkError: the file is unreadable or broken.
    """
    path = source.path if source.compression == "none" else unpacked(source, spool)
    with reading(source.path):
        cut = _cut_parquet if source.format == "parquet" else _cut_lines
        yield from cut(source, path, rows_per_chunk)


def read_chunk(chunk: Chunk) -> Iterator[Row | BadRow]:
    """The rows of a chunk in their order, bad ones in their places, in flat memory.

    Raises:
        BulkError: the file is gone, or has changed. That it has is told at the latest after the last row, so what was
            made of the rows counts only when all have come.
    """
    with reading(chunk.source):
        yield from _read_parquet(chunk) if chunk.format == "parquet" else _read_lines(chunk)


def _cut_parquet(source: Source, path: str, rows_per_chunk: int) -> Iterator[Chunk]:
    first_row = 1
    for found in ranges(path, source.path, rows_per_chunk):
        rows = found.end - found.begin
        yield Chunk(
            source.path, path, "parquet", found.begin, found.end, first_row, rows, found.digest, group=found.group
        )
        first_row += rows


def _cut_lines(source: Source, path: str, rows_per_chunk: int) -> Iterator[Chunk]:
    with opened(path) as file:
        header = b""
        if source.format == "csv":
            _, begin = header_of(file, source.path, source.delimiter)
            file.seek(0)
            header = file.read(begin)
        else:
            begin = first_byte(file, source.path)
        lines = Lines(file, begin, seed=header)
        units = records(lines, source.delimiter) if source.format == "csv" else lines
        empty = Chunk(
            source.path, path, source.format, begin, begin, 1, 0, "", header=len(header), delimiter=source.delimiter
        )
        yield from _cuts(empty, units, lines, rows_per_chunk)


def _cuts(empty: Chunk, units: Iterable[Any], lines: Lines, rows_per_chunk: int) -> Iterator[Chunk]:
    """Chunks that end where `lines` stands after so many units: the first begins where the empty one does."""
    begin, first_row, rows = empty.begin, empty.first_row, 0

    def cut() -> Chunk:
        return replace(
            empty, begin=begin, end=lines.position, first_row=first_row, rows=rows, digest=lines.taken_digest()
        )

    try:
        for _ in units:
            rows += 1
            if rows == rows_per_chunk:
                yield cut()
                begin, first_row, rows = lines.position, first_row + rows, 0
    except UnclosedQuoteError as error:
        raise BulkError(
            f"Row {first_row + rows} of {empty.source} opens a quote that is not closed: "
            "close it, so that the rows behind it can be told apart."
        ) from error
    if rows:
        yield cut()


def _read_parquet(chunk: Chunk) -> Iterator[Row | BadRow]:
    batches = read_range(chunk.path, chunk.source, Range(chunk.group, chunk.begin, chunk.end, chunk.digest))
    if batches is None:
        raise chunk.changed()
    number = chunk.first_row
    for batch in batches:
        for index, values in enumerate(values_of(batch)):
            yield Row(chunk.source, number, None, values, (batch, index))
            number += 1


def _read_lines(chunk: Chunk) -> Iterator[Row | BadRow]:
    with opened(chunk.path) as file:
        lines = Lines(file, chunk.begin, chunk.end, seed=file.read(chunk.header))
        rows = 0
        try:
            for row in _rows(chunk, file, lines):
                rows += 1
                if rows > chunk.rows:
                    raise chunk.changed()
                yield row
        except UnclosedQuoteError as error:
            raise chunk.changed() from error
        if rows != chunk.rows or lines.position != chunk.end or lines.taken_digest() != chunk.digest:
            raise chunk.changed()


def _rows(chunk: Chunk, file: BinaryIO, lines: Lines) -> Iterator[Row | BadRow]:
    if chunk.format == "jsonl":
        return jsonl_rows(lines, chunk.source, chunk.first_row)
    columns, begin = header_of(file, chunk.source, chunk.delimiter)
    if begin != chunk.header:
        raise chunk.changed()
    file.seek(chunk.begin)
    return csv_rows(lines, chunk.delimiter, columns, chunk.source, chunk.first_row)
