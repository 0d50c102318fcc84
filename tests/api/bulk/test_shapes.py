"""Shapes are found and read as docs/shapes.md shows them, and what is not clear is an error that says what to do."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.bulk.chunking import chunks_of, read_chunk
from api.bulk.errors import BulkError
from api.bulk.forms import FORMS
from api.bulk.results import Outcome
from api.bulk.rows import Row, RowError
from api.bulk.shapes import Overrides, shape_of
from api.bulk.sources import Source

PAGE = (Path(__file__).parents[3] / "docs/shapes.md").read_text("utf-8")
LINE = r"^\| `(.+?)` \| (.+) \| `(\{.*\})` \| (`.*`) \| (.*) \|$"
TASKS = ("score", "embed", "rerank")

SAID = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def examples() -> list[tuple[str, str, str, dict[str, Any], list[Any], list[str]]]:
    """Task, shape, flags, row, requests and columns of each line of the page's tables."""
    found = []
    for task, section in zip(TASKS, re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:4], strict=True):
        for name, met, row, asked, new in re.findall(
            r"^\| `(.+?)` \| (.+) \| `(\{.*\})` \| (`.*`) \| (.*) \|$", section, re.M
        ):
            requests = orjson.loads(f"[{asked.replace('`', '')}]")
            found.append((task, name, met, orjson.loads(row), requests, new.replace("`", "").split(", ")))
    return found


EXAMPLES = examples()
each_example = pytest.mark.parametrize(
    ("task", "name", "met", "row", "requests", "new"), EXAMPLES, ids=[each[2][:40] for each in EXAMPLES]
)


def row_of(values: dict[str, Any], number: int = 1) -> Row:
    return Row("a.jsonl", number, orjson.dumps(values), values)


def entries_for(requests: list[Any], task: str) -> list[dict[str, Any]]:
    if task == "embed":
        return [{"embedding": [0.5]} for _ in requests]
    if task == "rerank":
        return [{"scores": [0.5] * len(request["documents"])} for request in requests]
    return [{"score": [float(len(requests) - index)]} for index, _ in enumerate(requests)]


def step_tag_in(met: str) -> str | None:
    found = re.search(r'--step-tag "(.+?)"', met)
    return found.group(1) if found else None


@each_example
def test_a_row_is_read_as_the_page_says(
    task: str, name: str, met: str, row: dict[str, Any], requests: list[Any], new: list[str]
) -> None:
    shape = shape_of(task, [row_of(row)], Overrides(step_tag=step_tag_in(met)))
    assert shape.name == name
    assert shape.requests(row_of(row)) == requests
    assert list(shape.new_columns) == new
    columns = shape.columns(row_of(row), entries_for(requests, task))
    assert list(columns) == new
    shape.outcome(row_of(row), columns)
    for index, _ in enumerate(requests):
        assert shape.column_of(index) is None or shape.column_of(index) in shape.roles.values()


def test_the_page_has_every_shape_in_the_order_of_precedence_and_every_column() -> None:
    for task in TASKS:
        shown = list(dict.fromkeys(name for each, name, *_ in EXAMPLES if each == task))
        known = [form.name for form in FORMS if task in form.tasks]
        assert sorted(shown) == sorted(known)
        assert task != "score" or shown == known
    assert len(EXAMPLES) >= 25
    for form in FORMS:
        for role, names in {**form.needs, **form.may}.items():
            line = f"| {', '.join(f'`{name}`' for name in names)} |"
            assert re.search(rf"^\| {role}( \(\w+\))? {re.escape(line)}$", PAGE, re.MULTILINE), role


@each_example
def test_parquet_and_csv_give_the_same_requests(
    task: str, name: str, met: str, row: dict[str, Any], requests: list[Any], new: list[str], tmp_path: Path
) -> None:
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    cells = [value if isinstance(value, str) else orjson.dumps(value).decode() for value in row.values()]
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in (list(row), cells)]
    (tmp_path / "a.csv").write_text("\n".join(quoted), "utf-8")
    for source in (Source(str(tmp_path / "a.parquet"), "parquet"), Source(str(tmp_path / "a.csv"), "csv")):
        if source.format == "csv" and "body" in row:
            continue  # An object in a string has no columns of its own.
        [chunk] = chunks_of(source, 10, tmp_path)
        [found] = read_chunk(chunk)
        assert isinstance(found, Row)
        shape = shape_of(task, [found], Overrides(step_tag=step_tag_in(met)))
        assert (shape.name, shape.requests(found)) == (name, requests)


