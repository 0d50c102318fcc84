"""The validation of a batch's input: a pass that finds what is wrong, and where the chunks begin."""

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np
import orjson

from api.batches.lines import LineError, parse_line
from api.files.storage import Storage

CHUNK_LINES = 100
"""Lines that are claimed, run and written down together: what a process that dies has in vain."""

MOST_CHUNKS = 2_000
"""A long input has longer chunks, so that what Redis knows of them is bounded."""

MOST_ERRORS = 100
"""Wrong lines that are told; with so many the rest is not read."""


@dataclass(frozen=True, slots=True)
class Index:
    """How an input is cut: chunk n are the bytes from offsets[n] up to offsets[n + 1].

    Attributes:
        lines: in each chunk but the last.
    """

    lines: int
    offsets: list[int]

    @property
    def chunks(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps([self.lines, self.offsets])

    @classmethod
    def decode(cls, data: bytes) -> "Index":
        """What `encode` made."""
        return cls(*orjson.loads(data))


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


def validate(storage: Storage, name: str, endpoint: str) -> Validated:
    """Reads an input once, in memory that hardly grows with it (8 bytes a line)."""
    errors: list[dict[str, object]] = []
    offsets, at, count, model = array("q", [0]), 0, 0, None
    digests = array("Q")
    with storage.reading(name) as file:
        for count, data in enumerate(file, 1):
            at += len(data)
            try:
                line = parse_line(data, endpoint)
            except LineError as error:
                errors.append({"code": error.code, "message": error.message, "param": error.param, "line": count})
                if len(errors) >= MOST_ERRORS:
                    break
                digests.append(_digest(f"\n{count}"))
            else:
                digests.append(_digest(line.custom_id))
                model = line.model if count == 1 else model
            if count % CHUNK_LINES == 0:
                offsets.append(at)
    if offsets[-1] != at:
        offsets.append(at)
    if not count:
        errors.append({"code": "empty_file", "message": "The file has no lines.", "param": None, "line": None})
    errors += _duplicates(digests)[: MOST_ERRORS - len(errors)]
    return Validated(_index(list(offsets)), count, model, errors)


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
    return Index(CHUNK_LINES * together, kept)
