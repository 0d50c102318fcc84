"""Hugging Face's InferenceClient with TEI's routes for embeddings: at its root, as documented, and by name."""

import asyncio

import numpy as np
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.clients.plain import TEXTS, assert_same, embeddings, run


def main(url: str, model: str) -> None:
    wanted = embeddings(url, model, TEXTS)
    for address in (url, f"{url}/embed"):
        check_features(InferenceClient(model=address), url, model, wanted)
    check_similarity(url, model)
    found = asyncio.run(AsyncInferenceClient(model=f"{url}/embed").feature_extraction(TEXTS[0]))
    assert_same(found, wanted[:1])


def check_features(client: InferenceClient, url: str, model: str, wanted: np.ndarray) -> None:
    # One text is a list of one vector to TEI, too.
    assert_same(client.feature_extraction(TEXTS[0]), wanted[:1])
    assert_same(client.feature_extraction(TEXTS), wanted)
    raw = client.feature_extraction(TEXTS[0], normalize=False)
    assert_same(raw, embeddings(url, model, TEXTS[0], normalize=False))
    long = "rain " * 50 + "water " * 50
    right = client.feature_extraction(long, truncate=True)
    assert_same(right, embeddings(url, model, long, truncate_prompt_tokens=-1))
    # The client writes the side in small letters, TEI's documents with a capital.
    assert_same(client.feature_extraction(long, truncate=True, truncation_direction="right"), right)
    left = client.feature_extraction(long, truncate=True, truncation_direction="left")
    assert not np.allclose(left, right, atol=1e-3)
    try:
        client.feature_extraction(long)
    except HfHubHTTPError as error:
        assert error.response.status_code == 422
        assert error.response.json()["error_type"] == "Validation", error.response.text
    else:
        raise AssertionError("a text that is too long was embedded")


def check_similarity(url: str, model: str) -> None:
    source, *others = TEXTS[:4]
    vectors = embeddings(url, model, [source, *others])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = InferenceClient(model=f"{url}/similarity").sentence_similarity(source, others)
    assert_same(found, vectors[1:] @ vectors[0])


if __name__ == "__main__":
    run(main)
