"""LlamaIndex's embeddings for servers like OpenAI's."""

import asyncio

import openai
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

from tests.clients.faltering import Refusal, faltering
from tests.clients.plain import TEXTS, assert_same, embeddings, run


def main(url: str, model: str) -> None:
    wanted = embeddings(url, model, TEXTS)
    client = OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", embed_batch_size=10)
    assert_same(client.get_text_embedding_batch(TEXTS), wanted)
    assert_same(client.get_query_embedding(TEXTS[3]), wanted[3])
    assert_same(client.get_text_embedding(TEXTS[4]), wanted[4])
    assert_same(asyncio.run(client.aget_text_embedding_batch(TEXTS)), wanted)
    assert client.similarity(wanted[0].tolist(), wanted[0].tolist()) > 0.999
    with faltering(url, Refusal(429, {"Retry-After-Ms": "20"})) as server:
        client = OpenAILikeEmbedding(model_name=model, api_base=f"{server.url}/v1")
        assert_same(client.get_text_embedding(TEXTS[5]), wanted[5])
        assert server.answered == [429, 200]
    try:
        OpenAILikeEmbedding(model_name="nobody", api_base=f"{url}/v1").get_text_embedding("water")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("a model that is not served was found")


if __name__ == "__main__":
    run(main)
