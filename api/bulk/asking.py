"""What a chunk asks of the server: each different request once, requests of one length together, in calls of a size."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from api.bulk.images import sent_size
from api.bulk.rows import BadRow, Row, RowError
from api.bulk.shapes import Shape

ROWS_PER_CALL = 256
BYTES_PER_CALL = 2_000_000
"""Some micro-batches a call: more would only wait longer in the api's memory."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A row that is asked for.

    Attributes:
        requests: which of the chunk's requests it is made of: one, or two for a pair.
        duplicate: that all of them were asked for by rows before it.
    """

    row: Row
    requests: tuple[int, ...]
    duplicate: bool


@dataclass(slots=True)
class Questions:
    """All that a chunk asks.

    Attributes:
        rows: its rows in order, the bad ones among them.
        requests: the different requests, as JSON.
    """

    rows: list[Asked | BadRow] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    def calls(self, most: Callable[[], int] = lambda: ROWS_PER_CALL) -> Iterator[list[int]]:
        """The requests by calls, short ones first: those of one length share micro-batches.

        Args:
            most: how many a call may have, asked for each.
        """
        call: list[int] = []
        size, allowed = 0, most()
        sizes = [sent_size(each) for each in self.requests]
        for number in sorted(range(len(self.requests)), key=sizes.__getitem__):
            length = sizes[number]
            if call and (len(call) >= allowed or size + length > BYTES_PER_CALL):
                yield call
                call, size, allowed = [], 0, most()
            call.append(number)
            size += length
        if call:
            yield call


def questions_of(rows: Iterable[Row | BadRow], shape: Shape) -> Questions:
    """What these rows ask, identical requests once."""
    found = Questions()
    known: dict[bytes, int] = {}
    for row in rows:
        if isinstance(row, BadRow):
            found.rows.append(row)
            continue
        try:
            requests = [encoded(each) for each in shape.requests(row)]
        except RowError as error:
            found.rows.append(error.of(row))
            continue
        before = len(found.requests)
        numbers = []
        for request in requests:
            digest = hashlib.blake2b(request, digest_size=16).digest()
            if digest not in known:
                known[digest] = len(found.requests)
                found.requests.append(request)
            numbers.append(known[digest])
        found.rows.append(Asked(row, tuple(numbers), duplicate=len(found.requests) == before))
    return found


def encoded(request: Mapping[str, Any]) -> bytes:
    """A row of `POST /v1/rows` as JSON, the same for the same row."""
    return orjson.dumps(request, option=orjson.OPT_SORT_KEYS)


def refused(row: Row, shape: Shape, entries: Sequence[Mapping[str, Any]]) -> BadRow | None:
    """Why a row has no answer, from the entries of its requests; None where it has one."""
    for index, entry in enumerate(entries):
        if "error" in entry:
            reason = str(entry["error"]["message"])
            return BadRow(row.file, row.number, shape.column_of(index), reason)
    return None
