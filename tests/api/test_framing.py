"""Who gets a frame, and where its numbers lie."""

import struct

import numpy as np
import orjson
import pytest
from fastapi import Request

from api.framing import frame_response, wants_frame


def asking(*accept: str) -> Request:
    return Request({"type": "http", "headers": [(b"accept", each.encode()) for each in accept]})


@pytest.mark.parametrize(
    ("accept", "framed"),
    [
        ((), False),
        (("*/*",), False),
        (("application/*",), False),
        (("application/json",), False),
        (("application/octet-stream",), True),
        (("Application/Octet-Stream ; q=0.2",), True),
        (("application/octet-stream;q=0",), False),
        (("application/octet-stream, application/json",), True),
        (("application/octet-stream;q=0.5, application/json",), False),
        (("application/octet-stream;q=0.5, application/json;q=0.4",), True),
        (("application/octet-stream;q=0.5, */*",), False),
        (("application/octet-stream;q=0.5, application/json;q=0.1, */*",), True),
        (("application/json;q=0.1", "application/octet-stream"), True),
        (("application/octet-stream;q=high",), False),
        (("",), False),
        ((";;,,;q=",), False),
    ],
)
def test_only_a_caller_that_names_the_type_gets_a_frame(accept: tuple[str, ...], framed: bool) -> None:
    assert wants_frame(asking(*accept)) is framed


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg"])
def test_the_numbers_begin_at_a_multiple_of_eight_bytes(text: str) -> None:
    rows = np.arange(6, dtype=">f4").reshape(2, 3)
    body = frame_response({"id": text}, rows, [1, 1]).body
    assert body[:4] == b"MPF1"
    (length,) = struct.unpack_from("<I", body, 4)
    assert (8 + length) % 8 == 0
    header = orjson.loads(body[8 : 8 + length])
    assert header == {"id": text, "dtype": "float32", "shape": [2, 3], "counts": [1, 1]}
    assert body[8 + length :] == rows.astype("<f4").tobytes()
