"""What is found wrong with an input, and how it is cut."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.batches.validating import CHUNK_BYTES, CHUNK_LINES, MOST_CHUNKS, MOST_ERRORS, Index, Validated, validate
from api.files.storage import Storage

ENDPOINT = "/v1/embeddings"
LONGEST = 10_000


def line(custom_id: Any, text: str = "x", **changes: Any) -> bytes:
    found = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": {"model": "m", "input": text}}
    return json.dumps({**found, **changes}).encode() + b"\n"


def validated(tmp_path: Path, data: bytes, longest: int = LONGEST) -> Validated:
    storage = Storage(str(tmp_path))
    storage.put("in", data)
    return validate(storage, "in", ENDPOINT, longest)


def test_an_input_in_order_is_cut_into_chunks_of_whole_lines(tmp_path: Path) -> None:
    lines = [line(str(number)) for number in range(2 * CHUNK_LINES + 1)]
    found = validated(tmp_path, b"".join(lines))
    assert (found.errors, found.lines, found.model) == ([], len(lines), "m")
    sizes = [len(b"".join(lines[:count])) for count in (0, CHUNK_LINES, 2 * CHUNK_LINES, len(lines))]
    assert found.index == Index(sizes) == Index.decode(found.index.encode())


def test_long_lines_make_chunks_of_few(tmp_path: Path) -> None:
    lines = [line(str(number), "x" * 400_000) for number in range(10)]
    found = validated(tmp_path, b"".join(lines), longest=500_000)
    assert found.errors == []
    sizes = [end - begin for begin, end in zip(found.index.offsets, found.index.offsets[1:], strict=False)]
    assert sum(sizes) == sum(map(len, lines))
    assert max(sizes) < CHUNK_BYTES + len(lines[0])


def test_chunks_are_never_more_than_redis_is_to_know_of(tmp_path: Path) -> None:
    found = validated(tmp_path, b"".join(line(str(number)) for number in range(CHUNK_LINES * MOST_CHUNKS + 1)))
    assert MOST_CHUNKS / 2 < found.index.chunks <= MOST_CHUNKS


@pytest.mark.parametrize(
    ("data", "code", "param", "number"),
    [
        (b"", "empty_file", None, None),
        (line("a") + b"\n" + line("b"), "invalid_json_line", None, 2),
        (line("a") + b'{"custom_id": "b", ', "invalid_json_line", None, 2),
        (b"[]\n", "invalid_json_line", None, 1),
        (line("a") + line(None), "invalid_custom_id", "custom_id", 2),
        (line(""), "invalid_custom_id", "custom_id", 1),
        (line("a") + line("b") + line("a"), "duplicate_custom_id", "custom_id", 3),
        (line("a", method="GET"), "invalid_method", "method", 1),
        (line("a", url="/v1/rerank"), "mismatched_url", "url", 1),
        (line("a", body="x"), "invalid_body", "body", 1),
        (line("a") + line("b", "x" * LONGEST) + line("c"), "line_too_long", None, 2),
        (line("a") + line("b", "x" * 5 * LONGEST)[:-1], "line_too_long", None, 2),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, data: bytes, code: str, param: str | None, number: int | None
) -> None:
    errors = validated(tmp_path, data).errors
    assert [(each["code"], each["param"], each["line"]) for each in errors] == [(code, param, number)]


def test_the_limit_of_a_line_names_the_flag_that_moves_it(tmp_path: Path) -> None:
    (error,) = validated(tmp_path, line("a", "x" * LONGEST)).errors
    assert "--max-request-bytes" in str(error["message"])
    exact = line("a", "x" * 50)
    assert validated(tmp_path, exact, longest=len(exact)).errors == []


def test_the_first_hundred_wrong_lines_are_told(tmp_path: Path) -> None:
    found = validated(tmp_path, b"x\n" * 500)
    assert [each["line"] for each in found.errors] == list(range(1, MOST_ERRORS + 1))
