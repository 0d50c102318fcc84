"""Chunks: every row once and in order, whatever the file is and wherever it is cut; and what has changed is found."""

import csv
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.bulk import lines
from api.bulk.chunking import Chunk, chunks_of, read_chunk
from api.bulk.errors import BulkError
from api.bulk.rows import BadRow, Row
from api.bulk.sources import Source, find_inputs

once_a_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def chunked(path: Path | str, rows: int, folder: Path) -> list[Chunk]:
    [source] = find_inputs([str(path)])
    return [Chunk.decode(chunk.encode()) for chunk in chunks_of(source, rows, folder / "spool")]


def rows_in(path: Path | str, rows: int, folder: Path) -> list[Row | BadRow]:
    """Of all chunks, which are read from the last to the first: each stands alone."""
    chunks = chunked(path, rows, folder)
    assert all(chunk.rows <= rows for chunk in chunks)
    found = [list(read_chunk(chunk)) for chunk in reversed(chunks)]
    assert [len(each) for each in found] == [chunk.rows for chunk in reversed(chunks)]
    return [row for each in reversed(found) for row in each]


GOOD = [b'{"a": 1}', b"{}", b'{"a": "\xc3\xa4"}\r']
JSON_LINES = st.sampled_from([*GOOD, b"", b"[]", b"\xff", b'{"a"', b" ", b'{"b": NaN}'])


@once_a_test
@given(st.lists(JSON_LINES, max_size=12), st.integers(1, 5), st.booleans(), st.booleans())
def test_every_line_is_a_row_once_and_in_order(
    tmp_path: Path, content: list[bytes], size: int, ended: bool, marked: bool
) -> None:
    text = b"\n".join(content) + (b"\n" if content and ended else b"")
    (tmp_path / "a.jsonl").write_bytes((b"\xef\xbb\xbf" if marked else b"") + text)
    expected = text.split(b"\n")
    if not expected[-1]:
        expected.pop()
    found = rows_in(tmp_path / "a.jsonl", size, tmp_path)
    assert [row.number for row in found] == list(range(1, len(expected) + 1))
    for row, line in zip(found, expected, strict=True):
        assert isinstance(row, Row) == (line in GOOD)
        if isinstance(row, Row):
            assert row.raw == line


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "is an empty line"),
        (b"[1]", "is a list; a row must be an object"),
        (b'"x"', "is a string; a row must be an object"),
        (b"null", "is null; a row must be an object"),
        (b'{"a": "\xff"}', "is not UTF-8: byte 8 is 0xff"),
        (b'{"a": 1', "is not JSON: "),
        (b'{"a": NaN}', "at character 7"),
        (b'{"a": "%s"}' % (b"x" * 100), "is longer than 80 bytes"),
    ],
)
def test_a_bad_line_says_why_and_spoils_no_other(
    tmp_path: Path, line: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 80)
    monkeypatch.setattr("api.bulk.jsonl.LONGEST_LINE", 80)
    (tmp_path / "a.jsonl").write_bytes(b'{"a":1}\n' + line + b'\n{"a":3}\n')
    first, bad, last = rows_in(tmp_path / "a.jsonl", 1, tmp_path)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.column) == (2, None)
    assert reason in bad.reason


FIELDS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")), min_size=2, max_size=2)


