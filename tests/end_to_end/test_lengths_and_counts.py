"""On every route that pools: what is as long as the model takes is answered, what is longer is refused or said to be
cut; and so with the number of inputs. Each within a stated time.
"""

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import tokenizers
from fastapi.routing import APIRoute
from starlette.routing import Route

from api.app import create_app
from api.options import Options
from tests.end_to_end.pooling_routes import LONGEST, NOT_POOLING, WAYS, WORD, Way, models_file, words
from tests.server import Millpond, client_of, serving

MOST_INPUTS = 2_048

MOST_MESSAGES = 8_192

LENGTH_SECONDS = 5.0
"""For a call of one sequence, refused or answered."""

REFUSAL_SECONDS = 5.0
"""For a call of too many inputs, with its way over the network."""

ANSWER_SECONDS = 60.0
"""For a call of as many inputs as are taken."""

STATUS = {"tei": 422}
"""Of what is wrong with a value; elsewhere 400."""

COUNTED = [way for way in WAYS if way.many]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millpond]:
    path = models_file(tmp_path_factory.mktemp("lengths"))
    for name in LONGEST:
        tokenizer = tokenizers.Tokenizer.from_file(str(path.parent / name / "tokenizer.json"))
        tokenizer.no_truncation()
        for count in (1, 2, 10 * LONGEST[name]):
            assert len(tokenizer.encode(words(count), add_special_tokens=False).ids) == count
    with serving("--models-file", str(path), model=None) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Millpond) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client


@pytest.fixture(autouse=True)
def is_well_afterwards(server: Millpond, client: httpx.Client) -> Iterator[None]:
    """Whatever was sent, the server is ready for more."""
    yield
    assert client.get("/ready").status_code == 200
    assert not [line for line in server.lines if "ERROR" in line or "Traceback" in line]


def send(
    client: httpx.Client, way: Way, body: dict[str, Any], seconds: float, fields: dict[str, Any] | None = None
) -> httpx.Response:
    began = time.monotonic()
    reply = client.post(way.path, json={"model": way.model, **body, **(fields or {})})
    took = time.monotonic() - began
    assert took < seconds, f"{took:.1f} s"
    return reply


def check_answered(reply: httpx.Response, way: Way, tokens: int, cut: int = 0) -> None:
    """A 200 for so many tokens, as a reply of any dialect says in its headers, and says what was cut."""
    assert reply.status_code == 200, reply.text
    assert int(reply.headers["x-compute-tokens"]) == tokens + way.others
    assert reply.headers.get("millpond-truncated-inputs") == (str(cut) if cut else None)
    told = reply.json()
    if isinstance(told, dict) and "usage" in told:
        assert told["usage"]["prompt_tokens"] == tokens + way.others
    if way.form == "cohere":
        warnings = told["meta"].get("warnings", [])
        assert len(warnings) == min(cut, 1)
        assert all(str(cut) in warning for warning in warnings)
    assert len(way.found(told)) == way.inputs


def message_of(reply: httpx.Response, way: Way, field: str) -> str:
    """What a refusal says in the form of its dialect; it names the field."""
    status = STATUS.get(way.form, 400)
    assert reply.status_code == status, reply.text
    told = reply.json()
    if way.form == "tei":
        assert set(told) == {"error", "error_type"}
        assert told["error_type"] == "Validation"
        message = told["error"]
    elif way.form == "cohere":
        assert set(told) == {"message"}
        message = told["message"]
    else:
        assert told["error"]["param"] == field
        message = told["error"]["message"]
    if way.form == "rerank":
        assert told["message"] == told["detail"] == message
    assert re.search(rf"\b{field}\b", message), message
    return str(message)


def check_too_long(reply: httpx.Response, way: Way, tokens: int) -> None:
    message = message_of(reply, way, way.field)
    assert f"over this model's {way.limit} (--max-model-len)" in message
    # Of a text that is far too long, not all is tokenised.
    found = re.search(r"has (\d+) tokens( or more)?", message)
    assert found, message
    assert way.limit < int(found[1]) <= tokens if found[2] else int(found[1]) == tokens


