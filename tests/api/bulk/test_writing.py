"""Outputs: input columns as they were, new ones beside, and a name only for what is whole."""

import datetime
import decimal
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.bulk.chunking import chunks_of, read_chunk
from api.bulk.errors import BulkError
from api.bulk.jsonl_output import spliced
from api.bulk.rows import Row
from api.bulk.sources import find_inputs
from api.bulk.writing import OutputFormat, join_parts, part_writer


def scored(path: Path, output: Path | str, output_format: OutputFormat, folder: Path, chunk: int = 2) -> None:
    """Each row gets its number as score and as vector."""
    parts = []
    for source in find_inputs([str(path)]):
        for number, each in enumerate(chunks_of(source, chunk, folder / "spool")):
            part = folder / "parts" / str(number)
            parts.append(part)
            with part_writer(part, output_format, input_format=source.format) as writer:
                for row in read_chunk(each):
                    if isinstance(row, Row):
                        vector = np.array([row.number, 0.5], "<f4")
                        writer.write(row, {"score": float(row.number), "embedding": vector})
    join_parts(parts, str(output), output_format)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{}", b'{"score":1.5}'),
        (b"{ } ", b'{ "score":1.5} '),
        (b'{"a": 1}\r', b'{"a": 1,"score":1.5}\r'),
        (b'  {"a": "}" , "b": {}\t}', b'  {"a": "}" , "b": {}\t,"score":1.5}'),
        (b'{"a":1e400000,"a":2}', b'{"a":1e400000,"a":2,"score":1.5}'),
    ],
)
def test_new_columns_stand_before_the_last_brace_of_a_line(line: bytes, expected: bytes) -> None:
    values = {"a": 1} if b'"' in line else {}
    assert spliced(line, values, {"score": 1.5}) == expected
    assert spliced(line, values, {}) == line


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.sampled_from(["", " ", "\t\r"]))
def test_a_line_with_new_columns_reads_as_the_row_with_them(values: dict[str, Any], blanks: str) -> None:
    raw = orjson.dumps(values) + blanks.encode()
    line = spliced(raw, values, {"score of it": [0.5, None]})
    assert orjson.loads(line) == {**values, "score of it": [0.5, None]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=3), max_size=9), st.integers(1, 4), st.booleans())