@once_a_test
@given(st.lists(FIELDS, max_size=8), st.integers(1, 4), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_every_record_of_csv_is_a_row_with_its_newlines_and_quotes(
    tmp_path: Path, content: list[list[str]], size: int, marked: bool, end: str
) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b\nc"], *content])
    (tmp_path / "a.csv").write_bytes((b"\xef\xbb\xbf" if marked else b"") + text.getvalue().encode())
    found = rows_in(tmp_path / "a.csv", size, tmp_path)
    assert [dict(row.values) if isinstance(row, Row) else row for row in found] == [
        {"a": first, "b\nc": second} for first, second in content
    ]
    assert [row.number for row in found] == list(range(1, len(content) + 1))


def test_a_bad_record_of_csv_says_why_and_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b'a\tb\n1\t2\n1\n\n\xff\t2\n"1"x\t2\n1\t2\t3\n"1\n\xff"\t2\n8\t9')
    found = rows_in(tmp_path / "a.tsv", 2, tmp_path)
    assert [row.reason if isinstance(row, BadRow) else dict(row.values) for row in found] == [
        {"a": "1", "b": "2"},
        "has 1 fields, and the header names 2",
        "is an empty line",
        "is not UTF-8",
        "is not CSV: '\t' expected after '\"'",
        "has 3 fields, and the header names 2",
        "is not UTF-8",
        {"a": "8", "b": "9"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b'a,b\n1,2\n1,"2\n3,4\n', "Row 2 of {path} opens a quote that is not closed"),
        ("a.csv", b"a,a\n1,2\n", "The header row of {path} has a more than once"),
        ("a.csv", b"\xff,b\n1,2\n", "The header row of {path} is not UTF-8"),
        ("a.csv", b'"a,b\n', "The header row of {path} has a quote that is opened and not closed"),
        ("a.csv", "a,b\n".encode("utf-16"), "{path} is UTF-16"),
        ("a.jsonl", "{}\n".encode("utf-16"), "{path} is UTF-16"),
        ("a.json", b' [{"a": 1}]', "{path} is one JSON list"),
        ("a.jsonl.gz", gzip.compress(os.urandom(3000))[:2000], "{path} breaks off after "),
        ("a.jsonl.zst", pa.compress(os.urandom(3000), codec="zstd", asbytes=True)[:2000], "{path} breaks off after 0 "),
        ("a.jsonl.gz", b"", "{path} breaks off after 0 bytes"),
        ("a.jsonl.gz", b'{"a": 1}', "{path} is broken (Not a gzipped file"),
        ("a.jsonl.zst", b'{"a": 1}' * 9, "{path} is broken ("),
        ("a.parquet", b'{"a": 1}' * 9, "{path} is no whole Parquet file ("),
        ("a.parquet", b"", "{path} is no whole Parquet file ("),
    ],
)
def test_a_broken_file_is_one_sentence_that_names_it(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BulkError) as error:
        rows_in(path, 10, tmp_path)
    assert sentence.format(path=path) in str(error.value)
    assert not list((tmp_path / "spool").glob("*")) if (tmp_path / "spool").exists() else True


def test_an_unclosed_quote_is_found_before_the_whole_file_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.bulk.csv_rows.LONGEST_LINE", 1000)
    (tmp_path / "a.csv").write_bytes(b'a,b\n1,2\n1,"2\n' + b"3,4\n" * 1000 + b'1,"2"\n')
    with pytest.raises(BulkError, match=r"Row 2 of .* opens a quote"):
        rows_in(tmp_path / "a.csv", 10, tmp_path)


def test_files_without_rows_give_no_chunk(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "none.parquet")
    for name, content in {"a.jsonl": b"", "b.jsonl": b"\xef\xbb\xbf", "c.csv": b"", "d.csv": b"a,b\n"}.items():
        (tmp_path / name).write_bytes(content)
        assert chunked(tmp_path / name, 10, tmp_path) == []
    assert chunked(tmp_path / "none.parquet", 10, tmp_path) == []


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_a_compressed_file_is_unpacked_once(tmp_path: Path, compression: str) -> None:
    text = b"".join(b'{"a": %d}\n' % number for number in range(10))
    # Two members, as `cat` makes them of two files.
    packed = {"gz": gzip.compress, "zst": lambda part: pa.compress(part, codec="zstd", asbytes=True)}[compression]
    path = tmp_path / f"a.jsonl.{compression}"
    path.write_bytes(packed(text[:50]) + packed(text[50:]))
    assert [row.values["a"] for row in rows_in(path, 3, tmp_path) if isinstance(row, Row)] == list(range(10))
    [spooled] = (tmp_path / "spool").iterdir()
    before = spooled.stat()
    assert [chunk.source for chunk in chunked(path, 5, tmp_path)] == [str(path), str(path)]
    assert spooled.stat() == before
    path.write_bytes(packed(text[:63]))
    assert len(rows_in(path, 3, tmp_path)) == 7


