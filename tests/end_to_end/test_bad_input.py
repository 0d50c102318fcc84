"""Every kind of nonsense is answered with a 4xx in OpenAI's shape, and harms nobody."""

import re

import httpx
import pytest

from tests.end_to_end.errors import checked
from tests.server import Millpond

JSON = {"content-type": "application/json"}

BAD_FIELDS: list[tuple[str, dict[str, object], str, str]] = [
    ("empty string", {"input": ""}, "input", "empty string"),
    ("empty list", {"input": []}, "input", "empty list"),
    ("a list with an empty string", {"input": ["a", ""]}, "input", r"input\[1\] is an empty string"),
    ("null", {"input": None}, "input", "null"),
    ("absent", {}, "input", "input"),
    ("number", {"input": 3}, "input", "a whole number"),
    ("fraction", {"input": 0.5}, "input", "a fraction"),
    ("an object without a text", {"input": {"title": "a"}}, "input", "an object"),
    ("a list with one", {"input": [{"text": "a"}, {"title": "a"}]}, "input", r"input\[1\] is an object"),
    ("an object with an empty text", {"input": [{"text": ""}]}, "input", r"input\[0\].text is an empty string"),
    ("a list of nulls", {"input": [None]}, "input", "null"),
    ("nested three deep", {"input": [[[1]]]}, "input", r"input\[0\]\[0\] is a list"),
    ("strings and ids", {"input": ["a", 1]}, "input", r"input\[1\] is a whole number"),
    ("ids and strings", {"input": [1, "a"]}, "input", r"input\[1\] is a string"),
    ("lists and strings", {"input": [[1], "a"]}, "input", r"input\[1\] is a string"),
    ("strings and lists", {"input": ["a", [1]]}, "input", r"input\[1\] is a list"),
    ("an empty list of ids", {"input": [[1], []]}, "input", r"input\[1\] is an empty list"),
    ("2,049 inputs", {"input": ["a"] * 2049}, "input", "2049 entries, over the 2048"),
    ("2,049 lists of ids", {"input": [[1]] * 2049}, "input", "2049 entries, over the 2048"),
    ("negative ids", {"input": [1, -1]}, "input", r"input\[1\] is token id -1.*vocabulary"),
    ("ids beyond the vocabulary", {"input": [[1, 10**6]]}, "input", "token id 1000000.*vocabulary"),
    ("huge ids", {"input": [2**63]}, "input", "vocabulary"),
    ("float ids", {"input": [1, 2.0]}, "input", r"input\[1\] is a fraction"),
    ("boolean ids", {"input": [1, True]}, "input", r"input\[1\] is a boolean"),
    ("booleans", {"input": [True]}, "input", "a boolean"),
    ("too many tokens", {"input": "a " * 500}, "input", "tokens, over this model's .*--max-model-len"),
    ("too many ids", {"input": [1] * 500}, "input", "500 tokens, over this model's .*--max-model-len"),
    ("dimensions 0", {"input": "a", "dimensions": 0}, "dimensions", "greater than or equal to 1"),
    ("negative dimensions", {"input": "a", "dimensions": -3}, "dimensions", "greater than or equal to 1"),
    ("dimensions too large", {"input": "a", "dimensions": 49}, "dimensions", "49, over this model's 48"),
    ("dimensions not supported", {"input": "a", "dimensions": 24}, "dimensions", "not trained to be shortened"),
    ("fractional dimensions", {"input": "a", "dimensions": 2.5}, "dimensions", "integer"),
    ("boolean dimensions", {"input": "a", "dimensions": True}, "dimensions", "integer"),
    ("unknown encoding", {"input": "a", "encoding_format": "int7"}, "encoding_format", "'float', 'base64', 'int8'"),
    ("truncation to -2", {"input": "a", "truncate_prompt_tokens": -2}, "truncate_prompt_tokens", "-1"),
    ("truncation to 2", {"input": "a", "truncate_prompt_tokens": 2}, "truncate_prompt_tokens", "from 3"),
    ("truncation beyond", {"input": "a", "truncate_prompt_tokens": 10**6}, "truncate_prompt_tokens", "--max-model-len"),
    ("input and messages", {"input": "a", "messages": [1]}, "messages", "Both input and messages"),
    ("neither of them", {"user": "me"}, "input", "Neither input nor messages"),
    ("an unknown prompt", {"input": "a", "prompt_name": "query"}, "prompt_name", "no prompt 'query': it has none"),
    ("messages without a template", {"messages": [{"role": "user", "content": "a"}]}, "messages", "no chat template"),
    ("a priority that is no number", {"input": "a", "priority": "high"}, "priority", "integer"),
    ("a user that is no string", {"input": "a", "user": 3}, "user", "string"),
    ("a model that is no string", {"input": "a", "model": ["tiny-bert"]}, "model", "string"),
]