def test_every_line_comes_out_once_in_order_and_with_its_bytes(
    tmp_path: Path, rows: list[dict[str, Any]], chunk: int, ended: bool
) -> None:
    lines = [json.dumps(row, ensure_ascii=number % 2 == 0).encode() + b" \r" for number, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n" * ended * bool(lines))
    scored(tmp_path / "a.jsonl", tmp_path / "out.jsonl", "jsonl", tmp_path, chunk)
    found = (tmp_path / "out.jsonl").read_bytes().split(b"\n")
    assert found.pop() == b""
    new = [b'"score":%d.0,"embedding":[%d.0,0.5]} \r' % (number, number) for number in range(1, len(lines) + 1)]
    assert found == [
        line[:-3] + (b"," if row else b"") + columns for row, line, columns in zip(rows, lines, new, strict=True)
    ]


def test_not_a_number_becomes_null() -> None:
    assert spliced(b"{}", {}, {"score": float("nan")}) == b'{"score":null}'


def test_csv_becomes_json_of_strings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,"x\n""y"""\n')
    scored(tmp_path / "a.csv", tmp_path / "out.jsonl", "jsonl", tmp_path)
    assert (tmp_path / "out.jsonl").read_bytes() == b'{"a":"1","b":"x\\n\\"y\\"","score":1.0,"embedding":[1.0,0.5]}\n'


TYPED = pa.table(
    {
        "id": pa.array([1, None, 3], pa.int16()),
        "bytes": [b"\xff", b"", None],
        "day": pa.array([datetime.date(2020, 1, 2)] * 3),
        "at": pa.array([1_577_836_800_123_456_789] * 3, pa.timestamp("ns", "UTC")),
        "price": pa.array([decimal.Decimal("1.50")] * 3, pa.decimal128(9, 2)),
        "took": pa.array([1500] * 3, pa.duration("ms")),
        "ratio": pa.array([float("nan"), float("inf"), 0.5], pa.float64()),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "chat": pa.array([[{"role": "user", "content": "a", "name": None}], [], None]),
    }
).replace_schema_metadata({"made": "by hand"})


def test_parquet_becomes_json_with_plain_values(tmp_path: Path) -> None:
    pq.write_table(TYPED, tmp_path / "a.parquet")
    scored(tmp_path / "a.parquet", tmp_path / "out.jsonl", "jsonl", tmp_path)
    first = orjson.loads((tmp_path / "out.jsonl").read_bytes().splitlines()[0])
    assert first == {
        "id": 1,
        "bytes": "/w==",
        "day": "2020-01-02",
        "at": "2020-01-01T00:00:00.123456+00:00",
        "price": "1.50",
        "took": 1.5,
        "ratio": None,
        "kind": "x",
        "chat": [{"content": "a", "name": None, "role": "user"}],
        "score": 1.0,
        "embedding": [1.0, 0.5],
    }


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_parquet_keeps_values_and_types_of_its_columns(tmp_path: Path, chunk: int) -> None:
    pq.write_table(TYPED, tmp_path / "a.parquet", row_group_size=2)
    scored(tmp_path / "a.parquet", tmp_path / "out.parquet", "parquet", tmp_path, chunk)
    before, found = pq.read_table(tmp_path / "a.parquet"), pq.read_table(tmp_path / "out.parquet")
    # NaN equals nothing: compared by what is written of it.
    assert str(found.column("ratio").to_pylist()) == str(before.column("ratio").to_pylist())
    assert found.select(before.column_names).drop_columns("ratio").equals(before.drop_columns("ratio"))
    assert found.schema.metadata[b"made"] == b"by hand"
    assert found.schema.field("score").type == pa.float32()
    assert found.schema.field("embedding").type == pa.list_(pa.float32())
    assert found.column("embedding").to_pylist() == [[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]]


DRIFT: Sequence[tuple[str, list[Any], str]] = [
    ("null first", [None, None, "x"], "string"),
    ("absent last", ["x", "x"], "string"),
    ("integer, then float", [1, 2, 2.5], "double"),
    ("lists, empty first", [[], [], ["a"]], "list<item: string>"),
    ("objects of other fields", [{"a": 1}, {"a": None}, {"b": [None]}], "struct<a: int64, b: list<item: null>>"),
    ("objects in lists", [[{"a": 1}], [], [{"b": "x"}, None]], "list<item: struct<a: int64, b: string>>"),
    ("number, then list", [1.5, None, [2.5, 3.5]], "list<item: double>"),
    ("objects without fields", [{}, {}, {}], "null"),
    ("objects without fields first", [{}, {}, {"a": "x"}], "struct<a: string>"),
]


@pytest.mark.parametrize(("values", "kind"), [each[1:] for each in DRIFT], ids=[each[0] for each in DRIFT])
def test_types_that_drift_are_brought_together(tmp_path: Path, values: list[Any], kind: str) -> None:
    rows = [{"it": value, "n": number} for number, value in enumerate(values)] + [{"n": -1}]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    scored(tmp_path / "a.jsonl", tmp_path / "out.parquet", "parquet", tmp_path)
    found = pq.read_table(tmp_path / "out.parquet")
    assert str(found.schema.field("it").type).replace("element", "item") == kind
    assert [plain(value) for value in found.column("it").to_pylist()] == [*map(plain, values), None]


def plain(value: Any) -> Any:
    """Without the fields that an object got from others, and a number as the list that it becomes beside lists."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if each is not None} or None
    if isinstance(value, list):
        return value if 2.5 in value or 1.5 in value else [plain(each) for each in value]
    return [value] if value == 1.5 else value


@pytest.mark.parametrize("values", [["x", 1], ["x", "x", 1], [[1], [2], {"a": 1}]])
def test_types_without_one_in_common_are_an_error_that_names_the_column(tmp_path: Path, values: list[Any]) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(f'{{"it": {each!r}}}'.replace("'", '"') for each in values))
    with pytest.raises(BulkError, match=r"column it have no type in common.*\.jsonl"):
        scored(tmp_path / "a.jsonl", tmp_path / "out.parquet", "parquet", tmp_path)
    assert not list(tmp_path.glob("out*"))


def test_the_join_goes_to_storage_by_url(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}')
    scored(tmp_path / "a.jsonl", "memory://joined/out.jsonl", "jsonl", tmp_path)
    system = fsspec.filesystem("memory")
    assert system.cat("/joined/out.jsonl").count(b"\n") == 3
    assert [Path(name).name for name in system.ls("/joined", detail=False)] == ["out.jsonl"]


def test_what_a_killed_join_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("{}\n")
    left, other = "out.jsonl.tmp-123-0123abcd", "out.jsonl.tmp-mine"
    (tmp_path / left).touch()
    (tmp_path / other).touch()
    system = fsspec.filesystem("memory")
    system.pipe(f"/left/{left}", b"")
    for output in (f"file://{tmp_path}/out.jsonl", "memory://left/out.jsonl"):
        join_parts([tmp_path / "part"], output, "jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", other, "part"]
    assert [Path(name).name for name in system.ls("/left", detail=False)] == ["out.jsonl"]


def test_an_error_within_leaves_nothing_and_what_was_there_before(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_text("before")
    row = Row("a", 1, b"{}", {})
    with pytest.raises(ZeroDivisionError), part_writer(part, "jsonl", input_format="jsonl") as writer:
        writer.write(row, {"score": 1 / 0})
    with pytest.raises(BulkError, match=r"gone is not there"):
        join_parts([part, tmp_path / "gone"], str(part), "jsonl")
    assert part.read_text() == "before"
    assert list(tmp_path.iterdir()) == [part]


FULL = """
import sys
from pathlib import Path
from api.bulk.errors import BulkError
from api.bulk.rows import Row
from api.bulk.writing import join_parts, part_writer

what, folder, output_format = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
try:
    if what == "part":
        with part_writer(folder / "out", output_format, input_format="jsonl") as writer:
            for number in range(4000):
                import random
                text = random.Random(number).randbytes(500).hex()
                writer.write(Row("a", number, b'{"a": "%s"}' % text.encode(), {"a": text}), {"score": 1.0})
    else:
        join_parts([Path(each) for each in sys.argv[4:]], str(folder / "out"), output_format)
except BulkError as error:
    print(error)
"""


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
@pytest.mark.parametrize("what", ["part", "join"])
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, what: str, output_format: OutputFormat) -> None:
    big = tmp_path / "part"
    with part_writer(big, output_format, input_format="jsonl") as writer:
        for number in range(3000):
            text = os.urandom(500).hex()
            writer.write(Row("a", number, b'{"a": "%s"}' % text.encode(), {"a": text}), {"score": 1.0})
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True)

    mounted = mount.returncode == 0

    def limit() -> None:
        # Where nothing can be mounted: files of this size stand for the disk.
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    try:
        command = [sys.executable, "-c", FULL, what, str(small), output_format, str(big)]
        found = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
        assert found.stderr == ""
        assert found.stdout.startswith(f"{small / 'out'} cannot be written, the disk is full (")
        assert "run the same command again" in found.stdout
        assert not list(small.iterdir())
    finally:
        if mounted:
            subprocess.run(["umount", small], check=True)
