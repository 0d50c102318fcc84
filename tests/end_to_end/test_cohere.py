"""Cohere's embeddings and reranking, and what Jina's, vLLM's and Infinity's clients send to `/v1/rerank`."""

import base64
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import client_of, serving

CROSS = golden_of("cross-encoder")
PROMPTS = golden_of("prompts")
TEXTS = ["water and wheels", "a stone", "The mill pond stores water."]
LONG = "the river runs to the old mill " * 40
LIMIT = 64
CUT = "millpond-truncated-inputs"


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A cross encoder of 48 tokens that states no activation."""
    directory = made(CROSS, tmp_path_factory.mktemp("rerank") / "reranker")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An embedding model with the prompts query, document (its default) and none."""
    directory = made(PROMPTS, tmp_path_factory.mktemp("prompts") / "prompts")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


def embed(client: httpx.Client, **fields: object) -> dict[str, Any]:
    reply = client.post("/v2/embed", json={"input_type": "classification", "texts": TEXTS, **fields})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def floats(client: httpx.Client, **fields: object) -> np.ndarray:
    return np.array(embed(client, **fields)["embeddings"]["float"])


def openai(client: httpx.Client, texts: list[str], **fields: object) -> np.ndarray:
    reply = client.post("/v1/embeddings", json={"input": texts, **fields})
    assert reply.status_code == 200, reply.text
    return np.array([each["embedding"] for each in reply.json()["data"]])


def refused(reply: httpx.Response, status: int = 400) -> str:
    """The message of an error in Cohere's form."""
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"message"}
    message: str = reply.json()["message"]
    return message


def test_the_reply_has_cohere_s_form_and_openai_s_numbers(client: httpx.Client) -> None:
    kinds = ["float", "base64", "int8", "uint8", "binary", "ubinary"]
    reply = embed(client, embedding_types=kinds, user="ignored")
    assert set(reply) == {"id", "embeddings", "texts", "meta", "response_type"}
    assert re.fullmatch("embd-[0-9a-f]{32}", reply["id"])
    assert reply["texts"] == TEXTS
    assert reply["response_type"] == "embeddings_by_type"
    usage = client.post("/v1/embeddings", json={"input": TEXTS}).json()["usage"]
    assert reply["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"input_tokens": usage["prompt_tokens"]},
        "tokens": {"input_tokens": usage["prompt_tokens"]},
    }
    found = reply["embeddings"]
    assert list(found) == kinds
    wanted = openai(client, TEXTS)
    assert np.array(found["float"]) == pytest.approx(wanted, abs=1e-6)
    assert np.array([np.frombuffer(base64.b64decode(each), "<f4") for each in found["base64"]]) == pytest.approx(
        wanted, abs=1e-6
    )
    for kind in kinds[2:]:
        assert np.abs(np.array(found[kind]) - openai(client, TEXTS, encoding_format=kind)).max() <= 1
    assert (np.array(found["ubinary"]) - np.array(found["binary"]) == 128).all()
    assert (np.array(found["uint8"]) - np.array(found["int8"]) == 128).all()


def test_float_is_what_comes_when_no_type_is_named(client: httpx.Client) -> None:
    assert list(embed(client)["embeddings"]) == ["float"]


def test_parts_are_joined_and_texts_do_not_come_back(client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "the mill"}, {"type": "text", "text": "pond"}]
    reply = client.post("/v2/embed", json={"input_type": "search_document", "inputs": [{"content": parts}]}).json()
    assert "texts" not in reply
    assert np.array(reply["embeddings"]["float"]) == pytest.approx(openai(client, ["the mill\npond"]), abs=1e-6)


@pytest.mark.parametrize(
    ("input_type", "prompt"),
    [("search_query", "query"), ("search_document", "document"), ("clustering", "none"), ("query", "query")],
)
def test_the_input_type_chooses_the_prompt(prompts: httpx.Client, input_type: str, prompt: str) -> None:
    wanted = openai(prompts, TEXTS, prompt_name=prompt)
    assert floats(prompts, input_type=input_type) == pytest.approx(wanted, abs=1e-6)


def test_without_an_input_type_the_default_prompt_is_used(prompts: httpx.Client) -> None:
    reply = prompts.post("/v2/embed", json={"texts": TEXTS}).json()
    wanted = openai(prompts, TEXTS, prompt_name="document")
    assert np.array(reply["embeddings"]["float"]) == pytest.approx(wanted, abs=1e-6)


def test_a_long_text_is_cut_where_the_caller_says_and_the_reply_tells(client: httpx.Client) -> None:
    texts = [f"alpha {LONG} omega", "a stone"]
    for truncate, side in (("END", "right"), ("START", "left")):
        for tokens in (None, 9, 10**6):
            body = {"texts": texts, "truncate": truncate, "max_tokens": tokens, "input_type": "clustering"}
            reply = client.post("/v2/embed", json=body)
            wanted = openai(client, texts, truncate_prompt_tokens=9 if tokens == 9 else -1, truncation_side=side)
            assert np.array(reply.json()["embeddings"]["float"]) == pytest.approx(wanted, abs=1e-6)
            assert reply.headers[CUT] == "1"
            assert reply.json()["meta"]["warnings"] == ["inputs longer than the limit, which were cut: 1"]
    assert reply.json()["meta"]["billed_units"]["input_tokens"] < 2 * LIMIT


