"""A row of an input file, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """A record.

    Attributes:
        file: the path or URL that the user knows.
        number: its place in the file, from 1; of JSONL the line.
        raw: of JSONL its line, without the newline; None elsewhere.
        values: by column: of CSV strings, of JSONL and Parquet what they hold.
        record: of Parquet its Arrow record batch and its place in there, from 0; None elsewhere.
    """

    file: str
    number: int
    raw: bytes | None
    values: Mapping[str, Any]
    record: tuple[Any, int] | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record that cannot be read; it has its place in the order like any other.

    Attributes:
        file, number: as of a `Row`.
        column: where it is wrong; None where the whole record is.
        reason: continues a sentence that begins with the row or column, like "is not UTF-8".
    """

    file: str
    number: int
    column: str | None
    reason: str


class RowError(Exception):
    """Why a row cannot be sent, though it could be read.

    Attributes:
        column, reason: as of a `BadRow`.
    """

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(f"{column} {reason}" if column else reason)
        self.column = column
        self.reason = reason

    def of(self, row: Row) -> BadRow:
        """As the bad row that it makes of a row."""
        return BadRow(row.file, row.number, self.column, self.reason)
