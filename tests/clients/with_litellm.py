"""LiteLLM's embeddings, by each of its providers that speaks to a server of one's own."""

import asyncio

import litellm

from tests.clients.plain import TEXTS, assert_same, embeddings, run

PROVIDERS = {"openai": "/v1", "hosted_vllm": "/v1", "infinity": "/v1", "jina_ai": "/v1", "cohere": "/v2/embed"}
"""Each with what stands behind the server's address in its `api_base`."""


def main(url: str, model: str) -> None:
    wanted = embeddings(url, model, TEXTS)
    for provider, path in PROVIDERS.items():
        print("provider", provider)
        reply = litellm.embedding(model=f"{provider}/{model}", input=TEXTS, api_base=url + path, api_key="none")
        assert_same([each["embedding"] for each in reply.data], wanted)
        assert reply.usage.prompt_tokens > len(TEXTS)
    asyncio.run(check_async(url, model))
    try:
        litellm.embedding(model="openai/nobody", input="water", api_base=f"{url}/v1", api_key="none")
    except litellm.NotFoundError as error:
        assert "nobody" in str(error) and model in str(error)
    else:
        raise AssertionError("a model that is not served was found")
    try:
        litellm.embedding(model=f"openai/{model}", input=["a"] * 2049, api_base=f"{url}/v1", api_key="none")
    except litellm.BadRequestError as error:
        assert "2048" in str(error)
    else:
        raise AssertionError("2,049 inputs were taken")


async def check_async(url: str, model: str) -> None:
    reply = await litellm.aembedding(model=f"openai/{model}", input=TEXTS[:3], api_base=f"{url}/v1", api_key="none")
    assert_same([each["embedding"] for each in reply.data], embeddings(url, model, TEXTS[:3]))


if __name__ == "__main__":
    run(main)
