"""Rows of CSV (RFC 4180): a header row, then records, whose quoted fields may hold newlines. UTF-8."""

import csv
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from api.bulk.errors import BulkError
from api.bulk.lines import BYTE_ORDER_MARK, LONGEST_LINE, Lines
from api.bulk.rows import BadRow, Row

Record = list[str] | str
"""The fields, or why there are none."""


class UnclosedQuoteError(Exception):
    """The file ends, or goes on for too long, within a quoted field: no record can be told from there on."""


def header_of(file: BinaryIO, name: str, delimiter: str) -> tuple[list[str], int]:
    """The names of the columns, and where the first record begins; no names of an empty file.

    Raises:
        BulkError: the header cannot be read, or has a name twice.
    """
    file.seek(0)
    beginning = file.read(len(BYTE_ORDER_MARK))
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BulkError(f"{name} is UTF-16: make it UTF-8, for example by `iconv -f UTF-16 -t UTF-8`.")
    lines = Lines(file, len(beginning) if beginning == BYTE_ORDER_MARK else 0)
    try:
        columns = next(records(lines, delimiter), [])
    except UnclosedQuoteError:
        columns = "has a quote that is opened and not closed"
    if isinstance(columns, str):
        raise BulkError(f"The header row of {name} {columns}: the first row must name the columns.")
    twice = {column for column in columns if columns.count(column) > 1}
    if twice:
        raise BulkError(
            f"The header row of {name} has {', '.join(sorted(twice))} more than once: give each its own name."
        )
    return columns, lines.position


def csv_rows(lines: Lines, delimiter: str, columns: Sequence[str], file: str, number: int) -> Iterator[Row | BadRow]:
    """The rows of records, of which the first has this number. An empty line is a bad row.

    Raises:
        UnclosedQuoteError: they end within a quoted field.
    """
    for number, record in enumerate(records(lines, delimiter), number):  # noqa: B020
        if isinstance(record, str):
            yield BadRow(file, number, None, record)
        elif not record:
            yield BadRow(file, number, None, "is an empty line")
        elif len(record) != len(columns):
            yield BadRow(file, number, None, f"has {len(record)} fields, and the header names {len(columns)}")
        else:
            yield Row(file, number, None, dict(zip(columns, record, strict=True)))


def records(lines: Lines, delimiter: str) -> Iterator[Record]:
    """The records; after each `lines` stands at its end. One that is wrong ends with its line.

    Raises:
        UnclosedQuoteError: as above.
    """
    csv.field_size_limit(LONGEST_LINE)
    text = _Text(lines)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        text.begin_record()
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if text.ended:
                raise UnclosedQuoteError from error
            yield f"is not CSV: {error}"
            continue
        yield "is not UTF-8" if text.invalid else record


class _Text:
    """Lines as text; bytes that are not UTF-8 are let through, and spoil only their record.

    Attributes:
        invalid: whether the record has had such bytes.
        ended: whether there is no line any more.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.invalid = False
        self.ended = False
        self._begin = lines.position

    def begin_record(self) -> None:
        """What comes belongs to another record."""
        self.invalid = False
        self._begin = self._lines.position

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, b"")
        if line is None or self._lines.position - self._begin > LONGEST_LINE:
            raise UnclosedQuoteError
        if not line:
            self.ended = True
            raise StopIteration
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.invalid = True
            return line.decode("utf-8", "surrogateescape")
