"""Images in the columns of records become parts of messages; files go with the request when it is sent."""

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from api.bulk.asking import encoded, questions_of
from api.bulk.images import INLINE, sent_size, with_files
from api.bulk.rows import Row
from api.bulk.shapes import Shape, shape_of


def shape(task: str, values: dict[str, Any]) -> Shape:
    return shape_of(task, [Row("a.jsonl", 1, None, values)])


def messages(task: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    (request,) = shape(task, values).requests(Row("a.jsonl", 1, None, values))
    found: list[dict[str, Any]] = request["messages"]
    return found


def part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


URL = "https://example.com/a.png"


def test_an_image_alone_or_with_a_text_is_a_message_of_the_user() -> None:
    assert messages("embed", {"image": URL}) == [{"role": "user", "content": [part(URL)]}]
    with_text = messages("embed", {"image_url": URL, "caption": "a duck"})
    assert with_text == [{"role": "user", "content": [part(URL), {"type": "text", "text": "a duck"}]}]


def test_several_images_of_a_row_come_in_their_order() -> None:
    (message,) = messages("embed", {"images": [URL, "data:image/png;base64,AA=="]})
    assert message["content"] == [part(URL), part("data:image/png;base64,AA==")]


def test_bytes_and_objects_of_data_sets_are_sent_within_the_request() -> None:
    inline = part(INLINE + base64.b64encode(b"abc").decode())
    for value in (b"abc", {"bytes": b"abc", "path": "a.png"}, [{"bytes": b"abc", "path": None}]):
        assert messages("embed", {"image": value})[0]["content"] == [inline]


def test_a_prompt_with_an_answer_has_its_image_before_the_prompt() -> None:
    asked, answered = messages("score", {"prompt": "how many ducks", "completion": "two", "image": URL})
    assert asked["content"] == [part(URL), {"type": "text", "text": "how many ducks"}]
    assert answered == {"role": "assistant", "content": "two"}


def test_both_answers_of_a_pair_have_the_image() -> None:
    values = {"prompt": "how many", "chosen": "two", "rejected": "three", "image": URL}
    requests = shape("score", values).requests(Row("a.jsonl", 1, None, values))
    assert [each["messages"][0]["content"][0] for each in requests] == [part(URL)] * 2


def test_a_path_is_read_when_its_request_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "an image.png"
    file.write_bytes(b"x" * 3000)
    values = {"image": str(file), "text": "a"}
    (request,) = shape("embed", values).requests(Row("a.jsonl", 1, None, values))
    row = encoded(request)
    assert len(row) < 500
    assert 4000 <= sent_size(row) <= 4600
    sent = orjson.loads(with_files(row))["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(sent.removeprefix(INLINE)) == b"x" * 3000


def test_calls_are_cut_by_what_is_sent(tmp_path: Path) -> None:
    rows = []
    for number in range(5):
        file = tmp_path / f"{number}.png"
        file.write_bytes(b"x" * 600_000)
        rows.append(Row("a.jsonl", number + 1, None, {"image": str(file)}))
    found = questions_of(rows, shape_of("embed", rows))
    assert [len(call) for call in found.calls()] == [2, 2, 1]


@pytest.mark.parametrize(
    ("value", "said"),
    [("nowhere.png", "which is not there"), (None, "is null"), (5, "is a number"), ("", "is a string")],
)
def test_a_row_without_its_image_is_bad_and_says_why(value: object, said: str) -> None:
    good = Row("a.jsonl", 1, None, {"image": URL})
    found = questions_of([good, Row("a.jsonl", 2, None, {"image": value})], shape_of("embed", [good]))
    bad = found.rows[1]
    assert "image" in str(getattr(bad, "column", ""))
    assert said in str(getattr(bad, "reason", ""))
