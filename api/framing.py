"""A reply as one frame of bytes, for callers that fetch millions of vectors: no base64, no parsing of numbers.

A frame is 4 bytes `MPF1` (magic and version), the header's length as little-endian uint32, the header as JSON with
spaces at its end, and the numbers, row after row, little-endian. They begin at a multiple of 8 bytes.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import Request, Response
from numpy.typing import NDArray

MEDIA_TYPE = "application/octet-stream"

MAGIC = b"MPF1"

ALIGNMENT = 8

FRAMED: dict[str, Any] = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
"""What OpenAPI says of the reply of a route that has it in both forms."""

_JSON = "application/json"


def wants_frame(request: Request) -> bool:
    """Whether the caller's Accept header names the frame's type, and likes JSON no better.

    A wildcard does not name it: every client sends one.
    """
    qualities = dict(_media_ranges(request.headers.getlist("accept")))
    wanted = qualities.get(MEDIA_TYPE, 0.0)
    others = (qualities[each] for each in (_JSON, "application/*", "*/*") if each in qualities)
    return wanted > 0 and wanted >= next(others, 0.0)


def frame_response(header: Mapping[str, Any], rows: NDArray[Any], counts: Sequence[int] | None = None) -> Response:
    """A reply of numbers.

    Args:
        header: what a JSON reply says beside the numbers: id, model, created, usage.
        rows: the numbers, of any type but object, [n] or [n, m].
        counts: where an item has several rows, how many each has; the rows lie end to end.
    """
    little = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    said = {**header, "dtype": rows.dtype.name, "shape": list(rows.shape)}
    if counts is not None:
        said["counts"] = counts
    text = orjson.dumps(said)
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % ALIGNMENT)
    body = b"".join((MAGIC, struct.pack("<I", len(text)), text, little.tobytes()))
    return Response(body, media_type=MEDIA_TYPE)


def _media_ranges(headers: Sequence[str]) -> list[tuple[str, float]]:
    """The types of Accept headers with their qualities."""
    found = []
    for entry in ",".join(headers).split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        found.append((name, _quality(quality)))
    return found


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # RFC 9110 leaves malformed ones to the server: such an entry asks for nothing.
        return 0.0
