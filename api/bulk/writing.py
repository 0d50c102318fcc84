"""Outputs: the rows of each chunk go into a part, and the parts of all chunks are joined in their order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from api.bulk.beside import Beside
from api.bulk.jsonl_output import JsonlPart, join_jsonl
from api.bulk.parquet_output import ParquetPart, join_parquet
from api.bulk.rows import Row
from api.bulk.sources import Format
from api.bulk.storage import writing

OutputFormat = Literal["jsonl", "parquet"]


class Part(Protocol):
    """The rows of one chunk on their way into a file."""

    def write(self, row: Row, columns: Mapping[str, Any]) -> None:
        """Appends a row with its new columns."""

    def close(self) -> None:
        """Writes what is still held, and leaves the file open."""


_PARTS: dict[OutputFormat, Callable[[BinaryIO], Part]] = {"jsonl": JsonlPart, "parquet": ParquetPart}
_JOINS: dict[OutputFormat, Callable[[Sequence[Path], BinaryIO], None]] = {"jsonl": join_jsonl, "parquet": join_parquet}


class PartWriter:
    """Takes the rows of one chunk in their order."""

    def __init__(self, path: str, part: Part) -> None:
        self._path = path
        self._part = part

    def write(self, row: Row, columns: Mapping[str, Any]) -> None:
        """Appends a row with its new columns.

        Raises:
            BulkError: the disk is full or not writable, or values of a column have no type in common.
        """
        with writing(self._path):
            self._part.write(row, columns)

    def close(self) -> None:
        """Writes what is still held; errors as of `write`."""
        with writing(self._path):
            self._part.close()


@contextmanager
def part_writer(path: Path, output_format: OutputFormat, *, input_format: Format) -> Iterator[PartWriter]:
    """Writes the output of one chunk in flat memory; the file has its name only when the block ended without an error.

    Args:
        path: of the part, on this machine's file system or a shared one; its folder is made where it is missing.
        input_format: of the rows.
    """
    with Beside(str(path)) as beside:
        writer = PartWriter(beside.path, _PARTS[output_format](beside.file))
        yield writer
        writer.close()


def join_parts(parts: Sequence[Path], output: str, output_format: OutputFormat) -> None:
    """Streams parts in their order into OUTPUT.tmp-..., and renames that when it is whole; the parts stay.

    Nobody else may be joining the same output: what a killed join has left of it is removed first.

    Args:
        output: a path, or a URL that fsspec opens. What is there is replaced.

    Raises:
        BulkError: a part is gone, the disk is full or not writable, or values of a column have no type in common.
            Nothing is left of the output, and what was there before stays.
    """
    written = Beside(output)
    written.remove_leftovers()
    with written as beside, writing(output):
        _JOINS[output_format](parts, beside.file)
