"""Rows of JSON Lines (jsonlines.org): an object a line, in UTF-8."""

from collections.abc import Iterator
from typing import BinaryIO

import orjson

from api.bulk.errors import BulkError
from api.bulk.lines import BYTE_ORDER_MARK, LONGEST_LINE, Lines
from api.bulk.rows import BadRow, Row

_KINDS = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}


def first_byte(file: BinaryIO, name: str) -> int:
    """Where the first line begins: behind a byte order mark, which belongs to no row.

    Raises:
        BulkError: the file is another kind of JSON or text.
    """
    file.seek(0)
    beginning = file.read(64)
    begin = len(BYTE_ORDER_MARK) if beginning.startswith(BYTE_ORDER_MARK) else 0
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BulkError(f"{name} is UTF-16: make it UTF-8, for example by `iconv -f UTF-16 -t UTF-8`.")
    if name.endswith(".json") and beginning[begin:].lstrip().startswith(b"["):
        raise BulkError(f"{name} is one JSON list and not a row a line: make it JSON Lines by `jq -c '.[]'`.")
    return begin


def jsonl_rows(lines: Lines, file: str, number: int) -> Iterator[Row | BadRow]:
    """The rows of lines, of which the first has this number. Every line is a row: an empty one is a bad row."""
    for number, line in enumerate(lines, number):  # noqa: B020
        yield _row(line, file, number)


def _row(line: bytes | None, file: str, number: int) -> Row | BadRow:
    if line is None:
        return BadRow(file, number, None, f"is longer than {LONGEST_LINE} bytes")
    raw = line.removesuffix(b"\n")
    if not raw.strip():
        return BadRow(file, number, None, "is an empty line")
    try:
        values = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return BadRow(file, number, None, _reason(raw, error))
    if not isinstance(values, dict):
        return BadRow(file, number, None, f"is {_KINDS[type(values)]}; a row must be an object")
    return Row(file, number, raw, values)


def _reason(raw: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return f"is not UTF-8: byte {wrong.start + 1} is 0x{raw[wrong.start]:02x}"
    return f"is not JSON: {error.msg.partition(': line ')[0]} at character {error.pos + 1}"