def test_a_long_text_is_refused_with_none(client: httpx.Client) -> None:
    body: dict[str, object] = {"texts": ["a stone", LONG], "truncate": "NONE"}
    message = refused(client.post("/v2/embed", json=body))
    assert re.search(rf"texts\[1\] has \d+ tokens or more, over this model's {LIMIT}.*\"truncate\": \"END\"", message)
    message = refused(client.post("/v2/embed", json={**body, "texts": ["a stone", "water " * 20], "max_tokens": 9}))
    assert re.search(r"texts\[1\] has 22 tokens, over your max_tokens of 9", message)


BAD: list[tuple[str, dict[str, object], str]] = [
    ("nothing", {"texts": ...}, "Neither texts nor images nor inputs"),
    ("both", {"inputs": [{"content": [{"type": "text", "text": "a"}]}]}, "Both texts and inputs"),
    (
        "images",
        {"texts": ..., "images": ["data:image/png;base64,AAAA"]},
        r"images\[0\] is an image, and .* takes text only",
    ),
    ("a string", {"texts": "a"}, "texts is a string; it must be a list"),
    ("an empty list", {"texts": []}, "texts is an empty list"),
    ("an empty text", {"texts": ["a", ""]}, r"texts\[1\] is an empty string"),
    ("a number", {"texts": [1]}, r"texts\[0\] is a whole number"),
    ("2,049 texts", {"texts": ["a"] * 2049}, "texts has 2049 entries, over the 2048"),
    ("inputs of strings", {"texts": ..., "inputs": ["a"]}, r"inputs\[0\] must be an object"),
    ("inputs without parts", {"texts": ..., "inputs": [{"content": []}]}, r"inputs\[0\] must be an object"),
    (
        "an image part",
        {"texts": ..., "inputs": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        r"inputs\[0\].content\[0\].image_url.url is an image",
    ),
    ("a part of no type", {"texts": ..., "inputs": [{"content": [{"text": "a"}]}]}, r"content\[0\] must be an object"),
    ("a part of null", {"texts": ..., "inputs": [{"content": [{"type": "text"}]}]}, r"content\[0\].text is null"),
    ("an unknown input type", {"input_type": "cooking"}, "input_type is 'cooking'.*search_query"),
    ("an input type of a number", {"input_type": 3}, "input_type: .*string"),
    ("an unknown type", {"embedding_types": ["float", "int4"]}, "embedding_types: Input should be 'float'"),
    ("a type that is no list", {"embedding_types": "float"}, "embedding_types: .*list"),
    ("a wrong truncation", {"truncate": "MIDDLE"}, "truncate: Input should be 'NONE', 'START' or 'END'"),
    ("no tokens", {"max_tokens": 0}, "max_tokens: .*greater than or equal to 1"),
    ("two tokens", {"max_tokens": 2}, "max_tokens is 2; it must be -1, or from 3"),
    ("huge tokens", {"max_tokens": 2**70}, "max_tokens: "),
    ("huge priority", {"priority": 2**70}, "priority: "),
    ("another dimension", {"output_dimension": 24}, "output_dimension is 24; this model was not trained"),
    ("a huge dimension", {"output_dimension": 2**62}, "output_dimension is \\d+, over this model's 48"),
]


@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_wrong_embed_call_hears_why(client: httpx.Client, changes: dict[str, object], message: str) -> None:
    body = {name: value for name, value in {"texts": ["a"], **changes}.items() if value is not ...}
    assert re.search(message, refused(client.post("/v2/embed", json=body)))


def test_errors_that_no_route_raises_have_the_form_too(client: httpx.Client) -> None:
    assert "no model 'x'" in refused(client.post("/v2/embed", json={"model": "x", "texts": ["a"]}), 404)
    assert "not JSON" in refused(client.post("/v2/embed", content="{", headers={"content-type": "application/json"}))
    assert "does not take GET" in refused(client.get("/v2/embed"), 405)
    assert "over the limit" in refused(client.post("/v2/embed", json={"texts": ["a" * 1_100_000]}), 413)


def test_2048_texts_are_one_call(client: httpx.Client) -> None:
    assert len(embed(client, texts=["a"] * 2048)["embeddings"]["float"]) == 2048


def rerank(client: httpx.Client, path: str, **fields: object) -> httpx.Response:
    body = {"query": CROSS["query"], "documents": CROSS["documents"], **fields}
    return client.post(path, json={name: value for name, value in body.items() if value is not ...})


def test_reranking_has_the_form_and_the_numbers(cross: httpx.Client) -> None:
    reply = rerank(cross, "/v2/rerank", top_n=3).json()
    assert set(reply) == {"id", "results", "meta"}
    assert reply["meta"]["api_version"] == {"version": "2"}
    assert reply["meta"]["billed_units"] == {"search_units": 1}
    order = np.argsort(-np.array(CROSS["relevance"]), kind="stable")[:3].tolist()
    assert [each["index"] for each in reply["results"]] == order
    assert all(set(each) == {"index", "relevance_score"} for each in reply["results"])
    found = [each["relevance_score"] for each in reply["results"]]
    assert found == pytest.approx([CROSS["relevance"][index] for index in order], abs=1e-4)


def test_a_long_document_is_cut_without_asking_in_version_2_and_the_reply_tells(cross: httpx.Client) -> None:
    documents = [*CROSS["documents"], CROSS["cut"]["document"]]
    reply = rerank(cross, "/v2/rerank", documents=documents)
    scores = {each["index"]: each["relevance_score"] for each in reply.json()["results"]}
    assert scores[4] == pytest.approx(CROSS["cut"]["relevance"], abs=1e-4)
    assert reply.headers[CUT] == "1"
    assert reply.json()["meta"]["warnings"] == ["texts longer than the limit, which were cut: 1"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_a_document_is_cut_to_its_own_tokens(cross: httpx.Client, path: str) -> None:
    long = rerank(cross, path, documents=["the mill water rain", "a"], max_tokens_per_doc=2)
    short = rerank(cross, path, documents=["the mill", "a"])
    assert long.headers[CUT] == "1"
    assert CUT not in short.headers
    for one, other in zip(long.json()["results"], short.json()["results"], strict=True):
        assert one == {**other, "relevance_score": pytest.approx(other["relevance_score"], abs=1e-6)}
    # More than the model takes with the query is still refused in version 1, and cut in version 2.
    reply = rerank(cross, path, documents=["water " * 200], max_tokens_per_doc=100)
    assert reply.status_code == (400 if path == "/v1/rerank" else 200)


def test_an_embedding_model_cuts_documents_alike(client: httpx.Client) -> None:
    body = {"query": "a wheel", "documents": ["the mill water rain", LONG], "max_tokens_per_doc": 2}
    reply = client.post("/v2/rerank", json=body)
    cut = client.post("/v2/rerank", json={"query": "a wheel", "documents": ["the mill", "the river"]})
    assert reply.headers[CUT] == "2"
    found = sorted((each["index"], each["relevance_score"]) for each in reply.json()["results"])
    wanted = sorted((each["index"], each["relevance_score"]) for each in cut.json()["results"])
    assert np.array(found) == pytest.approx(np.array(wanted), abs=1e-6)


def test_a_wrong_rerank_call_of_version_1_finds_the_reason_where_its_client_looks(cross: httpx.Client) -> None:
    reply = rerank(cross, "/v1/rerank", documents=[])
    error = checked(reply, 400)
    assert reply.json() == {"error": error, "message": error["message"], "detail": error["message"]}
    assert "empty list" in refused(rerank(cross, "/v2/rerank", documents=[]))


RERANK_BAD: list[tuple[dict[str, object], str]] = [
    ({"rank_fields": ["title", "text"]}, "rank_fields is .*by their text only"),
    ({"truncation_side": "left"}, "truncation_side is left"),
    ({"raw_scores": True, "use_activation": True}, "opposite of each other"),
    ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
    ({"max_chunks_per_doc": 0}, "max_chunks_per_doc"),
    ({"top_n": 2**70}, "top_n"),
    ({"documents": ["a"] * 2049}, "2049 entries, over the 2048"),
    ({"documents": [{"image": "https://x/y.png"}]}, r"documents\[0\] is an image"),
]


@pytest.mark.parametrize(("changes", "message"), RERANK_BAD)
def test_a_wrong_rerank_call_hears_why(cross: httpx.Client, changes: dict[str, object], message: str) -> None:
    assert re.search(message, refused(rerank(cross, "/v2/rerank", **changes)))
    assert re.search(message, str(checked(rerank(cross, "/v1/rerank", **changes), 400)["message"]))


def test_a_framed_ranking_is_the_same_ranking(cross: httpx.Client) -> None:
    body = {"query": CROSS["query"], "documents": CROSS["documents"], "top_n": 3}
    wanted = cross.post("/v1/rerank", json=body).json()
    accept = {"accept": "application/octet-stream"}
    frame = cross.post("/v1/rerank", json=body, headers=accept).content
    (length,) = struct.unpack_from("<I", frame, 4)
    header = json.loads(frame[8 : 8 + length])
    assert header["index"] == [each["index"] for each in wanted["results"]]
    assert {name: header[name] for name in ("model", "activation", "usage", "dtype", "shape")} == {
        **{name: wanted[name] for name in ("model", "activation", "usage")},
        "dtype": "float32",
        "shape": [3],
    }
    scores = [each["relevance_score"] for each in wanted["results"]]
    assert np.frombuffer(frame, "<f4", offset=8 + length).tolist() == pytest.approx(scores, abs=1e-6)
    error = checked(cross.post("/v1/rerank", json={**body, "return_documents": True}, headers=accept), 400)
    assert error["param"] == "return_documents"
    assert cross.get("/ready").status_code == 200
