"""The client of `POST /v1/rows` waits out what passes, says what does not, and finds the row that breaks a server."""

import asyncio
from collections.abc import Callable

import httpx
import orjson
import pytest

from api.bulk import client as module
from api.bulk.client import Entry, RowsClient
from api.bulk.errors import BulkError

Handler = Callable[[list[str]], httpx.Response]

ROWS = [orjson.dumps({"text": name}) for name in "abcdefgh"]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.001)


def answered(texts: list[str], **headers: str) -> httpx.Response:
    data = [{"index": index, "tokens": 1, "score": [float(ord(text))]} for index, text in enumerate(texts)]
    return httpx.Response(200, json={"data": data, "pooling": "LAST"}, headers=headers)


def refused(status: int, message: str = "no.", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message}}, headers=headers)


def asked(handler: Handler, rows: list[bytes] = ROWS) -> tuple[list[Entry], list[str | None], RowsClient]:
    """The entries, what was told while waiting, and the client, of a server that answers texts so."""
    told: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        assert body["task"] == "score"
        return handler([row["text"] for row in body["rows"]])

    async def ask() -> tuple[list[Entry], RowsClient]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://server") as http:
            client = RowsClient(http, {"task": "score"}, told.append)
            return await asyncio.wait_for(client.entries(rows), 20), client

    entries, client = asyncio.run(ask())
    return entries, told, client


def scores(entries: list[Entry]) -> list[str]:
    return [chr(int(entry["score"][0])) if "score" in entry else "-" for entry in entries]


def test_entries_come_in_the_order_of_the_rows_and_the_reply_says_how_deep_the_queue_is() -> None:
    entries, told, client = asked(lambda texts: answered(texts, **{"Millpond-Queue-Depth": "7"}))
    assert scores(entries) == list("abcdefgh")
    assert told == []
    assert (client.queue_depth, client.pooling) == (7, "LAST")


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_passes_is_waited_out_and_told(status: int) -> None:
    replies = iter([refused(status, "full."), refused(status, "full.")])
    entries, told, _ = asked(lambda texts: next(replies, None) or answered(texts))
    assert scores(entries) == list("abcdefgh")
    assert told == [f"the server at http://server ({status}: full.)"] * 2 + [None]


def test_a_server_that_is_away_is_waited_for() -> None:
    failures = iter([httpx.ConnectError("no"), httpx.ReadError("gone"), httpx.RemoteProtocolError("cut")])

    def handler(texts: list[str]) -> httpx.Response:
        for failure in failures:
            raise failure
        return answered(texts)

    entries, told, _ = asked(handler)
    assert scores(entries) == list("abcdefgh")
    assert told == [f"the server at http://server ({name})" for name in ("ConnectError", "ReadError")] + [
        "the server at http://server (RemoteProtocolError)",
        None,
    ]


@pytest.mark.parametrize(
    ("status", "words"), [(400, "no."), (401, "MILLPOND_API_KEY"), (403, "a key that may"), (404, "--model")]
)
def test_what_the_call_as_such_is_refused_for_ends_it_with_what_to_do(status: int, words: str) -> None:
    with pytest.raises(BulkError, match=words):
        asked(lambda texts: refused(status))


def test_a_row_that_breaks_the_server_is_found_and_alone_is_bad() -> None:
    entries, _, _ = asked(lambda texts: refused(500, "broken.") if "c" in texts else answered(texts))
    assert scores(entries) == list("ab-defgh")
    assert entries[2]["error"]["message"] == "the server fails on it: broken."


def test_a_call_that_is_too_large_is_divided_and_a_row_that_is_alone_is_bad() -> None:
    entries, _, _ = asked(
        lambda texts: refused(413, "too large.") if len(texts) > 2 or "h" in texts else answered(texts)
    )
    assert scores(entries) == list("abcdefg-")
    assert entries[7]["error"]["message"] == "too large."


@pytest.mark.parametrize(
    "reply", [httpx.Response(200, text="hello"), httpx.Response(200, json={}), answered(["a"])], ids=repr
)
def test_a_reply_of_another_server_is_told(reply: httpx.Response) -> None:
    with pytest.raises(BulkError, match="does not answer as a Millpond"):
        asked(lambda texts: reply)
