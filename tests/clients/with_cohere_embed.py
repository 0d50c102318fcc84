"""Cohere's client, version 2: embeddings in each of its types, sync and async, its errors and its retries."""

import asyncio
import base64

import cohere
import numpy as np

from tests.clients.faltering import Refusal, faltering
from tests.clients.plain import TEXTS, assert_same, embeddings, run

TYPES = ["float", "int8", "uint8", "binary", "ubinary", "base64"]


def main(url: str, model: str) -> None:
    client = cohere.ClientV2("none", base_url=url)
    wanted = embeddings(url, model, TEXTS)
    check_types(client, model, wanted)
    check_errors(client, model)
    check_lengths(client, url, model)
    with faltering(url, Refusal(429, {"Retry-After": "1"})) as server:
        again = cohere.ClientV2("none", base_url=server.url)
        reply = again.embed(model=model, texts=TEXTS[:1], input_type="search_query", embedding_types=["float"])
        assert_same(reply.embeddings.float_, wanted[:1])
        assert server.answered == [429, 200]
    asyncio.run(check_async(url, model, wanted))


def check_types(client: cohere.ClientV2, model: str, wanted: np.ndarray) -> None:
    reply = client.embed(model=model, texts=TEXTS, input_type="search_document", embedding_types=TYPES)
    assert reply.id and reply.texts == TEXTS
    assert reply.meta.api_version.version == "2"
    assert reply.meta.billed_units.input_tokens > len(TEXTS)
    found = reply.embeddings
    assert_same(found.float_, wanted)
    assert_same([np.frombuffer(base64.b64decode(each), "<f4") for each in found.base64], wanted)
    bits = np.packbits(wanted > 0, axis=1)
    assert np.array_equal(found.ubinary, bits)
    assert np.array_equal(found.binary, bits.astype(np.int16) - 128)
    # How values become bytes is the server's matter: the direction of the vector has to survive.
    for quantized, middle in ((found.int8, 0), (found.uint8, 127.5)):
        rows = np.asarray(quantized, dtype=np.float64)
        assert rows.shape == wanted.shape
        assert rows.min() >= -128 + (middle > 0) * 128 and rows.max() <= 127 + (middle > 0) * 128
        rows -= middle
        cosines = (rows * wanted).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted, axis=1)
        assert cosines.min() > 0.99, cosines
    # One text, and no type named: numbers.
    reply = client.embed(model=model, texts=TEXTS[:1], input_type="classification")
    assert_same(reply.embeddings.float_, wanted[:1])
    parts = [{"content": [{"type": "text", "text": text}]} for text in TEXTS[:2]]
    reply = client.embed(model=model, inputs=parts, input_type="clustering", embedding_types=["float"])
    assert_same(reply.embeddings.float_, wanted[:2])


def check_errors(client: cohere.ClientV2, model: str) -> None:
    error = raised(cohere.NotFoundError, client, model="nobody", texts=["water"], input_type="search_query")
    assert model in error.body["message"]
    error = raised(cohere.BadRequestError, client, model=model, texts=["a"] * 2049, input_type="search_query")
    assert "2048" in error.body["message"]
    image = "data:image/png;base64,iVBORw0KGgo="
    error = raised(cohere.BadRequestError, client, model=model, images=[image], input_type="image")
    assert "image" in error.body["message"]
    error = raised(
        cohere.BadRequestError, client, model=model, texts=["a"], input_type="search_query", output_dimension=7
    )
    assert "output_dimension" in error.body["message"]


def check_lengths(client: cohere.ClientV2, url: str, model: str) -> None:
    """NONE refuses what is too long; END keeps the beginning, START the end."""
    long = "rain " * 50 + "water " * 50
    called = {"model": model, "texts": [long], "input_type": "search_query", "embedding_types": ["float"]}
    error = raised(cohere.BadRequestError, client, **called, truncate="NONE")
    assert "truncate" in error.body["message"]
    end = client.embed(**called, truncate="END").embeddings.float_
    assert_same(end, embeddings(url, model, long, truncate_prompt_tokens=-1))
    start = client.embed(**called, truncate="START").embeddings.float_
    assert not np.allclose(start, end, atol=1e-3)
    assert_same(client.embed(**called).embeddings.float_, end)


def raised(kind: type[Exception], client: cohere.ClientV2, **fields: object) -> Exception:
    try:
        client.embed(**fields)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} for {list(fields)}")


async def check_async(url: str, model: str, wanted: np.ndarray) -> None:
    async with cohere.AsyncClientV2("none", base_url=url) as client:
        calls = [
            client.embed(model=model, texts=[text], input_type="search_query", embedding_types=["float"])
            for text in TEXTS[:5]
        ]
        replies = await asyncio.gather(*calls)
    assert_same([reply.embeddings.float_[0] for reply in replies], wanted[:5])


if __name__ == "__main__":
    run(main)
