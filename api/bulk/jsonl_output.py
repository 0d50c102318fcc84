"""Rows as JSON Lines: those that came as JSON keep their bytes, the new columns stand before the last brace."""

import base64
import datetime
import decimal
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from api.bulk.rows import Row
from api.bulk.storage import reading


class JsonlPart:
    """Appends rows to an opened file, each as a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: Row, columns: Mapping[str, Any]) -> None:
        """Appends a row."""
        self._file.write(spliced(row.raw, row.values, columns) if row.raw is not None else encoded(row.values, columns))
        self._file.write(b"\n")

    def close(self) -> None:
        """Does nothing: no row is held."""


def join_jsonl(parts: Sequence[Path], output: BinaryIO) -> None:
    """Appends the lines of parts to an opened file."""
    for part in parts:
        with reading(str(part)):
            file = part.open("rb")
        with file:
            shutil.copyfileobj(file, output, 1 << 20)


def spliced(raw: bytes, values: Mapping[str, Any], columns: Mapping[str, Any]) -> bytes:
    """The bytes of an object with more columns before its last brace; what stands behind the brace stays there."""
    if not columns:
        return raw
    brace = raw.rindex(b"}")
    comma = b"," if values else b""
    return b"".join((raw[:brace], comma, _dumps(columns)[1:], raw[brace + 1 :]))


def encoded(values: Mapping[str, Any], columns: Mapping[str, Any]) -> bytes:
    """A row that did not come as JSON.

    Dates and times are ISO 8601, bytes base64, decimals strings, durations seconds; numbers that JSON does not have
    (NaN, the infinities) are null.
    """
    return _dumps({**values, **columns})


def _dumps(values: Mapping[str, Any]) -> bytes:
    return orjson.dumps(values, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: object) -> object:
    match value:
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case decimal.Decimal():
            return str(value)
        case datetime.timedelta():
            return value.total_seconds()
    raise TypeError(f"no JSON for {type(value).__name__}")
