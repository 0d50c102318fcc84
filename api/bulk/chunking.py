"""Inputs are cut into chunks of rows, each of which can be read alone, in flat memory, and proven unchanged."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from api.bulk.errors import BulkError
from api.bulk.jsonl import first_byte, jsonl_rows
from api.bulk.lines import Lines
from api.bulk.rows import BadRow, Row
from api.bulk.sources import Format, Source
from api.bulk.storage import opened, reading


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
    path = source.path
    with reading(source.path):
        yield from _cut_lines(source, path, rows_per_chunk)


def read_chunk(chunk: Chunk) -> Iterator[Row | BadRow]:
    """The rows of a chunk in their order, bad ones in their places, in flat memory.

    Raises:
        BulkError: the file is gone, or has changed. That it has is told at the latest after the last row, so what was
            made of the rows counts only when all have come.
    """
    yield from _read_lines(chunk)


def _cut_lines(source: Source, path: str, rows_per_chunk: int) -> Iterator[Chunk]:
    with opened(path) as file:
        lines = Lines(file, first_byte(file, source.path))
        empty = Chunk(source.path, path, "jsonl", lines.position, lines.position, 1, 0, "")
        yield from _cuts(empty, lines, lines, rows_per_chunk)


def _cuts(empty: Chunk, units: Iterable[Any], lines: Lines, rows_per_chunk: int) -> Iterator[Chunk]:
    """Chunks that end where `lines` stands after so many units: the first begins where the empty one does."""
    begin, first_row, rows = empty.begin, empty.first_row, 0

    def cut() -> Chunk:
        return replace(
            empty, begin=begin, end=lines.position, first_row=first_row, rows=rows, digest=lines.taken_digest()
        )

    for _ in units:
        rows += 1
        if rows == rows_per_chunk:
            yield cut()
            begin, first_row, rows = lines.position, first_row + rows, 0
    if rows:
        yield cut()


def _read_lines(chunk: Chunk) -> Iterator[Row | BadRow]:
    with reading(chunk.source), opened(chunk.path) as file:
        lines = Lines(file, chunk.begin, chunk.end)
        rows = 0
        for row in jsonl_rows(lines, chunk.source, chunk.first_row):
            rows += 1
            if rows > chunk.rows:
                break
            yield row
        if rows != chunk.rows or lines.position != chunk.end or lines.taken_digest() != chunk.digest:
            raise chunk.changed()