def test_every_route_that_takes_a_body_is_here() -> None:
    app = create_app(Options(), [])
    routes = {
        route.path for route in app.routes if isinstance(route, APIRoute | Route) and "POST" in (route.methods or ())
    }
    routes |= {path for path, operations in app.openapi()["paths"].items() if "post" in operations}
    assert routes == {way.path for way in WAYS} | NOT_POOLING


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_is_as_long_as_the_model_takes_is_answered_whole(client: httpx.Client, way: Way) -> None:
    for tokens in (way.limit - 1, way.limit):
        for fields in (None, way.cutting, way.refusing):
            check_answered(send(client, way, way.long(tokens), LENGTH_SECONDS, fields), way, tokens)


@pytest.mark.parametrize("way", [way for way in WAYS if way.cutting or way.refusing], ids=str)
def test_what_is_longer_is_refused_with_the_field_and_the_limit(client: httpx.Client, way: Way) -> None:
    for tokens in (way.limit + 1, 10 * way.limit):
        check_too_long(send(client, way, way.long(tokens), LENGTH_SECONDS, way.refusing), way, tokens)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_is_longer_is_cut_where_that_is_the_way_and_the_reply_says_so(client: httpx.Client, way: Way) -> None:
    for tokens in (way.limit + 1, 10 * way.limit):
        reply = send(client, way, way.long(tokens), LENGTH_SECONDS, way.cutting)
        check_answered(reply, way, way.limit, cut=1)


@pytest.mark.parametrize("way", COUNTED, ids=str)
def test_as_many_inputs_as_a_call_may_have_are_answered(client: httpx.Client, way: Way) -> None:
    assert way.many
    for count in (1, MOST_INPUTS):
        reply = send(client, way, way.many(count), ANSWER_SECONDS)
        assert reply.status_code == 200, reply.text
        assert len(way.found(reply.json())) == count


@pytest.mark.parametrize("way", COUNTED, ids=str)
def test_more_inputs_are_refused_with_the_field_and_the_limit(client: httpx.Client, way: Way) -> None:
    assert way.many
    for count in (MOST_INPUTS + 1, 10_000):
        message = message_of(send(client, way, way.many(count), REFUSAL_SECONDS), way, way.counted or way.field)
        assert f"{count} entries, over the {MOST_INPUTS} of one call" in message


QUERIES = [way for way in WAYS if "query" in way.long(way.limit) and way.path != "/get_reward"]


@pytest.mark.parametrize("way", [way for way in QUERIES if not way.others], ids=str)
def test_a_query_that_leaves_no_room_for_a_document_is_refused_whatever_may_be_cut(
    client: httpx.Client, way: Way
) -> None:
    for tokens in (way.limit, 10 * way.limit):
        for fields in (None, way.cutting):
            reply = send(client, way, {**way.long(9), "query": words(tokens)}, LENGTH_SECONDS, fields)
            assert f"within {way.limit} (--max-model-len" in message_of(reply, way, "query")


@pytest.mark.parametrize("way", [way for way in QUERIES if way.others], ids=str)
def test_a_query_that_is_read_alone_is_refused_or_cut_as_a_document_is(client: httpx.Client, way: Way) -> None:
    for tokens in (way.limit, 10 * way.limit):
        body = {**way.long(9), "query": words(tokens)}
        if way.cutting:
            assert f"this model's {way.limit}" in message_of(send(client, way, body, LENGTH_SECONDS), way, "query")
        reply = send(client, way, body, LENGTH_SECONDS, way.cutting)
        assert reply.status_code == 200, reply.text
        assert reply.headers["millpond-truncated-inputs"] == "1"
        assert int(reply.headers["x-compute-tokens"]) == way.limit + 9


CONVERSATIONS = [way for way in WAYS if way.name.split()[0] == "messages"]


@pytest.mark.parametrize("way", CONVERSATIONS, ids=str)
def test_a_conversation_of_many_messages_is_refused_as_too_long(client: httpx.Client, way: Way) -> None:
    for count in (MOST_INPUTS, MOST_MESSAGES):
        check_too_long(send(client, way, of_messages(count), REFUSAL_SECONDS), way, count)


@pytest.mark.parametrize("way", CONVERSATIONS, ids=str)
def test_more_messages_are_refused_with_the_limit(client: httpx.Client, way: Way) -> None:
    for count in (MOST_MESSAGES + 1, 100_000):
        message = message_of(send(client, way, of_messages(count), REFUSAL_SECONDS), way, "messages")
        assert f"{count} messages and parts, over the {MOST_MESSAGES} of one call" in message


def of_messages(count: int) -> dict[str, Any]:
    """A conversation of so many messages, each of one token."""
    return {"messages": [{"role": "user", "content": f"{WORD} "}] * count}
