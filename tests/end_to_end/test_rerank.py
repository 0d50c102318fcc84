"""Documents get the relevance that Sentence Transformers' CrossEncoder gives them, the best first."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import client_of, serving

LARGEST_DIFFERENCE = 1e-4

CROSS = golden_of("cross-encoder")
QWEN3 = golden_of("qwen3-reranker")
TEMPLATE = golden_of("template-reranker")


@contextmanager
def client_for(golden: dict[str, Any], factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    directory = made(golden, factory.mktemp("rerank") / "reranker")
    options = ["--pooler-config", json.dumps(golden["pooler_config"])] if "pooler_config" in golden else []
    with serving(*options, model=directory) as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A BERT with one label that states no activation."""
    with client_for(CROSS, tmp_path_factory) as client:
        yield client


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Qwen3 read by "yes" and "no", without a chat template."""
    with client_for(QWEN3, tmp_path_factory) as client:
        yield client


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The same with a chat template for pairs, an instruction, and an activation that is said to be none."""
    with client_for(TEMPLATE, tmp_path_factory) as client:
        yield client


def rerank(client: httpx.Client, golden: dict[str, Any], **fields: object) -> dict[str, Any]:
    body = {"query": golden["query"], "documents": golden["documents"], **fields}
    reply = client.post("/v1/rerank", json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def assert_relevance(reply: dict[str, Any], wanted: list[float]) -> None:
    found = {each["index"]: each["relevance_score"] for each in reply["results"]}
    assert sorted(found) == list(range(len(wanted)))
    np.testing.assert_allclose([found[index] for index in sorted(found)], wanted, rtol=0, atol=LARGEST_DIFFERENCE)
    order = [each["index"] for each in reply["results"]]
    assert order == np.argsort(-np.array(wanted), kind="stable").tolist()


def test_a_cross_encoder_gives_the_sigmoid_of_its_score(cross: httpx.Client) -> None:
    reply = rerank(cross, CROSS)
    assert_relevance(reply, CROSS["relevance"])
    assert reply["activation"] == "sigmoid"
    assert reply["usage"] == {"prompt_tokens": CROSS["tokens"], "total_tokens": CROSS["tokens"]}


def test_qwen3_reranker_is_asked_in_the_words_of_its_card(qwen3: httpx.Client) -> None:
    reply = rerank(qwen3, QWEN3)
    assert_relevance(reply, QWEN3["relevance"])
    assert reply["activation"] == "softmax"
    assert reply["usage"]["prompt_tokens"] == QWEN3["tokens"]


def test_a_reranker_with_a_template_is_asked_by_it_and_a_stated_activation_holds(template: httpx.Client) -> None:
    reply = rerank(template, TEMPLATE)
    assert_relevance(reply, TEMPLATE["raw"])
    assert reply["activation"] == "none"
    assert reply["usage"]["prompt_tokens"] == TEMPLATE["tokens"]


@pytest.mark.parametrize("fields", [{"raw_scores": True}, {"use_activation": False}])
def test_scores_come_raw_when_asked_for(cross: httpx.Client, fields: dict[str, object]) -> None:
    reply = rerank(cross, CROSS, **fields)
    scores = {each["index"]: each["relevance_score"] for each in reply["results"]}
    relevance = 1 / (1 + np.exp(-np.array([scores[index] for index in sorted(scores)])))
    assert relevance == pytest.approx(CROSS["relevance"], abs=LARGEST_DIFFERENCE)
    assert reply["activation"] == "none"


@pytest.mark.parametrize("fields", [{"raw_scores": False}, {"use_activation": True}])
def test_scores_come_from_0_to_1_when_asked_for(template: httpx.Client, fields: dict[str, object]) -> None:
    reply = rerank(template, TEMPLATE, **fields)
    assert_relevance(reply, (1 / (1 + np.exp(-np.array(TEMPLATE["raw"])))).tolist())
    assert reply["activation"] == "sigmoid"


def test_documents_come_as_objects_and_go_back_when_wanted(cross: httpx.Client) -> None:
    objects = [{"text": text, "id": number} for number, text in enumerate(CROSS["documents"])]
    reply = rerank(cross, CROSS, query={"text": CROSS["query"]}, documents=objects, return_documents=True, top_n=2)
    assert [each["index"] for each in reply["results"]] == np.argsort(CROSS["relevance"])[::-1][:2].tolist()
    for each in reply["results"]:
        assert each["document"] == {"text": CROSS["documents"][each["index"]]}
    assert all("document" not in each for each in rerank(cross, CROSS)["results"])
    assert len(rerank(cross, CROSS, top_n=99)["results"]) == len(CROSS["documents"])


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_texts_come_in_vllms_parts(cross: httpx.Client, path: str) -> None:
    parts = [{"content": [{"type": "text", "text": text}]} for text in (CROSS["query"], *CROSS["documents"])]
    reply = cross.post(path, json={"query": parts[0], "documents": [*parts[1:3], *CROSS["documents"][2:]]})
    assert reply.status_code == 200, reply.text
    assert_relevance(reply.json(), CROSS["relevance"])
    image = {"content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}
    refused = cross.post(path, json={"query": "a", "documents": ["b", image]})
    assert refused.status_code == 400
    assert "documents[1].content[0] is of type 'image_url'" in refused.json()["error"]["message"]


def test_the_reply_has_the_form_of_jina_and_cohere(cross: httpx.Client) -> None:
    reply = rerank(cross, CROSS, max_chunks_per_doc=1, rank_fields=["text"], user="me", priority=3)
    assert re.fullmatch("rerank-[0-9a-f]{32}", reply["id"])
    assert reply["model"] == "reranker"
    assert reply["meta"] == {"api_version": {"version": "1"}}
    assert all(set(each) == {"index", "relevance_score"} for each in reply["results"])
    assert rerank(cross, CROSS, request_id="mine")["id"] == "mine"


def test_equal_documents_keep_their_order(cross: httpx.Client) -> None:
    reply = rerank(cross, CROSS, documents=["rain"] * 300)
    assert [each["index"] for each in reply["results"]] == list(range(300))


def test_a_long_document_is_refused_or_cut_as_the_reference_cuts_it(cross: httpx.Client) -> None:
    documents = [*CROSS["documents"], CROSS["cut"]["document"]]
    body = {"query": CROSS["query"], "documents": documents}
    error = checked(cross.post("/v1/rerank", json=body), 400)
    assert (error["param"], error["code"]) == ("documents", "context_length_exceeded")
    assert re.search(
        r"documents\[4\] with the query has \d+ tokens, over .* 48 \(--max-model-len\)", str(error["message"])
    )
    reply = cross.post("/v1/rerank", json={**body, "truncate_prompt_tokens": -1})
    assert_relevance(reply.json(), [*CROSS["relevance"], CROSS["cut"]["relevance"]])
    assert reply.headers["millpond-truncated-inputs"] == "1"


def test_what_stands_behind_a_long_document_is_kept(template: httpx.Client) -> None:
    reply = rerank(template, TEMPLATE, truncate_prompt_tokens=TEMPLATE["cut"]["limit"])
    assert_relevance(reply, TEMPLATE["cut"]["raw"])


def test_a_query_that_leaves_no_room_is_named(cross: httpx.Client, template: httpx.Client) -> None:
    for client, query in ((cross, "water " * 60), (cross, "water " * 45), (template, "water " * 340)):
        body = {"query": query, "documents": ["rain falls on the mill"], "truncate_prompt_tokens": -1}
        error = checked(client.post("/v1/rerank", json=body), 400)
        assert (error["param"], error["code"]) == ("query", "context_length_exceeded")
        assert "no room for" in str(error["message"])


BAD_FIELDS: list[tuple[str, dict[str, object], str, str]] = [
    ("no query", {"query": ...}, "query", "Field required"),
    ("a query of null", {"query": None}, "query", "query is null; it must be a string"),
    ("an empty query", {"query": ""}, "query", "empty string"),
    ("a query of a list", {"query": ["a"]}, "query", "query is a list"),
    ("no documents", {"documents": ...}, "documents", "Field required"),
    ("documents of a string", {"documents": "a"}, "documents", "documents is a string; it must be a list"),
    ("empty documents", {"documents": []}, "documents", "empty list"),
    ("an empty document", {"documents": ["a", ""]}, "documents", r"documents\[1\] is an empty string"),
    ("an empty text", {"documents": [{"text": ""}]}, "documents", r"documents\[0\]\.text is an empty string"),
    ("an object without text", {"documents": [{"title": "a"}]}, "documents", r"documents\[0\]\.text is null"),
    ("an image", {"documents": [{"image": "https://x/y.png"}]}, "documents", r"documents\[0\] is an image"),
    ("numbers", {"documents": [1, 2]}, "documents", r"documents\[0\] is a whole number"),
    ("2,049 documents", {"documents": ["a"] * 2049}, "documents", "2049 entries, over the 2048"),
    ("top_n 0", {"top_n": 0}, "top_n", "greater than or equal to 1"),
    ("top_n of a string", {"top_n": "3"}, "top_n", "integer"),
    ("truncation beyond", {"truncate_prompt_tokens": 99}, "truncate_prompt_tokens", "to 48"),
]


@pytest.mark.parametrize(
    ("changes", "param", "message"), [row[1:] for row in BAD_FIELDS], ids=[row[0] for row in BAD_FIELDS]
)
def test_a_wrong_field_is_named(cross: httpx.Client, changes: dict[str, object], param: str, message: str) -> None:
    body = {"query": "a", "documents": ["b"], **changes}
    body = {name: value for name, value in body.items() if value is not ...}
    error = checked(cross.post("/v1/rerank", json=body), 400)
    assert error["param"] == param
    assert re.search(message, str(error["message"])), error


def test_a_query_repeated_beyond_the_size_of_a_request_is_refused(cross: httpx.Client) -> None:
    body = {"query": "a" * 20_000, "documents": ["b"] * 2048}
    error = checked(cross.post("/v1/rerank", json=body), 413)
    assert "--max-request-bytes" in str(error["message"])


def test_an_unknown_model_is_a_404(cross: httpx.Client) -> None:
    error = checked(cross.post("/v1/rerank", json={"model": "x", "query": "a", "documents": ["b"]}), 404)
    assert error["code"] == "model_not_found"


def test_nonsense_leaves_the_servers_well(cross: httpx.Client, template: httpx.Client) -> None:
    assert cross.get("/ready").status_code == 200
    assert template.get("/ready").status_code == 200