@pytest.mark.parametrize(
    ("body", "param", "message"), [row[1:] for row in BAD_FIELDS], ids=[row[0] for row in BAD_FIELDS]
)
def test_a_wrong_field_is_named_with_its_limit(
    client: httpx.Client, body: dict[str, object], param: str, message: str
) -> None:
    error = checked(client.post("/v1/embeddings", json=body), 400)
    assert error["param"] == param
    assert re.search(message, str(error["message"])), error


def test_an_unknown_model_is_a_404_that_names_the_served_one(client: httpx.Client) -> None:
    error = checked(client.post("/v1/embeddings", json={"input": "a", "model": "gpt"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "tiny-bert" in str(error["message"])


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"{input: a}",
    "half of it": b'{"input": "a"',
    "a list": b'["a"]',
    "a string": b'"a"',
    "deep lists": b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "invalid UTF-8": b'{"input": "\xff\xfe"}',
    "overlong UTF-8": b'{"input": "\xc0\xaf"}',
    "a lone surrogate": b'{"input": "\\ud800"}',
    "a lone surrogate at the end": b'{"input": "a\\udfff"}',
    "NaN": b'{"input": NaN}',
    "infinity as id": b'{"input": [Infinity]}',
    "NaN dimensions": b'{"input": "a", "dimensions": NaN}',
    "a huge number": b'{"input": "a", "dimensions": 1e999}',
    "a huge integer": b'{"input": [' + b"9" * 5000 + b"]}",
    "a byte order mark": b'\xef\xbb\xbf{"input": "a"}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_broken_body_is_a_400(client: httpx.Client, body: bytes) -> None:
    checked(client.post("/v1/embeddings", content=body, headers=JSON), 400)


def test_a_wrong_content_type_is_a_415_that_says_which_is_wanted(client: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        reply = client.post("/v1/embeddings", content=b'{"input": "a"}', headers={"content-type": kind})
        assert "application/json" in str(checked(reply, 415)["message"])


def test_a_body_over_the_limit_is_a_413_that_names_the_flag(client: httpx.Client) -> None:
    body = b'{"input": "' + b"a" * 1_000_000 + b'"}'
    declared = client.post("/v1/embeddings", content=body, headers=JSON)
    chunked = client.post("/v1/embeddings", content=iter([body[:500_000], body[500_000:]]), headers=JSON)
    for reply in (declared, chunked):
        assert "1000000 bytes" in str(checked(reply, 413)["message"])
        assert "--max-request-bytes" in reply.json()["error"]["message"]


def test_unknown_routes_and_methods_are_answered_in_the_same_shape(client: httpx.Client) -> None:
    for reply in (client.get("/v2/nothing"), client.get("/v1/embeddings"), client.get("/v1/models/other")):
        assert reply.status_code in (404, 405)
        assert reply.json()["error"]["message"]


def test_unusual_but_valid_texts_are_embedded(client: httpx.Client) -> None:
    texts = ["\x00", "\u200b", "🦆" * 20, "水車", "a\u0300", " ", "\n", "\U0010ffff"]
    assert client.post("/v1/embeddings", json={"input": texts}).status_code == 200


def test_nonsense_leaves_the_server_well(server: Millpond, client: httpx.Client) -> None:
    wanted = client.post("/v1/embeddings", json={"input": "water"}).json()["data"]
    for _, body, _, _ in BAD_FIELDS:
        client.post("/v1/embeddings", json=body)
    for content in BAD_BODIES.values():
        client.post("/v1/embeddings", content=content, headers=JSON)
    assert client.post("/v1/embeddings", json={"input": "water"}).json()["data"] == wanted
    assert client.get("/ready").status_code == 200
    assert "Traceback" not in server.output
    assert not [line for line in server.lines if "ERROR" in line]
