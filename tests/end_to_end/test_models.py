"""Other kinds of models than the default, served the whole way."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from pooling.config import resolve_spec
from pooling.tokenizing import Tokenizer
from tests.end_to_end.errors import checked
from tests.golden.variants import golden_of, made
from tests.server import GOLDEN, TINY_BERT, Millpond, client_of, serving

PROMPTS = golden_of("prompts")
FAMILIES = GOLDEN / "families"


def test_a_decoder_embeds_as_the_reference_does() -> None:
    known = json.loads((FAMILIES / "qwen3.expected.json").read_text("utf-8"))["inputs"]
    with serving(model=FAMILIES / "qwen3") as server, client_of(server) as client:
        reply = client.post("/v1/embeddings", json={"input": [each["text"] for each in known]})
        assert reply.status_code == 200
        for row, each in zip(reply.json()["data"], known, strict=True):
            np.testing.assert_allclose(row["embedding"], each["rows"][0], rtol=0, atol=1e-5)
        assert reply.json()["usage"]["prompt_tokens"] == sum(len(each["ids"]) for each in known)


@pytest.mark.parametrize("name", ["llama-classifier", "bert-classifier"])
def test_a_classifier_gives_rewards_that_are_raw_and_no_embeddings(name: str) -> None:
    known = json.loads((FAMILIES / f"{name}.expected.json").read_text("utf-8"))["inputs"]
    with serving(model=FAMILIES / name) as server, client_of(server) as client:
        # A pair is a matter of segments, which ids alone do not tell.
        for each in (each for each in known if isinstance(each["text"], str)):
            reply = client.post("/v1/chat/reward", json={"messages": each["ids"]}).json()
            np.testing.assert_allclose(reply["data"][0]["score"], each["rows"][0], rtol=0, atol=1e-4)
            assert (reply["pooling"], reply["activation"]) == ("LAST" if "llama" in name else "CLS", "none")
        error = checked(client.post("/v1/embeddings", json={"input": "water"}), 400)
        assert error["param"] == "model"
        assert "/v1/chat/reward" in str(error["message"])
        assert "not for embed" in str(error["message"])
        labels = len(known[0]["rows"][0])
        reranked = client.post("/v1/rerank", json={"query": "water", "documents": ["rain"]})
        assert reranked.status_code == (200 if labels == 1 else 400)
        assert client.get("/ready").status_code == 200


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A model with prompts, one of them its default, and a chat template."""
    directory = made(PROMPTS, tmp_path_factory.mktemp("prompts") / "model")
    with serving(model=directory) as server, client_of(server) as client:
        yield client


def embeddings(client: httpx.Client, **body: object) -> np.ndarray:
    reply = client.post("/v1/embeddings", json=body)
    assert reply.status_code == 200, reply.text
    return np.asarray([each["embedding"] for each in reply.json()["data"]])


@pytest.mark.parametrize("name", [*PROMPTS["by_name"], None])
def test_a_prompt_stands_before_texts_as_in_sentence_transformers(prompted: httpx.Client, name: str | None) -> None:
    wanted = PROMPTS["default"] if name is None else PROMPTS["by_name"][name]
    found = embeddings(prompted, input=PROMPTS["texts"], prompt_name=name)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_no_prompt_stands_before_token_ids(prompted: httpx.Client) -> None:
    ids = Tokenizer.from_spec(resolve_spec(TINY_BERT)).encode(PROMPTS["texts"])
    found = embeddings(prompted, input=[each.tolist() for each in ids])
    np.testing.assert_allclose(found, PROMPTS["by_name"]["none"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": "a", "prompt_name": "qwery"}, "no prompt 'qwery': its prompts are query, document, none"),
        ({"input": [5, 6], "prompt_name": "query"}, "input is token ids"),
        ({"messages": [5, 6], "prompt_name": "query"}, "not for messages"),
        ({"input": "a", "prompt_name": 3}, "string"),
    ],
)
def test_a_prompt_that_is_not_to_be_had_is_refused(
    prompted: httpx.Client, body: dict[str, object], message: str
) -> None:
    error = checked(prompted.post("/v1/embeddings", json=body), 400)
    assert error["param"] == "prompt_name"
    assert message in str(error["message"])


def test_a_conversation_is_embedded_as_its_template_renders_it(prompted: httpx.Client) -> None:
    known = PROMPTS["conversation"]
    body = {"messages": known["messages"], "request_id": "mine", "input": None}
    reply = prompted.post("/v1/embeddings", json=body).json()
    np.testing.assert_allclose(reply["data"][0]["embedding"], known["embedding"], rtol=0, atol=1e-5)
    assert (reply["id"], reply["usage"]["prompt_tokens"]) == ("mine", known["tokens"])
    framed = prompted.post("/v1/embeddings", json={**body, "add_special_tokens": True}).json()
    assert framed["usage"]["prompt_tokens"] == known["tokens"] + 2


@pytest.mark.parametrize(
    ("model", "path", "body", "message"),
    [
        (TINY_BERT, "/v1/embeddings", {"input": "water"}, "ALL, which gives a vector for each token"),
        (
            FAMILIES / "bert-classifier",
            "/v1/chat/reward",
            {"messages": [2, 3]},
            "ALL and gives 3 numbers for each token",
        ),
    ],
)
def test_rows_for_every_token_are_not_mistaken_for_one(
    redis_url: str, model: Path, path: str, body: dict[str, object], message: str
) -> None:
    options = ["--model", str(model), "--redis-url", redis_url, "--pooler-config", '{"pooling_type": "ALL"}']
    # What is refused needs no worker.
    server = Millpond("api", options)
    try:
        server.wait_for_line("^serving; try")
        with client_of(server) as client:
            error = checked(client.post(path, json=body), 400)
            assert (error["param"], error["code"]) == ("model", "task_not_supported")
            assert message in str(error["message"])
    finally:
        server.stop()