@pytest.mark.parametrize(
    ("task", "rows", "overrides", "sentence"),
    [
        ("score", [], Overrides(), "no readable row"),
        ("score", [{"a": 1}], Overrides(), "No shape of score fits row 1 of a.jsonl, which has a (a number): "),
        ("score", [{}], Overrides(), "which has no columns"),
        ("rerank", [{"text": "a"}], Overrides(), "No shape of rerank fits"),
        (
            "score",
            [{"text": "a"}, {"x": 1}, {"messages": SAID}],
            Overrides(),
            "row 1 of a.jsonl has the shape text (text)",
        ),
        (
            "score",
            [{"text": "a"}, {"x": 1}, {"messages": SAID}],
            Overrides(),
            "row 3 of a.jsonl the shape messages (messages)",
        ),
        ("score", [{"text": "a"}, {"messages": SAID}], Overrides(), "--shape text reads all as that"),
        ("score", [{"text": "a"}], Overrides(shape="chat"), "--shape chat is no shape of score: choose one of pair-"),
        (
            "embed",
            [{"text": "a"}],
            Overrides(shape="pair"),
            "--shape pair is no shape of embed: choose one of messages, ",
        ),
        (
            "score",
            [{"a": "x"}],
            Overrides(shape="pair"),
            "needs a column for prompt and chosen and rejected, and there are a:",
        ),
        ("score", [{"text": 1}], Overrides(shape="text"), "does not fit row 1 of a.jsonl: text is a number"),
        (
            "score",
            [{"a": "x"}],
            Overrides(columns={"text": "b"}),
            "--column text=b names a column that is not there: there are a.",
        ),
        (
            "score",
            [{"a": "x"}],
            Overrides(columns={"texts": "a"}),
            "--column texts=... names no role here: roles are chosen,",
        ),
        ("score", [{"a": "x"}], Overrides(columns={"text": "a", "chosen": "a"}), "no shape has together: chosen, text"),
        (
            "score",
            [{"prompt": "a", "response": "b", "output": "c"}],
            Overrides(),
            "`response` and `output`, either of which",
        ),
        (
            "score",
            [{"prompt": "a", "response": "b", "output": "c"}],
            Overrides(),
            "choose by --column completion=response.",
        ),
        ("score", [{"text": "a", "score": 1}], Overrides(), "has a column score already"),
        ("score", [{"text": "a", "score": 1}], Overrides(), "--column-prefix new_"),
        ("score", [{"prompt": "a", "steps": ["b"]}], Overrides(), "--step-tag does not say what stands behind each"),
    ],
)
def test_what_is_not_clear_is_one_sentence_that_names_the_flag(
    task: str, rows: list[dict[str, Any]], overrides: Overrides, sentence: str
) -> None:
    with pytest.raises(BulkError) as error:
        shape_of(task, [row_of(row, number) for number, row in enumerate(rows, 1)], overrides)
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("row", "overrides", "description"),
    [
        (
            {"prompt": "a", "response": "b", "completion": "c"},
            Overrides(),
            "completion: prompt from `prompt`, completion from `completion`",
        ),
        (
            {"ask": "a", "say": "b"},
            Overrides(columns={"prompt": "ask", "completion": "say"}),
            "completion: prompt from `ask`, completion from `say`",
        ),
        (
            {"q": {"problem": "a"}, "answer": "b"},
            Overrides(columns={"prompt": "q.problem"}),
            "completion: prompt from `q.problem`, completion from `answer`",
        ),
        ({"messages": SAID, "text": "a"}, Overrides(columns={"text": "text"}), "text: text from `text`"),
        ({"messages": SAID, "text": "a"}, Overrides(shape="text"), "text: text from `text`"),
        (
            {"instruction": "a", "output": "b"},
            Overrides(columns={"prompt": "instruction"}),
            "completion: prompt from `instruction`, completion from `output`",
        ),
    ],
)
def test_flags_and_own_names_decide(row: dict[str, Any], overrides: Overrides, description: str) -> None:
    assert shape_of("score", [row_of(row)], overrides).description() == description


def test_nulls_in_the_first_rows_leave_the_shape_to_others() -> None:
    rows = [{"chosen": None, "rejected": None, "text": "a"}, {"chosen": "b", "rejected": "c", "text": "a"}]
    assert shape_of("score", [row_of(row) for row in rows], Overrides()).name == "pair-texts"


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("score", {"text": "a"}, {"text": None}, "text is null; it must be a string"),
    ("score", {"text": "a"}, {"other": "a"}, "text is missing"),
    ("score", {"text": "a"}, {"text": "a", "score": 1}, "score is there already"),
    ("score", {"messages": SAID}, {"messages": []}, "messages is an empty list; it must be a list of messages"),
    ("score", {"messages": SAID}, {"messages": "Hi"}, "messages is a string; it must be a list of messages"),
    ("score", {"messages": SAID}, {"messages": ["Hi"]}, "messages[0] is a string; it must be a message"),
    ("score", {"messages": SAID}, {"messages": [{"role": "user", "content": None}]}, "messages[0].content is null"),
    ("score", {"messages": SAID}, {"messages": [{"content": "a"}]}, "messages[0].role is null; it must be a string"),
    (
        "score",
        {"conversations": [{"from": "human", "value": "a"}]},
        {"conversations": [{"from": "dog", "value": "a"}]},
        "conversations[0].from is 'dog'; known are ",
    ),
    (
        "score",
        {"conversations": [{"from": "human", "value": "a"}]},
        {"conversations": [{"from": "gpt", "value": 1}]},
        "conversations[0].value is a number",
    ),
    (
        "score",
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": None},
        "rejected is null",
    ),
    (
        "score",
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
        {"chosen": "a", "rejected": "b"},
        "chosen must be a text of turns",
    ),
    ("rerank", {"query": "a", "documents": ["b"]}, {"query": "a", "documents": ["b", None]}, "documents[1] is null"),
    ("rerank", {"query": "a", "documents": ["b"]}, {"query": "a", "documents": []}, "documents is an empty list"),
    (
        "rerank",
        {"query": "a", "documents": ["b"]},
        {"query": "a", "documents": [{"id": 1}]},
        "documents[0] has no text under any of text,",
    ),
]


