"""CLIP and SigLIP over real HTTP: texts and images get the reference's vectors, in one call and one by one."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.end_to_end.errors import checked
from tests.server import GOLDEN, Millpond, client_of, serving

VISION = GOLDEN / "vision"
LEAST_COSINE = 0.9999


@pytest.fixture(scope="module", params=["clip", "siglip2"])
def server(request: pytest.FixtureRequest) -> Iterator[Millpond]:
    """A model of texts and images."""
    with serving("--job-workers", "0", model=VISION / str(request.param)) as running:
        yield running


@pytest.fixture
def client(server: Millpond) -> Iterator[httpx.Client]:
    """An HTTP client of it."""
    with client_of(server) as plain:
        yield plain


@pytest.fixture
def known(client: httpx.Client) -> list[dict[str, Any]]:
    """What its golden records."""
    name = str(client.get("/v1/models").json()["data"][0]["id"]).rpartition("/")[2]
    found: list[dict[str, Any]] = json.loads((VISION / f"{name}.expected.json").read_text("utf-8"))["inputs"]
    return found


def data_uri(name: str) -> str:
    return "data:image/png;base64," + base64.b64encode((VISION / "images" / name).read_bytes()).decode()


def as_input(case: dict[str, Any]) -> dict[str, str]:
    """A recorded text or image as an entry of `input`."""
    content = case["messages"][0]["content"]
    return {"text": content} if isinstance(content, str) else {"image": data_uri(content[0]["image"])}


def vectors(reply: httpx.Response) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    return np.array([each["embedding"] for each in reply.json()["data"]])


def test_texts_and_images_of_one_call_get_the_vectors_of_the_reference(
    client: httpx.Client, known: list[dict[str, Any]]
) -> None:
    reply = client.post("/v1/embeddings", json={"input": [as_input(case) for case in known]})
    expected = np.array([case["rows"][0] for case in known])
    assert (vectors(reply) * expected).sum(axis=1).min() >= LEAST_COSINE
    assert reply.json()["usage"]["prompt_tokens"] == sum(len(case["ids"]) for case in known)


def test_a_text_and_its_token_ids_give_the_same_vector(client: httpx.Client, known: list[dict[str, Any]]) -> None:
    text, ids = known[3]["messages"][0]["content"], known[3]["ids"]
    found, by_ids = (vectors(client.post("/v1/embeddings", json={"input": [each]})) for each in (text, ids))
    np.testing.assert_allclose(found, by_ids, atol=1e-5)


def test_an_image_in_messages_gets_the_vector_of_the_reference(
    client: httpx.Client, known: list[dict[str, Any]]
) -> None:
    for case in known[-3:]:
        part = {"type": "image_url", "image_url": {"url": as_input(case)["image"]}}
        reply = client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": [part]}]})
        assert float((vectors(reply)[0] * case["rows"][0]).sum()) >= LEAST_COSINE


def test_a_text_beside_an_image_and_options_of_images_are_refused(
    client: httpx.Client, known: list[dict[str, Any]]
) -> None:
    image = {"type": "image_url", "image_url": {"url": as_input(known[-1])["image"]}}
    both = [{"role": "user", "content": [image, {"type": "text", "text": "a mill"}]}]
    assert "one text or one image" in checked(client.post("/v1/embeddings", json={"messages": both}), 400)["message"]
    reply = client.post(
        "/v1/embeddings",
        json={"messages": [{"role": "user", "content": [image]}], "mm_processor_kwargs": {"max_pixels": 1}},
    )
    assert "max_pixels is not taken" in checked(reply, 400)["message"]
