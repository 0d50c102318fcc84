"""OpenAI's own client: sync and async, its base64, its errors and its retries."""

import asyncio
import time

import openai

from tests.clients.faltering import Refusal, faltering
from tests.clients.plain import TEXTS, assert_same, embeddings, run


def main(url: str, model: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    check_embeddings(client, url, model)
    check_models(client, model)
    check_errors(client, model)
    check_retries(url, model)
    asyncio.run(check_async(url, model))


def check_embeddings(client: openai.OpenAI, url: str, model: str) -> None:
    """The client asks for base64 where its caller says nothing, and for numbers where told to."""
    wanted = embeddings(url, model, TEXTS)
    for encoding in (openai.omit, "float"):
        reply = client.embeddings.create(model=model, input=TEXTS, encoding_format=encoding, user="me")
        assert_same([each.embedding for each in reply.data], wanted)
        assert [each.index for each in reply.data] == list(range(len(TEXTS)))
        assert reply.object == "list" and {each.object for each in reply.data} == {"embedding"}
        assert reply.model == model
        assert reply.usage.prompt_tokens == reply.usage.total_tokens > len(TEXTS)
    encoded = client.embeddings.create(model=model, input=TEXTS[0], encoding_format="base64")
    assert isinstance(encoded.data[0].embedding, str)
    assert_same(client.embeddings.create(model=model, input=TEXTS[0]).data[0].embedding, wanted[0])
    ids = [[2, 66, 70, 3], [2, 3]]
    reply = client.embeddings.create(model=model, input=ids)
    assert_same([each.embedding for each in reply.data], embeddings(url, model, ids))
    assert reply.usage.prompt_tokens == 6
    # Fields that the client does not know travel in extra_body.
    long = "water " * 5000
    reply = client.embeddings.create(model=model, input=long, extra_body={"truncate_prompt_tokens": -1})
    assert_same(reply.data[0].embedding, embeddings(url, model, long, truncate_prompt_tokens=-1)[0])
    raw = client.embeddings.with_raw_response.create(model=model, input="water")
    assert raw.request_id
    assert_same(raw.parse().data[0].embedding, embeddings(url, model, "water")[0])


def check_models(client: openai.OpenAI, model: str) -> None:
    assert [each.id for each in client.models.list()] == [model]
    found = client.models.retrieve(model)
    assert (found.id, found.object) == (model, "model") and found.created > 0


def check_errors(client: openai.OpenAI, model: str) -> None:
    """Each becomes the client's own exception, with the field that is wrong and the request's id."""
    error = raised(openai.NotFoundError, client, model="nobody", input="water")
    assert error.code == "model_not_found" and model in error.message and error.request_id
    error = raised(openai.BadRequestError, client, model=model, input="water " * 5000)
    assert (error.param, error.code) == ("input", "context_length_exceeded") and error.request_id
    assert "truncate_prompt_tokens" in error.message
    error = raised(openai.BadRequestError, client, model=model, input=["a"] * 2049)
    assert error.param == "input" and "2048" in error.message
    error = raised(openai.BadRequestError, client, model=model, input="water", dimensions=7)
    assert error.param == "dimensions"
    error = raised(openai.BadRequestError, client, model=model, input=[])
    assert error.type == "invalid_request_error"


def raised(kind: type[openai.APIStatusError], client: openai.OpenAI, **fields: object) -> openai.APIStatusError:
    try:
        client.embeddings.create(**fields)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} for {list(fields)}")


def check_retries(url: str, model: str) -> None:
    """The client waits as long as the reply says, comes again, and gives up where it is told not to."""
    wanted = embeddings(url, model, "water")
    refusals = [Refusal(429, {"Retry-After": "1"}), Refusal(503, {"Retry-After-Ms": "20"})]
    with faltering(url, *refusals) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
        begun = time.monotonic()
        assert_same(client.embeddings.create(model=model, input="water").data[0].embedding, wanted[0])
        assert time.monotonic() - begun >= 1.0
        assert server.answered == [429, 503, 200]
    with faltering(url, Refusal(429)) as server:
        raised(
            openai.RateLimitError,
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0),
            model=model,
            input="water",
        )
        assert server.answered == [429]


async def check_async(url: str, model: str) -> None:
    wanted = embeddings(url, model, TEXTS)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        replies = await asyncio.gather(*(client.embeddings.create(model=model, input=text) for text in TEXTS))
        assert_same([reply.data[0].embedding for reply in replies], wanted)
        assert [each.id async for each in client.models.list()] == [model]
        try:
            await client.embeddings.create(model="nobody", input="water")
        except openai.NotFoundError as error:
            assert error.code == "model_not_found"
        else:
            raise AssertionError("a model that is not served was found")
    with faltering(url, Refusal(503, {"Retry-After-Ms": "20"})) as server:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            reply = await client.embeddings.create(model=model, input=TEXTS[0])
        assert_same(reply.data[0].embedding, wanted[0])
        assert server.answered == [503, 200]


if __name__ == "__main__":
    run(main)