@pytest.mark.parametrize(("task", "first", "later", "reason"), BAD, ids=[each[3] for each in BAD])
def test_a_later_row_that_does_not_fit_is_bad(
    task: str, first: dict[str, Any], later: dict[str, Any], reason: str
) -> None:
    shape = shape_of(task, [row_of(first)], Overrides())
    with pytest.raises(RowError) as error:
        shape.requests(row_of(later, 2))
    assert str(error.value).startswith(reason)
    assert error.value.of(row_of(later, 2)).number == 2


def test_messages_that_begin_with_the_assistant_follow_the_prompt_and_others_do_not() -> None:
    prompt = [{"role": "system", "content": "Be kind."}, SAID[0]]
    row = row_of({"system": "unused", "prompt": prompt, "chosen": [SAID[1]], "rejected": [SAID[0], SAID[1]]})
    chosen, rejected = shape_of("score", [row], Overrides()).requests(row)
    assert chosen == {"messages": [*prompt, SAID[1]]}
    assert rejected == {"messages": SAID}


def test_fields_of_messages_that_are_null_are_left_out_at_any_depth() -> None:
    parts = [{"type": "text", "text": "Hi", "image": None}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    row = row_of({"messages": [{"role": "user", "content": parts, "name": None}, call]})
    [request] = shape_of("score", [row], Overrides()).requests(row)
    assert request["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
    ]


def test_a_prefix_makes_room_for_columns_that_are_there_already() -> None:
    row = row_of({"text": "a", "score": 1})
    shape = shape_of("score", [row], Overrides(prefix="new_"))
    columns = shape.columns(row, [{"score": [0.5]}])
    assert columns == {"new_score": 0.5}
    assert shape.outcome(row, columns) == Outcome((0.5,))


@pytest.mark.parametrize(
    ("chosen", "rejected", "columns", "outcome"),
    [
        ([2.0], [0.5], (2.0, 0.5, 1.5), Outcome((2.0, 0.5), True, 0, "chat")),
        ([0.5], [2.0], (0.5, 2.0, -1.5), Outcome((0.5, 2.0), False, 0, "chat")),
        ([0.5], [0.5], (0.5, 0.5, 0.0), Outcome((0.5, 0.5), False, 1, "chat")),
        ([1.0, 2.0], [0.5], ([1.0, 2.0], 0.5, None), Outcome((1.0, 2.0, 0.5), None, 0, "chat")),
    ],
)
def test_a_pair_gives_both_scores_and_their_margin(
    chosen: list[float], rejected: list[float], columns: tuple[Any, ...], outcome: Outcome
) -> None:
    row = row_of({"prompt": "a", "chosen": "b", "rejected": "c", "subset": "chat"})
    shape = shape_of("score", [row], Overrides())
    found = shape.columns(row, [{"score": chosen}, {"score": rejected}])
    assert tuple(found.values()) == columns
    assert shape.outcome(row, found) == outcome
    assert [shape.column_of(index) for index in (0, 1)] == ["chosen", "rejected"]


def test_lists_of_scores_stay_lists_where_the_pooling_gives_lists() -> None:
    row = row_of({"text": "a"})
    shape = shape_of("score", [row], Overrides())
    assert shape.columns(row, [{"score": [0.5]}], lists=True) == {"score": [0.5]}
    assert shape.columns(row, [{"score": [0.5, 1.0]}]) == {"score": [0.5, 1.0]}


def test_a_vector_is_the_same_as_numbers_and_as_base64() -> None:
    row = row_of({"text": "a"})
    shape = shape_of("embed", [row], Overrides())
    numbers, packed = (shape.columns(row, [{"embedding": each}])["embedding"] for each in ([0.5, 0.25], "AAAAPwAAgD4="))
    assert numbers.dtype == np.float32
    assert numbers.tolist() == packed.tolist() == [0.5, 0.25]
    assert shape.outcome(row, {"embedding": numbers}).scores == ()
