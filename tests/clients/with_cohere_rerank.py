"""Cohere's client: reranking in both of its versions."""

import asyncio

import cohere

from tests.clients.plain import DOCUMENTS, QUERY, assert_ranked, relevance, run


def main(url: str, model: str) -> None:
    wanted = relevance(url, model, QUERY, DOCUMENTS)
    check_version_1(url, model, wanted)
    check_version_2(url, model, wanted)
    asyncio.run(check_async(url, model, wanted))


def check_version_1(url: str, model: str, wanted: list[float]) -> None:
    client = cohere.Client("none", base_url=url)
    reply = client.rerank(model=model, query=QUERY, documents=DOCUMENTS, return_documents=True)
    assert_ranked([(each.index, each.relevance_score) for each in reply.results], wanted)
    assert [each.document.text for each in reply.results] == [DOCUMENTS[each.index] for each in reply.results]
    objects = [{"text": text} for text in DOCUMENTS]
    reply = client.rerank(model=model, query=QUERY, documents=objects, rank_fields=["text"], top_n=2)
    assert_ranked([(each.index, each.relevance_score) for each in reply.results], wanted, top=2)


def check_version_2(url: str, model: str, wanted: list[float]) -> None:
    client = cohere.ClientV2("none", base_url=url)
    reply = client.rerank(model=model, query=QUERY, documents=DOCUMENTS)
    assert_ranked([(each.index, each.relevance_score) for each in reply.results], wanted)
    assert reply.id and reply.meta.api_version.version == "2"
    reply = client.rerank(model=model, query=QUERY, documents=DOCUMENTS, top_n=3, max_tokens_per_doc=4096, priority=1)
    assert_ranked([(each.index, each.relevance_score) for each in reply.results], wanted, top=3)
    try:
        client.rerank(model="nobody", query=QUERY, documents=DOCUMENTS)
    except cohere.NotFoundError as error:
        assert model in error.body["message"]
    else:
        raise AssertionError("a model that is not served was found")
    try:
        client.rerank(model=model, query=QUERY, documents=[])
    except cohere.BadRequestError as error:
        assert "documents" in error.body["message"]
    else:
        raise AssertionError("no documents were ranked")


async def check_async(url: str, model: str, wanted: list[float]) -> None:
    async with cohere.AsyncClientV2("none", base_url=url) as client:
        reply = await client.rerank(model=model, query=QUERY, documents=DOCUMENTS)
    assert_ranked([(each.index, each.relevance_score) for each in reply.results], wanted)


if __name__ == "__main__":
    run(main)
