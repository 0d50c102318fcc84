"""LiteLLM's reranking, by each of its providers that speaks to a server of one's own."""

import litellm

from tests.clients.plain import DOCUMENTS, QUERY, assert_ranked, relevance, run

PROVIDERS = [
    ("jina_ai", ""),  # POST /v1/rerank
    ("hosted_vllm", "/v1"),  # POST /v1/rerank
    ("hosted_vllm", ""),  # POST /rerank, vLLM's form
    ("infinity", "/v1"),  # POST /v1/rerank
    ("cohere", ""),  # POST /v2/rerank
    ("huggingface", ""),  # POST /rerank, TEI's form
]
"""Each with what stands behind the server's address in its `api_base`."""


def main(url: str, model: str) -> None:
    wanted = relevance(url, model, QUERY, DOCUMENTS)
    for provider, path in PROVIDERS:
        print("provider", provider, path)
        name = f"{provider}/{model}"
        called = {"model": name, "query": QUERY, "documents": DOCUMENTS, "api_base": url + path, "api_key": "none"}
        reply = litellm.rerank(**called, return_documents=False)
        assert_ranked([(each["index"], each["relevance_score"]) for each in reply.results], wanted)
        # Infinity's documents are strings, and Jina's, on the same route, are objects.
        if provider != "infinity":
            reply = litellm.rerank(**called, return_documents=True, top_n=len(DOCUMENTS))
            assert_ranked([(each["index"], each["relevance_score"]) for each in reply.results], wanted)
            texts = [each["document"]["text"] for each in reply.results]
            assert texts == [DOCUMENTS[each["index"]] for each in reply.results]
    reply = litellm.rerank(**{**called, "model": f"jina_ai/{model}"}, top_n=2)
    assert_ranked([(each["index"], each["relevance_score"]) for each in reply.results], wanted, top=2)


if __name__ == "__main__":
    run(main)
