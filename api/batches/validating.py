"""The validation of a batch's input: a pass that finds what is wrong, and where the chunks begin."""

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np
import orjson

from api.batches.lines import Line, LineError, parse_line, read_lines
from api.files.storage import Storage

CHUNK_LINES = 100
"""Lines that are claimed, run and written down together: what a process that dies has in vain."""

CHUNK_BYTES = 1024 * 1024
"""After which a chunk ends before it has so many lines: it is whole in memory while it runs, and so are its replies."""

MOST_CHUNKS = 2_000
"""A long input has longer chunks, so that what Redis knows of them is bounded."""

MOST_ERRORS = 100
"""Wrong lines that are told; with so many the rest is not read."""


@dataclass(frozen=True, slots=True)
class Index:
    """How an input is cut: chunk n are the bytes from offsets[n] up to offsets[n + 1]."""

    offsets: list[int]

    @property
    def chunks(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self.offsets)

    @classmethod
    def decode(cls, data: bytes) -> "Index":
        """What `encode` made."""
        return cls(orjson.loads(data))


@dataclass(frozen=True, slots=True)
class Validated:
    """What the pass found.

    Attributes:
        errors: code, message, param and line of what is wrong; empty: nothing is.
        model: that the first line names.
    """

    index: Index
    lines: int
    model: str | None
    errors: list[dict[str, object]]


def validate(storage: Storage, name: str, endpoint: str, longest: int) -> Validated:
    """Reads an input once, in memory that hardly grows with it (8 bytes a line).

    Args:
        longest: bytes of a line.
    """
    errors: list[dict[str, object]] = []
    offsets, at, count, began, model = array("q", [0]), 0, 0, 0, None
    digests = array("Q")
    with storage.reading(name) as file:
        for count, (data, length) in enumerate(read_lines(file, longest), 1):
            at += length
            try:
                line = _parsed(data, endpoint, longest)
            except LineError as error:
                errors.append({"code": error.code, "message": error.message, "param": error.param, "line": count})
                if len(errors) >= MOST_ERRORS:
                    break
                digests.append(_digest(f"\n{count}"))
            else:
                digests.append(_digest(line.custom_id))
                model = line.model if count == 1 else model
            if count - began == CHUNK_LINES or at - offsets[-1] >= CHUNK_BYTES:
                offsets.append(at)
                began = count
    if offsets[-1] != at:
        offsets.append(at)
    if not count:
        errors.append({"code": "empty_file", "message": "The file has no lines.", "param": None, "line": None})
    errors += _duplicates(digests)[: MOST_ERRORS - len(errors)]
    return Validated(_index(list(offsets)), count, model, errors)


def _parsed(data: bytes | None, endpoint: str, longest: int) -> Line:
    if data is None:
        message = f"The line is over {longest} bytes: send less at once, or raise --max-request-bytes."
        raise LineError("line_too_long", message)
    return parse_line(data, endpoint)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _duplicates(digests: "array[int]") -> list[dict[str, object]]:
    """The lines whose custom_id an earlier line has."""
    values = np.frombuffer(digests, np.uint64) if len(digests) else np.empty(0, np.uint64)
    order = np.argsort(values, kind="stable")
    repeated = order[1:][values[order][1:] == values[order][:-1]]
    return [
        {
            "code": "duplicate_custom_id",
            "message": "An earlier line has the same custom_id.",
            "param": "custom_id",
            "line": int(line) + 1,
        }
        for line in sorted(repeated)
    ]


def _index(offsets: list[int]) -> Index:
    """Neighbouring chunks put together where there would be too many."""
    together = -(-(len(offsets) - 1) // MOST_CHUNKS) or 1
    kept = offsets[:-1][::together] + offsets[-1:]
    return Index(kept)
