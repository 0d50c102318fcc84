"""Infinity's clients find its paths, which answer as those with a version do."""

import httpx
import pytest

from tests.end_to_end.errors import checked


def test_embeddings_without_a_version_are_those_with_one(client: httpx.Client) -> None:
    body = {"model": "tiny-bert", "input": ["water", "a stone"], "modality": "text"}
    found, wanted = (client.post(path, json=body).json() for path in ("/embeddings", "/v1/embeddings"))
    for one, other in zip(found["data"], wanted["data"], strict=True):
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-5)
    assert found["usage"] == wanted["usage"]


def test_what_is_no_text_is_refused(client: httpx.Client) -> None:
    error = checked(client.post("/embeddings", json={"input": "https://a/b.png", "modality": "image"}), 400)
    assert error["param"] == "input"
    assert "takes text only" in str(error["message"])
    error = checked(client.post("/embeddings", json={"input": "https://a/b.wav", "modality": "audio"}), 400)
    assert error["param"] == "modality"


def test_models_without_a_version_are_those_with_one(client: httpx.Client) -> None:
    assert client.get("/models").json() == client.get("/v1/models").json()


def test_rerank_without_a_version_takes_documents(client: httpx.Client) -> None:
    body = {"query": "water", "documents": ["a stone", "water"], "top_n": 1}
    reply = client.post("/rerank", json=body)
    assert [each["index"] for each in reply.json()["results"]] == [1]
