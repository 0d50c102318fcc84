"""Texts longer than the model takes: refused, cut and said so, or embedded in pieces; never slowly, never silently."""

import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.server import TINY_BERT, client_of, serving

LIMIT = 64
WORDS = "the river runs to the old mill "


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving() as server, client_of(server) as client:
        yield client


def embedding(client: httpx.Client, text: str, **fields: object) -> np.ndarray:
    reply = client.post("/v1/embeddings", json={"input": text, **fields})
    assert reply.status_code == 200, reply.text
    return np.array(reply.json()["data"][0]["embedding"])


def test_ten_megabytes_are_refused_without_being_tokenized_in_full(client: httpx.Client) -> None:
    text = WORDS * 300_000
    began = time.monotonic()
    reply = client.post("/v1/embeddings", json={"input": text})
    assert reply.status_code == 400
    assert "tokens or more, over this model's 64" in reply.json()["error"]["message"]
    # Tokenised in full they take some six seconds here.
    assert time.monotonic() - began < 3


def test_what_is_cut_is_said_and_the_side_is_the_callers(client: httpx.Client) -> None:
    text = "alpha " + WORDS * 2_000 + "omega"
    fields = {"truncate_prompt_tokens": -1}
    reply = client.post("/v1/embeddings", json={"input": [text, "short"], **fields})
    assert reply.headers["millpond-truncated-inputs"] == "1"
    right = embedding(client, text, **fields)
    left = embedding(client, text, **fields, truncation_side="left")
    assert np.allclose(right, embedding(client, "alpha " + WORDS * 20, **fields), atol=1e-6)
    assert np.allclose(left, embedding(client, WORDS * 20 + "omega", **fields, truncation_side="left"), atol=1e-6)
    assert not np.allclose(left, right, atol=1e-3)


def test_a_document_in_pieces_is_the_mean_over_its_tokens(client: httpx.Client) -> None:
    pieces = []
    tokens = client.post("/v1/embeddings", json={"input": WORDS * 30, "max_embed_len": 4_000})
    assert tokens.status_code == 200, tokens.text
    from pooling.config import resolve_spec
    from pooling.tokenizing import Tokenizer

    tokenizer = Tokenizer.from_spec(resolve_spec(TINY_BERT))
    (ids,) = tokenizer.encode([WORDS * 30], add_special_tokens=False)
    room = LIMIT - 2
    for begin in range(0, len(ids), room):
        piece = ids[begin : begin + room]
        framed = tokenizer.framed(piece).tolist()
        pieces.append((len(piece), embedding_of_ids(client, framed)))
    mean = sum(count * vector for count, vector in pieces) / len(ids)
    mean /= np.linalg.norm(mean)
    assert len(pieces) > 2
    assert np.allclose(tokens.json()["data"][0]["embedding"], mean, atol=1e-6)
    assert tokens.json()["usage"]["prompt_tokens"] == len(ids) + 2 * len(pieces)


def embedding_of_ids(client: httpx.Client, ids: list[int]) -> np.ndarray:
    reply = client.post("/v1/embeddings", json={"input": [ids], "normalize": False})
    assert reply.status_code == 200, reply.text
    return np.array(reply.json()["data"][0]["embedding"])


def test_short_texts_are_the_same_with_and_without_being_allowed_pieces(client: httpx.Client) -> None:
    texts = [WORDS, WORDS * 40]
    reply = client.post("/v1/embeddings", json={"input": texts, "max_embed_len": 4_000})
    assert np.allclose(reply.json()["data"][0]["embedding"], embedding(client, WORDS), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"max_embed_len": 4_097}, "max_embed_len", "from 1 to 4096"),
        ({"max_embed_len": 0}, "max_embed_len", "from 1 to 4096"),
        ({"max_embed_len": 100}, "input", "more than 100 tokens"),
        ({"max_embed_len": 4_000, "truncate_prompt_tokens": -1}, "max_embed_len", "leave it out"),
    ],
)
def test_a_document_that_may_not_be_so_long_hears_why(
    client: httpx.Client, fields: dict[str, object], param: str, words: str
) -> None:
    reply = client.post("/v1/embeddings", json={"input": WORDS * 30, **fields})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
    assert words in reply.json()["error"]["message"]