def test_a_file_on_storage_by_url_is_read_in_place(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/read/a.jsonl", b'{"a": 0}\n{"a": 1}\n{"a": 2}')
    system.pipe("/read/b.csv.gz", gzip.compress(b"a\n0\n1\n2\n"))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [0, 1, 2]}), buffer)
    system.pipe("/read/c.parquet", buffer.getvalue())
    for name in ("a.jsonl", "b.csv.gz", "c.parquet"):
        found = rows_in(f"memory://read/{name}", 2, tmp_path)
        assert [int(row.values["a"]) for row in found if isinstance(row, Row)] == [0, 1, 2]
        assert found[0].file == f"memory:///read/{name}"


@pytest.mark.parametrize("order", [list, lambda chunks: chunks[::-1], lambda chunks: chunks[::2] + chunks[1::2]])
@pytest.mark.parametrize("group", [1000, 700, 100])
def test_ranges_of_parquet_are_read_in_any_order(tmp_path: Path, group: int, order: Callable[[Any], Any]) -> None:
    table = pa.table({"a": range(1500), "b": [[{"c": str(number)}] for number in range(1500)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=group)
    chunks = chunked(tmp_path / "a.parquet", 300, tmp_path)
    found = {chunk: list(read_chunk(chunk)) for chunk in order(chunks)}
    rows = [row for chunk in chunks for row in found[chunk]]
    assert [row.number for row in rows] == list(range(1, 1501))
    assert [row.values for row in rows if isinstance(row, Row)] == table.to_pylist()


def test_two_readers_of_one_row_group_do_not_disturb_each_other(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(1000)}), tmp_path / "a.parquet")
    first, second = chunked(tmp_path / "a.parquet", 500, tmp_path)
    pairs = list(zip(read_chunk(first), read_chunk(second), strict=True))
    assert [(one.number, other.number) for one, other in pairs] == [(n, n + 500) for n in range(1, 501)]


def test_a_chunk_is_another_when_its_input_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n1\n2\n3\n4\n")
    (tmp_path / "b.csv").write_bytes(b"b\n1\n2\n3\n4\n")
    (tmp_path / "c.csv").write_bytes(b"a\n1\n2\n3\n5\n")
    one, header, row = (chunked(tmp_path / name, 2, tmp_path) for name in ("a.csv", "b.csv", "c.csv"))
    digests = [[chunk.digest for chunk in chunks] for chunks in (one, header, row)]
    assert digests[0][0] != digests[1][0]
    assert digests[0][0] == digests[2][0]
    assert digests[0][1] != digests[2][1]


CHANGES = {
    "a.jsonl": [b'{"a": 1}\n{"a": 3}\n', b'{"a": 1}\n{"a"\n: 2}\n', b'{"a": 1}\n', b""],
    "a.csv": [b"b\n1\n2\n", b"a\n1\n3\n", b"aa\n1\n2\n", b"a\n1\n", b'a\n1\n"\n', b""],
}


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, contents in CHANGES.items() for each in contents])
def test_a_file_that_changed_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n' if name == "a.jsonl" else b"a\n1\n2\n")
    [chunk] = chunked(path, 10, tmp_path)
    path.write_bytes(content)
    with pytest.raises(BulkError, match=r"has changed since its rows 1 to 2 were planned: .* --restart"):
        list(read_chunk(chunk))
    path.unlink()
    with pytest.raises(BulkError, match="is not there"):
        list(read_chunk(chunk))


def test_parquet_that_changed_is_refused_also_where_a_reader_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3, 4]}), path)
    first, second = chunked(path, 2, tmp_path)
    assert len(list(read_chunk(first))) == 2
    pq.write_table(pa.table({"a": [1, 2, 3, 5]}), path)
    for chunk in (second, first):
        with pytest.raises(BulkError, match="has changed"):
            list(read_chunk(chunk))
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(BulkError, match="has changed"):
        list(read_chunk(first))


def test_a_source_says_how_it_is_read() -> None:
    assert Source("/a/b.tsv.gz", "csv", "gz").delimiter == "\t"
    assert Source("/a.tsv/b.tsv.csv", "csv").delimiter == ","
